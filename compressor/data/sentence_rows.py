"""Rows of sentence encoders: a text each, with what says which texts belong together.

There are four kinds of sources: raw text; pairs with a score; pairs, maybe with a text that does not belong to the
first (a triplet); and retrieval sets, of queries and documents.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressor.data import retrieval, tables
from compressor.data.columns import values
from compressor.data.corpus import stream
from compressor.data.queries import QUERY
from compressor.data.renames import Renames
from compressor.data.retrieval import DOCUMENT, NEGATIVE, TEXT
from compressor.data.spec import DataSpec, HubDataset
from compressor.data.table_files import Row
from compressor.errors import Problem, RecipeError

if TYPE_CHECKING:
    from datasets import Dataset, Features

SIDE, ITEM, RELEVANT, GRADES, SCORED = "side", "item", "relevant", "grades", "scored"
"""Columns beside `text` and `query`: whether a row is a query or a first text (0), a document or a second one (1), or
does not belong to the first (2); its name; the names of what belongs to it, and how well; whether that is a score."""


def _features(paired: bool) -> Features:
    from datasets import Features, List, Value

    found = {"text": Value("string"), SIDE: Value("int8"), ITEM: Value("string"), SCORED: Value("bool")}
    found |= {RELEVANT: List(Value("string")), GRADES: List(Value("float32"))}
    return Features({**found, QUERY: Value("string")} if paired else found)


def _row(
    text: str, side: int = TEXT, item: str = "", relevant: Mapping[str, float] | None = None, scored: bool = False
) -> dict[str, Any]:
    given = relevant or {}
    return {"text": text, SIDE: side, ITEM: item, RELEVANT: list(given), GRADES: list(given.values()), SCORED: scored}


def read(
    source: Path | HubDataset, columns: Mapping[str, str], spec: DataSpec, work: Path, place: str, rename: Renames
) -> Dataset:
    """The texts of a table of pairs or of a retrieval set.

    Args:
        source: Where they are.
        columns: From `text`, `text_pair`, maybe `negative` and `score` to the source's columns.
        spec: The recipe's `data`.
        work: Folder for intermediate files.
        place: The recipe's key, for errors.
        rename: Of no use here.

    Raises:
        RecipeError: They cannot be read, a value is missing, or a score is no number.
    """
    if isinstance(source, Path) and retrieval.is_set(source):
        tables.refuse_columns(source, spec)
        return _converted(_of_set(source, place), work / f"{place}.arrow", source.name)
    name = tables.name_of(source)
    found = (
        (at, text)
        for number, (at, row) in enumerate(tables.read(source, columns, spec.where, work, place))
        for text in _of_pair(row, columns, place, f"{place}/{number}", at, name)
    )
    return _converted(found, work / f"{place}.arrow", name)


def _of_pair(
    row: Mapping[str, Any], columns: Mapping[str, str], place: str, query: str, at: str, name: str
) -> Iterator[dict[str, Any]]:
    """The texts of a row of a table."""
    found = {key: tables.required_text(row, key, column, place) for key, column in columns.items()}
    if wrong := next((value for value in found.values() if isinstance(value, Problem)), None):
        raise RecipeError([Problem(wrong.where, f"{name}, {at}: {wrong.what}", wrong.hint, kind=wrong.kind)])
    texts = {key: str(value) for key, value in found.items()}
    grade, scored = 1.0, "score" in texts
    if scored:
        try:
            grade = float(texts["score"])
        except ValueError:
            grade = math.nan
        if not math.isfinite(grade):
            what = f"{name}, {at}: the score {texts['score']!r} is not a number"
            raise RecipeError([Problem("data.score", what, "name the column with the scores", kind="type")])
    yield {**_row(texts["text"], TEXT, "", {query: grade}, scored), QUERY: query}
    yield {**_row(texts["text_pair"], DOCUMENT, query, scored=scored), QUERY: query}
    if "negative" in texts:
        yield {**_row(texts["negative"], NEGATIVE, f"{query}/negative"), QUERY: query}


def _of_set(source: Path, place: str) -> Iterator[Row]:
    """The texts of a retrieval set; to learn from, a query is there once for each document that answers it."""
    trains = place == "data.train"
    for at, text in retrieval.read(source, place, "train" if trains else "test"):
        if not trains or text.side == DOCUMENT:
            yield at, _searched(text)
        else:
            for name, grade in text.relevant.items():
                yield at, {**_row(text.text, TEXT, "", {name: grade}), QUERY: name}


def _searched(text: retrieval.Text) -> dict[str, Any]:
    """A query or a document of a set that is searched."""
    item = text.name if text.side == DOCUMENT else ""
    return {**_row(text.text, text.side, item, text.relevant), QUERY: text.group}


def read_texts(source: Path | HubDataset, spec: DataSpec, work: Path) -> Dataset:
    """The texts of `data.corpus`, each paragraph of which is a row; read as a stream into a file."""
    corpus = spec.corpus_spec
    assert corpus is not None, "a corpus that was found is in the recipe"
    found = (
        ("", _row(paragraph))
        for text in stream.texts(source, corpus)
        for paragraph in stream.paragraphs(text, corpus.separator)
    )
    return _converted(found, work / "data.corpus.arrow", "data.corpus", paired=False)


def read_retrieval(source: Path | HubDataset, spec: DataSpec, work: Path) -> Dataset:
    """The texts of `data.retrieval`."""
    wanted = spec.retrieval_spec
    assert wanted is not None, "a retrieval set that was found is in the recipe"
    found = ((at, _searched(text)) for at, text in retrieval.taken(source, wanted, work))
    return _converted(found, work / "data.retrieval.arrow", "data.retrieval")


def _converted(rows: Iterable[Row], path: Path, name: str, paired: bool = True) -> Dataset:
    return tables.converted(rows, dict, _features(paired), name, path)


def identities(rows: Dataset) -> Iterable[tuple[str, ...]]:
    """The text of each row."""
    return ((text,) for text in values(rows, "text"))


def groups(rows: Dataset) -> Iterable[str]:
    """What each row belongs to: a pair, or a document with its queries."""
    return values(rows, QUERY if QUERY in rows.column_names else "text")


def labels(train: Dataset, validation: Dataset, known: Dataset, new_head: bool) -> tuple[list[str], list[str]]:
    """No labels, and notes on what the texts are.

    Raises:
        RecipeError: There is nothing to score: all scores are equal, or nothing is relevant.
    """
    rows = list(zip(*(values(validation, name) for name in (SIDE, RELEVANT, GRADES, SCORED)), strict=True))
    given = [grade for _, _, grades, scored in rows if scored for grade in grades]
    if given and len(set(given)) == 1:
        what = f"all pairs of the validation rows have the score {given[0]:g}"
        hint = "a correlation needs different numbers; check that this is the right column"
        raise RecipeError([Problem("data.score", what, hint, kind="value")])
    queries = sum(bool(relevant) and not scored for _, relevant, _, scored in rows)
    notes = []
    if given:
        notes.append(f"{len(given)} validation pairs have a score")
    if queries:
        documents = sum(side == DOCUMENT and not scored for side, _, _, scored in rows)
        notes.append(f"{queries} validation queries look for their documents among {documents}")
    if not notes:
        what = "there is nothing to score: no pair has a score, and no query has a document"
        hint = "give data.validation with text_pair, or data.retrieval"
        raise RecipeError([Problem("data.validation", what, hint, kind="missing")])
    return [], notes
