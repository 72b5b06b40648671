"""Pages of reports in a real browser: no request, no error message, and everything is visible."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from browsers import installed
from small_report import failing, hostile, passing, run_folder, undecided

from compressor.report import comparison, comparison_html, html

HERE = Path(__file__).parent
DESK, PHONE = (1280, 900), (360, 740)
PAGES = ("passing", "failing", "undecided", "hostile", "compared")


@pytest.fixture(scope="module")
def browser() -> str:
    return installed()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page of each kind."""
    folder = tmp_path_factory.mktemp("pages")
    reports = {"passing": passing(), "failing": failing(), "undecided": undecided(), "hostile": hostile()}
    runs = [run_folder(folder / name, reports[name]) for name in ("passing", "failing")]
    texts = {name: html.document(report, "recipe: {name: small}\n") for name, report in reports.items()}
    texts["compared"] = comparison_html.document(comparison.compare(runs))
    assert set(texts) == set(PAGES)
    for name, text in texts.items():
        (folder / f"{name}.html").write_text(text, encoding="utf-8")
    return {name: folder / f"{name}.html" for name in texts}


def look(browser: str, folder: Path, looks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    job = json.dumps({"browser": browser, "profile": str(folder / "profile"), "looks": looks})
    result = subprocess.run(
        ["node", str(HERE / "browser.mjs")], input=job, capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, result.stderr
    found: list[dict[str, Any]] = json.loads(result.stdout)
    return found


@pytest.fixture(scope="module")
def seen(
    browser: str, pages: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str, int], dict[str, Any]]:
    """What the browser found, by page, scheme and width."""
    kinds = [
        (name, scheme, size) for name in pages for scheme, size in (("light", DESK), ("dark", DESK), ("light", PHONE))
    ]
    looks = [
        {"page": pages[name].as_uri(), "scheme": scheme, "width": size[0], "height": size[1]}
        for name, scheme, size in kinds
    ]
    found = look(browser, tmp_path_factory.mktemp("browser"), looks)
    return {(name, scheme, size[0]): entry for (name, scheme, size), entry in zip(kinds, found, strict=True)}


def test_a_page_makes_no_request_and_logs_no_error(seen, pages: dict[str, Path]):
    assert len(seen) == 3 * len(PAGES)
    for (name, *_), entry in seen.items():
        assert [url for url in entry["requests"] if not url.startswith("data:")] == [pages[name].as_uri()]
        assert entry["complaints"] == []


def test_everything_is_visible(seen):
    for (name, *_), entry in seen.items():
        for part in ("headings", "drawings", "rows"):
            assert entry[part] and all(found["visible"] for found in entry[part]), (name, part)
        if name != "compared":
            assert [found["visible"] for found in entry["verdict"]] == [True]
    assert seen["failing", "light", 1280]["verdict"][0]["text"] == "✗ FAIL"
    headings = [found["text"] for found in seen["passing", "light", 1280]["headings"]]
    assert headings == [
        *("small", "Stages", "accuracy against latency and size", "Gates", "Other scores"),
        *("Parity of the formats", "Matrices in float", "Loss", "Notes", "Environment", "How to reproduce"),
    ]


def test_dark_where_the_reader_has_it_dark(seen):
    light, dark = (seen["passing", scheme, 1280] for scheme in ("light", "dark"))
    assert light["ground"] == "rgb(255, 255, 255)" and dark["ground"] == "rgb(20, 23, 28)"
    assert not set(light["markers"]) & set(dark["markers"])


def test_on_a_phone_nothing_is_wider_than_the_screen_and_names_can_be_read(seen):
    for name in PAGES:
        entry = seen[name, "light", 360]
        assert entry["widest"] <= 360, name
        assert entry["smallest"] >= 9, name


def test_a_screen_reader_finds_drawings_by_name_and_tables_with_headers(seen):
    entry = seen["passing", "light", 1280]
    assert entry["names"] == len(entry["drawings"]) == 2 + 3 + 3
    for told in (
        'img "accuracy against latency baseline: accuracy 0.9000',
        'img "accuracy against its limit distill: accuracy is 97.80 %',
        'columnheader "verdict"',
        'rowheader "quantize"',
        'heading "How to reproduce" [level=2]',
    ):
        assert told in entry["tree"], told


def test_a_page_that_makes_a_request_and_fails_would_be_noticed(browser: str, tmp_path: Path):
    bad = tmp_path / "bad.html"
    bad.write_text("<!doctype html><title>x</title><img src='http://127.0.0.1:9/x.png'><script>oops()</script>")
    (entry,) = look(browser, tmp_path, [{"page": bad.as_uri(), "scheme": "light", "width": 360, "height": 740}])
    assert "http://127.0.0.1:9/x.png" in entry["requests"]
    assert any("oops" in complaint for complaint in entry["complaints"])
