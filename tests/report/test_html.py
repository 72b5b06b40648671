"""report.html: all of a run on one page that asks for nothing else, and takes nothing for HTML."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from pathlib import Path

import pytest
from lxml import html as reader
from small_report import HOSTILE, failing, hostile, passing, stage, undecided

from compressor.report import html

CSS = (Path(html.__file__).parent / "templates" / "style.css").read_text(encoding="utf-8")


def words_of(text: str) -> str:
    return " ".join(reader.fromstring(text).text_content().split())


def test_the_verdict_comes_first_and_says_what_failed_and_by_how_much():
    text = words_of(html.document(failing(), None))
    order = [
        text.index(told)
        for told in (
            "✗ FAIL",
            "1 of 3 gates fails, 1 is inconclusive. Not run after the failed gate: quantize, export.",
            "Missed by 3.00 %, and by 1.00 % even at the upper bound.",
            "There are too few observations for a bound",
            "Stages",
            "accuracy against latency and size",
            "Result of each gate",
            "Loss",
            "Environment",
            "How to reproduce",
        )
    ]
    assert order == sorted(order)


def test_everything_in_a_report_is_on_the_page():
    lock = "recipe: {name: small}\n"
    page = html.document(passing(), lock)
    text = words_of(page)
    for told in (
        *("✓ pass", "All 3 gates pass.", "2026-11-22 10:20 UTC", "f1", "Measured with onnxruntime on 1 thread"),
        *("torchscript", "row 7", "Compared on 300 validation rows"),
        "1 of 2 matrices stay in float",
        *("encoder.0.query", "Zeros do not change latency.", "of some kind"),
        "compress run small.yaml --set 'stages.distill.epochs=3' --locked",
        *(hashlib.sha256(lock.encode()).hexdigest(), "ab" * 32, lock.strip()),
    ):
        assert told in text, told
    root = reader.fromstring(page)
    assert len(root.xpath("//figure[contains(@class, 'plot')]/svg")) == 2
    assert len(root.xpath("//*[@id='gates']//svg")) == 3
    assert len(root.xpath("//*[@id='curves']//svg")) == 3, "the loss, and its two terms"


def test_an_empty_section_is_left_out():
    bare = passing(stages=[stage("baseline", "baseline", (0.9, 1.0, 1e6))], manifest_sha256=None, command=None)
    root = reader.fromstring(html.document(replace(bare, measure={}, started=None), None))
    assert root.xpath("//section/@id") == ["stages", "trade-off", "scores", "environment", "reproduce"]
    assert "There are no gates." in root.text_content()
    assert "compress run RECIPE --locked" in root.text_content()


@pytest.mark.parametrize("report", [passing(), failing(), undecided(), hostile()], ids=lambda run: run.verdict)
def test_no_word_becomes_an_element_and_nothing_is_loaded(report):
    page = html.document(report, f"recipe: {HOSTILE}")
    assert "<script" not in page.lower()
    root = reader.fromstring(page)
    tags = {node.tag for node in root.iter() if isinstance(node.tag, str)}
    assert not tags & {
        "script",
        "img",
        "iframe",
        "object",
        "embed",
        "form",
        "a",
        "base",
        "image",
        "use",
        "foreignobject",
    }
    for node in root.iter():
        for name, value in node.attrib.items():
            assert not name.startswith("on") and name not in ("src", "srcset", "xlink:href", "style"), name
            assert name != "href" or value == "data:,"
    (style,) = root.xpath("//style/text()")
    assert CSS in style and "url(" not in style and "@import" not in style
    (policy,) = root.xpath("//meta[@http-equiv='Content-Security-Policy']/@content")
    assert "default-src 'none'" in policy


def test_hostile_words_are_shown_as_they_are():
    root = reader.fromstring(html.document(hostile(), None))
    shown = HOSTILE.replace("\x07", r"\x07")
    assert root.xpath("//*[@id='stages']//tbody/tr[1]/th")[0].text_content() == f"baseline {shown}"
    assert shown in root.xpath("//*[@id='environment']//dd")[0].text_content()


def test_every_drawing_has_a_name_and_says_in_words_what_it_shows():
    root = reader.fromstring(html.document(passing(), None))
    identifiers = root.xpath("//@id")
    assert len(identifiers) == len(set(identifiers))
    for drawing in root.xpath("//svg"):
        title, described = drawing.get("aria-labelledby").split()
        assert root.get_element_by_id(title).text_content()
        assert re.search(r"\d", root.get_element_by_id(described).text_content())
    told = root.get_element_by_id("trade-off-latency-desc").text_content()
    assert told.startswith(
        "baseline: accuracy 0.9000 (0.8800 to 0.9200), latency_p50_ms 16.00 ms (14.40 ms to 17.60 ms)"
    )
    assert told.count("on the Pareto front") == 3, "each costs less and is worse"


def test_tables_have_headers_and_captions():
    root = reader.fromstring(html.document(passing(), None))
    for table in root.xpath("//table"):
        assert table.findtext("caption")
        assert {cell.get("scope") for cell in table.iter("th")} == {"col", "row"}
        assert table.getparent().get("tabindex") == "0", "it can be scrolled with the keyboard"


def colours(block: str) -> dict[str, str]:
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block))


def luminance(colour: str) -> float:
    """Source: WCAG 2.2, relative luminance."""
    parts = [int(colour[start : start + 2], 16) / 255 for start in (1, 3, 5)]
    red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", [0, 1], ids=["light", "dark"])
def test_text_can_be_read_on_its_ground(scheme: int):
    found = colours(re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)[scheme])
    verdicts = ("pass", "fail", "inconclusive")
    pairs = [(text, ground) for text in ("text", "quiet") for ground in ("ground", "raised")]
    pairs += [(name, "ground") for name in found if name.startswith("series") or name in verdicts]
    pairs += [(text, f"{name}-ground") for name in verdicts for text in ("text", name)]
    for text, ground in pairs:
        light, dark = sorted((luminance(found[text]), luminance(found[ground])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (text, ground)
