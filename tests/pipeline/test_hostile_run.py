"""One run whose every name is a stranger's: paths, columns, labels and stages, through all that shows or reads them."""

from __future__ import annotations

import csv
import html
import json
import re
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import pytest
import yaml
from broken import copy
from conftest import sentences, without_saturation
from running import Finished, compress

from compressor.errors import printable
from compressor.models.checkpoint import Checkpoint

MARKUP = "[red]a[/] [/nothing] <script>alert(1)</script> </td> ]]> a|b `c` ${x} {{ 7*7 }} %s"
ESCAPES = "\x1b[31m\x1b]0;t\x07 \r \u202e"
LABELS = [f"{MARKUP}\n# good", f"{ESCAPES} **bad** & 'q' \"d\""]
TEXT, LABEL = f"text {MARKUP}\nnext", f"label {ESCAPES}"
STAGES = [f"fine {MARKUP}", f"[/] {ESCAPES}", "</system-out> <!-- ex`port`"]
FOLDER, MODEL, ARTIFACTS = "rün [x]* 'q' \"d\" <i> `t`", "modèl [1] {2}", 'art [x]* "q" é <i> %s'
RECIPE = "récipe [1].yaml"


class Run(NamedTuple):
    """A run and what its commands said."""

    folder: Path
    said: dict[str, Finished]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> Run:
    folder = tmp_path_factory.mktemp("hostile") / FOLDER
    folder.mkdir()
    copy(encoder, folder / MODEL)
    for name, seed in (("train", 1), ("dev", 2)):
        with (folder / f"{name} [ü].csv").open("w", newline="", encoding="utf-8") as file:
            rows = ((text, LABELS[label == "negative"]) for text, label in sentences(120, seed))
            csv.writer(file).writerows([(TEXT, LABEL), *rows])
    train = {"max_steps": 4, "batch_size": 16, "learning_rate": 3e-3, "max_sequence_length": 24}
    stages: list[dict[str, Any]] = [
        {"stage": "finetune", **train, "gates": {"accuracy": {"min": 0.01}}},
        {"stage": "quantize"},
        {"stage": "export", "targets": ["onnx", "torchscript"], "tokenizer": "baked", "size_only": True},
    ]
    recipe = {
        "schema_version": 1,
        "name": "a.b-c_1",
        "task": "text-classification",
        "model": MODEL,
        "data": {"train": "train [ü].csv", "validation": "dev [ü].csv", "text": TEXT, "label": LABEL},
        "measure": {"sequence_length": 16, "runs": 60},
        "stages": without_saturation([{**stage, "name": name} for stage, name in zip(stages, STAGES, strict=True)]),
    }
    (folder / RECIPE).write_text(yaml.safe_dump(recipe, allow_unicode=True), encoding="utf-8")
    out = folder / ARTIFACTS / "a.b-c_1"
    commands = {
        "validate": ["validate", RECIPE],
        "run": ["run", RECIPE, "--artifacts", ARTIFACTS],
        "plan": ["plan", RECIPE, "--artifacts", ARTIFACTS],
        "verify": ["verify", out],
        "compare": ["compare", out, out],
        "report": ["report", out],
        "inspect": ["inspect", out / "model"],
    }
    said = {}
    for name, words in commands.items():
        said[name] = compress(*words, cwd=folder)
        assert said[name].returncode == 0, said[name].stdout + said[name].stderr
    return Run(out, said)


def clean(text: str) -> bool:
    """Whether a text has no character that changes how a terminal or a page shows others."""
    return all(character.isprintable() or character == "\n" for character in text)


def test_no_command_lets_an_escape_sequence_through(run: Run):
    for name, result in run.said.items():
        assert clean(result.stdout), name
    for name in ("validate", "plan", "run"):
        flat = " ".join(run.said[name].stdout.split())
        assert printable(STAGES[0])[:20] in flat, name


def test_every_file_that_people_read_is_clean(run: Run):
    for path in (*run.folder.glob("report.*"), run.folder / "junit.xml", *run.folder.glob("model/*.md")):
        assert clean(path.read_text(encoding="utf-8")), path.name


def test_a_page_has_no_tag_and_shows_every_name(run: Run):
    class Page(HTMLParser):
        tags: ClassVar[set[str]] = set()
        shown = ""

        def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
            self.tags.add(tag)
            assert not [name for name, _ in attrs if name.startswith("on")]

        def handle_data(self, data: str) -> None:
            self.shown += data

    page = Page()
    page.feed((run.folder / "report.html").read_text(encoding="utf-8"))
    assert "script" not in page.tags and "i" not in page.tags
    for name in STAGES:
        assert printable(name) in page.shown


def test_markdown_and_the_model_card_have_names_as_text(run: Run):
    from markdown_it import MarkdownIt

    for path in (run.folder / "report.md", run.folder / "model/README.md"):
        text = path.read_text(encoding="utf-8")
        body = text.split("\n---\n", 1)[1] if text.startswith("---\n") else text
        shown = MarkdownIt("commonmark").enable("table").render(body)
        assert "<script" not in shown.replace("&lt;script", ""), path.name
        assert printable(STAGES[0]) in html.unescape(re.sub(r"<[^>]+>", "", shown)), path.name
    head = yaml.safe_load((run.folder / "model/README.md").read_text(encoding="utf-8").split("\n---\n", 1)[0])
    assert isinstance(head, dict)


def test_junit_is_xml_with_every_name(run: Run):
    cases = ElementTree.parse(run.folder / "junit.xml").iter()
    names = " ".join(value for case in cases for value in case.attrib.values())
    for name in STAGES:
        assert printable(name) in names


def test_programs_get_names_as_they_are(run: Run):
    report = json.loads((run.folder / "report.json").read_text(encoding="utf-8"))
    assert [entry["name"] for entry in report["stages"][1:]] == STAGES
    assert sorted(Checkpoint(run.folder / "model").labels) == sorted(LABELS)
    assert json.loads((run.folder / "model/manifest.json").read_text(encoding="utf-8"))["recipe"]
