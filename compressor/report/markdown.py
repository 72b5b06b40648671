"""The report as Markdown: a comment on a pull request, a step's summary, and the model's card."""

from __future__ import annotations

from collections.abc import Sequence

from compressor.report import sentences as words
from compressor.report import tables
from compressor.report.comparison import Group, table, title
from compressor.report.model import Report
from compressor.report.numbers import SIGNS
from compressor.report.tables import Table

MOST_BYTES = 65_000
"""GitHub takes comments of 65,536 characters; a few are left for what is put around the report."""

_LONGEST_CELL, _LONGEST_LINE = 200, 2000
"""In characters."""

_CUT = "*Cut to fit a comment: the whole of it is in report.html and report.json.*"


def markdown(report: Report) -> str:
    """The report, the most important first; what does not fit a comment is cut from the end."""
    blocks = [
        [f"# {report.recipe}: {SIGNS[report.verdict]}"],
        [_prose(words.headline(report), words.result(report))],
        [f"- {words.badge(entry.result.verdict)}: {_prose(words.told(entry))}" for entry in words.open_gates(report)],
        _table(tables.stages(report)),
        _table(tables.gates(report)),
        *_parity(report),
        _table(tables.other_scores(report)),
        *_kept_in_float(report),
        *([_prose(note)] for note in tables.notes(report)),
        _table(tables.curves(report)),
        [tables.BOUNDS],
        [_prose(words.conditions(report), f"{report.seconds:.0f} s.", f"{_environment(report)}.")],
    ]
    return _fitted([line for block in blocks if block for line in (*block, "")])


def comparison(groups: Sequence[Group]) -> str:
    """Runs side by side, a table for each task."""
    blocks = [
        block
        for group in groups
        for block in (
            [f"### {_prose(title(group))}"],
            _table(table(group)),
            *([_prose(text)] for text in group.caveats),
        )
    ]
    return "\n".join(line for block in blocks for line in (*block, ""))


def _environment(report: Report) -> str:
    return ", ".join(f"{name} {value}" for name, value in report.environment.items())


def _parity(report: Report) -> list[list[str]]:
    found = tables.parity(report)
    return [] if found is None else [_table(found[0]), [_prose(found[1])]]


def _kept_in_float(report: Report) -> list[list[str]]:
    found = [entry for stage in report.stages if (entry := tables.kept_in_float(stage)) is not None]
    return [block for told, table in found for block in ([_prose(told)], _table(table))]


def _table(table: Table | None) -> list[str]:
    if table is None:
        return []
    rows = ["| " + " | ".join(map(_cell, row)) + " |" for row in (table.header, *table.rows)]
    return [rows[0], "|" + "---|" * len(table.header), *rows[1:]]


def _cell(text: str) -> str:
    """Text that stays in its column."""
    return _inline(text, _LONGEST_CELL).replace("|", "\\|")


def _prose(*sentences: str) -> str:
    """A line of text."""
    return _inline(" ".join(filter(None, sentences)), _LONGEST_LINE)


def _inline(text: str, most: int) -> str:
    """Text in one line that is no HTML, and that no name in it can make longer than the report."""
    line = " ".join(text.split())
    shown = line if len(line) <= most else line[: most - 1] + "…"
    return shown.replace("&", "&amp;").replace("<", "&lt;")


def _fitted(lines: Sequence[str]) -> str:
    """The lines that fit; bytes are counted, since that is the strictest way to count characters."""
    text = "\n".join(lines)
    if len(text.encode()) <= MOST_BYTES:
        return text
    room = MOST_BYTES - len(_CUT.encode()) - len("\n\n\n")
    kept: list[str] = []
    for line in lines:
        room -= len(line.encode()) + 1
        if room < 0:
            break
        kept.append(line)
    return "\n".join([*kept, "", _CUT, ""])
