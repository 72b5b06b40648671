"""The report as Markdown: for pull request comments, step summaries and the model card."""

from __future__ import annotations

from collections.abc import Sequence

from compressor.gates.judge import StageGate
from compressor.report import comparison_table, sentences, tables
from compressor.report.comparison import Group
from compressor.report.model import Report
from compressor.report.numbers import SIGNS
from compressor.report.tables import Table

MOST_BYTES = 65_000
"""GitHub allows 65,536 characters in a comment; the rest is for text around the report."""

_LONGEST_CELL, _LONGEST_LINE = 200, 2000
"""In characters."""

_CUT = "*Cut to fit a comment; report.html and report.json hold the full report.*"


def markdown(report: Report) -> str:
    """The report, the most important first, cut at the end if it does not fit a comment."""
    blocks = [
        [f"# {report.recipe}: {SIGNS[report.verdict]}"],
        [_prose(sentences.headline(report), sentences.result(report))],
        [_open_gate(entry) for entry in sentences.open_gates(report)],
        _table(tables.stages(report)),
        _table(tables.gates(report)),
        *_parity(report),
        _table(tables.other_scores(report)),
        *_kept_in_float(report),
        *([_prose(note)] for note in tables.notes(report)),
        _table(tables.curves(report)),
        [tables.BOUNDS],
        [_prose(sentences.conditions(report), f"{report.seconds:.0f} s.", f"{_environment(report)}.")],
    ]
    return _fitted([line for block in blocks if block for line in (*block, "")])


def _open_gate(entry: StageGate) -> str:
    return f"- {sentences.badge(entry.result.verdict)}: {_prose(sentences.gate(entry))}"


def comparison(groups: Sequence[Group]) -> str:
    """Runs side by side, a table for each task."""
    blocks = [
        block
        for group in groups
        for block in (
            [f"### {_prose(comparison_table.title(group))}"],
            _table(comparison_table.table(group)),
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
    return [block for summary, table in found for block in ([_prose(summary)], _table(table))]


def _table(table: Table | None) -> list[str]:
    if table is None:
        return []
    rows = ["| " + " | ".join(map(_cell, row)) + " |" for row in (table.header, *table.rows)]
    return [rows[0], "|" + "---|" * len(table.header), *rows[1:]]


def _cell(text: str) -> str:
    """Text that cannot end its cell."""
    return _inline(text, _LONGEST_CELL).replace("|", "\\|")


def _prose(*texts: str) -> str:
    """A line of text."""
    return _inline(" ".join(filter(None, texts)), _LONGEST_LINE)


def _inline(text: str, most: int) -> str:
    """Text in one line, of limited length, that cannot be read as HTML."""
    line = " ".join(text.split())
    shown = line if len(line) <= most else line[: most - 1] + "…"
    return shown.replace("&", "&amp;").replace("<", "&lt;")


def _fitted(lines: Sequence[str]) -> str:
    """The lines that fit, counted in bytes: a character has at least one."""
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
