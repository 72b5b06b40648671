"""Names, labels and paths of strangers are shown as they are: no markup, no escape sequence, in any form of report."""

from __future__ import annotations

import io
import logging
from dataclasses import replace
from pathlib import Path

import pytest
from small_report import failing

from compressor.errors import Problem, RecipeError, printable
from compressor.pipeline.log_capture import quiet
from compressor.progress import Progress, console, echo
from compressor.report import html, junit, terminal
from compressor.report.markdown import markdown, prose
from compressor.report.model import Report

ESCAPES = "\x1b[31mred\x1b]0;title\x07 \x9b2J \r\u202ereversed \u2028 \ud800"
RICH = "[red]a[/] [/nothing] [link=x]b[/link] [bold :smile:"
NAMES = [ESCAPES, RICH, f"{RICH}{ESCAPES}"]
IDS = ["escapes", "markup", "both"]
"""Names of the tests: processes that share tests cannot send a lone surrogate."""


def clean(text: str) -> bool:
    return not any(character in text for character in "\x1b\x07\x9b\r\u202e\u2028\ud800")


def report(name: str) -> Report:
    stages = [replace(entry, name=name, details={**entry.details, "notes": [name]}) for entry in failing().stages]
    return replace(failing(), recipe=name, stages=stages, environment={name: name}, not_run=[name], command=None)


@pytest.mark.parametrize("name", NAMES, ids=IDS)
def test_no_form_of_a_report_has_escape_sequences(name: str):
    found = report(name)
    for text in (markdown(found), html.document(found, None), junit.document(found)):
        assert clean(text)
        text.encode()


@pytest.mark.parametrize("name", NAMES, ids=IDS)
def test_the_terminal_shows_names_as_they_are(name: str):
    stream = io.StringIO()
    shown = console(stream)
    terminal.print_table(report(name), shown)
    with Progress(shown) as progress, progress.step(name):
        progress.say(name)
    echo(name, stream)
    assert clean(stream.getvalue())
    assert name != RICH or RICH in stream.getvalue()


@pytest.mark.parametrize("name", NAMES, ids=IDS)
def test_bars_on_a_terminal_take_any_name(name: str):
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    stream = Terminal()
    with Progress(console(stream)) as progress, progress.step(name, 2) as step:
        step.update(1)
    assert "\x1b]0" not in stream.getvalue() and "\u202e" not in stream.getvalue()


@pytest.mark.parametrize("name", NAMES, ids=IDS)
def test_messages_and_the_log_have_no_escape_sequences(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for handler in logging.getLogger().handlers:  # pytest's own would send the record to the process that reports
        monkeypatch.setattr(handler, "level", logging.CRITICAL + 1)
    assert clean(str(RecipeError([Problem(name, name, name)], name)))
    with quiet(tmp_path / "run.log"):
        logging.getLogger("compressor").info("%s", name)
    assert clean((tmp_path / "run.log").read_text(encoding="utf-8"))


def test_what_is_printable_stays():
    for text in ("plain", "é 行 💥 שלום", "[red]", "a\\x1b"):
        assert printable(text) == text
    assert printable("a\nb\tc\x1b", keep="\n\t") == "a\nb\tc\\x1b"


@pytest.mark.parametrize(
    "name",
    [
        "**b** _i_ __b__ ~~s~~ `c`",
        "[a](http://x) ![i](y) [r][s] <http://x> https://x www.x.y",
        "# h", "- l", "1. l", "+ l", "> q", "---",
        "===", "[x]: http://y", "<img src=x onerror=y>", "&lt;script&gt;", "a | b \\| c", "```", "\\*a\\*",
    ],
)  # fmt: skip
def test_markdown_shows_names_as_they_are(name: str):
    """As GitHub does: what a parser of CommonMark makes of it is one paragraph with that text."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"linkify": False}).enable(["table", "strikethrough"])
    inline = parser.parse(prose(name))
    assert [token.type for token in inline] == ["paragraph_open", "inline", "paragraph_close"]
    assert {child.type for child in inline[1].children or []} <= {"text", "text_special"}
    assert "".join(child.content for child in inline[1].children or []) == name
    assert "://" not in prose(name) and "www." not in prose(name)
    rows = [line for line in markdown(report(name)).splitlines() if line.startswith("| ")]
    assert rows[1].count("|") == rows[0].count("|")
