"""Raw text, read as a stream: memory stays flat whatever the size of the corpus."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from compressor.data import hub, table_files, tables
from compressor.data.cells import NotText, text_of
from compressor.data.lines import lines
from compressor.data.sources import TEXT
from compressor.data.spec import HubDataset, TextSpec
from compressor.data.table_files import Row
from compressor.errors import Problem, RecipeError
from compressor.files import suffix

PLACE = "data.corpus"
_PARTS = ("where", "what", "hint")


def texts(source: Path | HubDataset, spec: TextSpec) -> Iterator[str]:
    """The texts of a corpus in its order, one at a time, without the blank ones and the spaces around them.

    Args:
        source: A .txt file, each of whose lines is a text, a .csv, .tsv, .jsonl or .parquet file, or a hub data set.
        spec: Which column, which rows, and which share of the texts.

    Raises:
        RecipeError: The source is not of its format, has no such column, or no row matches `where`.
        CompressError: The hub does not answer.
    """
    name = source.hub if isinstance(source, HubDataset) else source.name
    for place, value in _values(source, spec):
        text = _checked(value, f"{name}, {place}", spec.text)
        if text and _hash_share("keep", text) < spec.fraction:
            yield text


def counted(source: Path | HubDataset, spec: TextSpec) -> Iterator[str]:
    """The texts whose tokens a stage counts: as `texts` yields them; errors name the stage's own keys."""
    return texts_of("vocabulary.corpus", source, spec)


def texts_of(place: str, source: Path | HubDataset, spec: TextSpec) -> Iterator[str]:
    """The texts of another key than `data.corpus`: as `texts` yields them; errors name that key.

    Args:
        place: The key.
        source: See `texts`.
        spec: See `texts`.
    """
    try:
        yield from texts(source, spec)
    except RecipeError as error:
        renamed = [
            replace(problem, **{part: getattr(problem, part).replace(PLACE, place) for part in _PARTS})
            for problem in error.problems
        ]
        raise RecipeError(renamed) from None


def paragraphs(text: str, separator: str) -> list[str]:
    """The parts of a text between the separators, without blank ones; all of it if the separator is empty."""
    parts = text.split(separator) if separator else [text]
    return [part for part in map(str.strip, parts) if part]


def held_out(text: str, fraction: float, salt: str = "held out") -> bool:
    """Whether a text is held out: depends on it alone, so equal texts are never on both sides; apart for each salt."""
    return _hash_share(salt, text) < fraction


def _values(source: Path | HubDataset, spec: TextSpec) -> Iterator[tuple[str, Any]]:
    """Where a text is, and the text, of the rows that match `where`."""
    if isinstance(source, Path) and suffix(source) == TEXT:
        if spec.where:
            what = f"{source.name} is a text file, it has no columns"
            raise RecipeError([Problem(f"{PLACE}.where", what, "drop data.corpus.where", kind="conflict")])
        yield from ((f"line {number}", line) for number, line in lines(source, PLACE, TEXT[1:]))
        return
    wanted = list(dict.fromkeys([spec.text, *spec.where]))
    found = _streamed(source, wanted) if isinstance(source, HubDataset) else table_files.rows(source, wanted, PLACE)
    for place, row in tables.matching(found, spec.where, tables.name_of(source), f"{PLACE}.where"):
        if spec.text not in row:
            table_files.require([spec.text], list(row), f"{tables.name_of(source)}, {place}", PLACE)
        yield place, row[spec.text]


def _streamed(source: HubDataset, wanted: list[str]) -> Iterator[Row]:
    """Rows of the hub; a column's name is checked in the first, before the corpus is read."""
    for number, row in enumerate(hub.stream(source, PLACE), 1):
        if number == 1:
            table_files.require(wanted, list(row), source.hub, PLACE)
        yield f"row {number}", row


def _checked(value: Any, place: str, column: str) -> str:
    """A cell as text, without the spaces around it; nothing for None."""
    try:
        return (text_of(value) or "").strip()
    except NotText as error:
        what, hint = f"{place}: column {column!r} {error.what}", "data.corpus.text names a column of texts"
        raise RecipeError([Problem(PLACE, what, hint, kind=error.kind)]) from None


def _hash_share(salt: str, text: str) -> float:
    """A number in [0, 1) that depends on the text alone, independent for each salt and of the split of rows."""
    digest = hashlib.sha256(f"corpus\x1f{salt}\x1f{text}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
