"""The report as Markdown: for pull request comments, step summaries and the model card."""

from __future__ import annotations

import re
from collections.abc import Sequence

from compressor.errors import printable
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

_MARKUP = re.compile(
    r"[&<>`*~\\|]"  # HTML, code, emphasis, escapes, cells
    r"|(?<![^\W_])_|_(?![^\W_])"  # emphasis; between letters, as in latency_p50_ms, it is none
    r"|\](?=[(\[])|(?<=:)/(?=/)|(?<=www)\.",  # links, addresses
    re.IGNORECASE,
)
"""What Markdown, as GitHub reads it, may take for markup."""
_FIRST = re.compile(r"^(?:[#+=\[-]|[0-9]+(?=[.)](?:\s|$)))")
"""What it may take for markup at the beginning of a line: headings, lists, rules, definitions of links."""

_CUT = "*Cut to fit a comment; report.html and report.json hold the full report.*"


def markdown(report: Report) -> str:
    """The report, the most important first, cut at the end if it does not fit a comment."""
    blocks = [
        [f"# {prose(report.recipe)}: {SIGNS[report.verdict]}"],
        [prose(sentences.headline(report), sentences.result(report))],
        [_open_gate(entry) for entry in sentences.open_gates(report)],
        _table(tables.stages(report)),
        _table(tables.gates(report)),
        *_explained(tables.formats(report)),
        *_explained(tables.devices(report)),
        *_explained(tables.parity(report)),
        _table(tables.other_scores(report)),
        *_explained(tables.smaller_vectors(report)),
        *_explained(tables.thresholds(report)),
        *_kept_in_float(report),
        *([prose(note)] for note in tables.notes(report)),
        _table(tables.curves(report)),
        [tables.BOUNDS],
        [prose(sentences.conditions(report), f"{report.seconds:.0f} s.", f"{_environment(report)}.")],
    ]
    return _fitted([line for block in blocks if block for line in (*block, "")])


def _open_gate(entry: StageGate) -> str:
    return f"- {sentences.badge(entry.result.verdict)}: {prose(sentences.gate(entry))}"


def comparison(groups: Sequence[Group]) -> str:
    """Runs side by side, a table for each task."""
    blocks = [
        block
        for group in groups
        for block in (
            [f"### {prose(comparison_table.title(group))}"],
            _table(comparison_table.table(group)),
            *([prose(text)] for text in group.caveats),
        )
    ]
    return "\n".join(line for block in blocks for line in (*block, ""))


def _environment(report: Report) -> str:
    return ", ".join(f"{name} {value}" for name, value in report.environment.items())


def _explained(found: tuple[Table, str] | None) -> list[list[str]]:
    return [] if found is None else [_table(found[0]), [prose(found[1])]]


def _kept_in_float(report: Report) -> list[list[str]]:
    found = [entry for stage in report.stages if (entry := tables.kept_in_float(stage)) is not None]
    return [block for summary, table in found for block in ([prose(summary)], _table(table))]


def _table(table: Table | None) -> list[str]:
    if table is None:
        return []
    rows = ["| " + " | ".join(map(_cell, row)) + " |" for row in (table.header, *table.rows)]
    return [rows[0], "|" + "---|" * len(table.header), *rows[1:]]


def _cell(text: str) -> str:
    """Text that cannot end its cell."""
    return _inline(text, _LONGEST_CELL)


def prose(*texts: str) -> str:
    """A line of text; names, labels and paths in it are no markup."""
    return _FIRST.sub(_entities, _inline(" ".join(filter(None, texts)), _LONGEST_LINE))


def _inline(text: str, most: int) -> str:
    """Text in one line, of limited length, that is shown as it is: entities are never read as markup."""
    line = printable(" ".join(text.split()))
    shown = line if len(line) <= most else line[: most - 1] + "…"
    return _MARKUP.sub(_entities, shown)


def _entities(found: re.Match[str]) -> str:
    return "".join(f"&#{ord(character)};" for character in found[0])


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
