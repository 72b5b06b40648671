"""Retrieval sets: queries, documents, and which documents answer which queries.

Layouts: a folder as BEIR has it (corpus.jsonl, queries.jsonl, qrels/SPLIT.tsv), SQuAD's JSON (each question looks for
its paragraph), a table of pairs (each first text looks for its second), and raw text (the first sentence of each text
looks for the rest).

Source: Thakur et al. 2021, "BEIR: A Heterogeneous Benchmark for Zero-shot Evaluation of Information Retrieval Models";
for the first sentence, the inverse cloze task of Lee et al. 2019, "Latent Retrieval for Weakly Supervised Open Domain
Question Answering", section 6.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from compressor.data import squad, table_files, tables
from compressor.data.corpus import stream
from compressor.data.corpus.sentence_pairs import sentences
from compressor.data.sources import SQUAD
from compressor.data.spec import HubDataset, RetrievalSpec
from compressor.errors import Problem, RecipeError, shown
from compressor.files import suffix

TEXT, DOCUMENT, NEGATIVE = range(3)
"""Sides of a text: a query or the first of a pair; a document or the second; one that does not belong to the first."""
CORPUS, QUERIES, QRELS = "corpus.jsonl", "queries.jsonl", "qrels"
_WHERE = "data.retrieval"


@dataclass(frozen=True)
class Text:
    """A query or a document.

    Attributes:
        text: The text.
        side: `TEXT` or `DOCUMENT`.
        name: Its name; of queries and documents each one set of names.
        relevant: Of a query, the names of the documents that answer it, with their relevance.
        group: What it belongs to: queries of one document are less evidence than as many of several.
    """

    text: str
    side: int
    name: str
    relevant: Mapping[str, float] = field(default_factory=dict)
    group: str = ""


def is_set(source: Path) -> bool:
    """Whether a source is a retrieval set by its form: a folder, or SQuAD's JSON."""
    return source.is_dir() or suffix(source) == SQUAD


def read(source: Path, place: str, split: str = "test") -> Iterator[tuple[str, Text]]:
    """Documents and queries of a set, and where they are.

    What `qrels` says of documents that are not in corpus.jsonl is left out, and so is a grade of 0.

    Args:
        source: A folder in BEIR's layout, or SQuAD's JSON.
        place: The recipe's key that names it.
        split: Name of the file in BEIR's `qrels`.

    Raises:
        RecipeError: It is not of its format.
    """
    yield from _beir(source, place, split) if source.is_dir() else _squad(source, place)


def taken(source: Path | HubDataset, spec: RetrievalSpec, work: Path) -> Iterator[tuple[str, Text]]:
    """Documents and queries that a recipe measures with; as many queries as it says, drawn with the seed 0.

    Args:
        source: Where they are.
        spec: The recipe's `data.retrieval`.
        work: Folder for intermediate files.

    Raises:
        RecipeError: It is not of its format, or no query is left.
    """
    if isinstance(source, Path) and is_set(source):
        found = list(read(source, _WHERE, spec.split))
    elif spec.text_pair is not None:
        found = list(_pairs(source, spec, work))
    else:
        found = list(_first_sentences(source, spec))
    queries = [index for index, (_, text) in enumerate(found) if text.side == TEXT]
    if not queries:
        what, hint = "has no query with a document", "texts need two sentences at least; tables a text_pair"
        raise RecipeError([Problem(_WHERE, what, hint, kind="missing")])
    if spec.max_queries is not None and len(queries) > spec.max_queries:
        kept = set(np.random.default_rng(0).permutation(queries)[: spec.max_queries].tolist())
        found = [entry for index, entry in enumerate(found) if entry[1].side != TEXT or index in kept]
    if spec.max_documents is not None:
        found = _fewer_documents(found, spec.max_documents)
    yield from found


def _fewer_documents(found: Sequence[tuple[str, Text]], most: int) -> list[tuple[str, Text]]:
    """At most so many documents: all that answer a query, and others that are drawn."""
    needed = {name for _, text in found for name in text.relevant}
    others = [i for i, (_, text) in enumerate(found) if text.side == DOCUMENT and text.name not in needed]
    kept = set(np.random.default_rng(0).permutation(others)[: max(0, most - len(needed))].tolist())
    return [
        entry
        for index, entry in enumerate(found)
        if entry[1].side != DOCUMENT or entry[1].name in needed or index in kept
    ]


def _squad(path: Path, place: str) -> Iterator[tuple[str, Text]]:
    names: dict[str, str] = {}
    for question in squad.read(path, place):
        if question.context not in names:
            names[question.context] = name = f"paragraph {len(names)}"
            yield name, Text(question.context, DOCUMENT, name, group=name)
        if question.answers:
            name = names[question.context]
            yield question.id, Text(question.question, TEXT, question.id, {name: 1.0}, group=name)


def _beir(folder: Path, place: str, split: str) -> Iterator[tuple[str, Text]]:
    for name in (CORPUS, QUERIES, f"{QRELS}/{split}.tsv"):
        if not (folder / name).is_file():
            hint = f"a folder has {CORPUS}, {QUERIES} and {QRELS}/{split}.tsv, as BEIR's have"
            raise RecipeError([Problem(place, f"{folder} has no {name}", hint, kind="missing")])
    documents = set()
    for at, row in table_files.rows(folder / CORPUS, ["_id", "text"], place):
        title, text = str(row.get("title") or "").strip(), str(row["text"] or "").strip()
        name = str(row["_id"])
        documents.add(name)
        if title or text:
            yield f"{CORPUS}, {at}", Text(f"{title} {text}".strip(), DOCUMENT, name, group=name)
    relevant: dict[str, dict[str, float]] = {}
    qrels = folder / QRELS / f"{split}.tsv"
    for at, row in table_files.rows(qrels, ["query-id", "corpus-id", "score"], place):
        name, document = str(row["query-id"]), str(row["corpus-id"])
        try:
            grade = float(row["score"])
        except ValueError:
            what = f"{qrels.name}, {at}: the score {shown(row['score'])} is not a number"
            raise RecipeError([Problem(place, what, kind="type")]) from None
        if grade > 0 and document in documents:
            relevant.setdefault(name, {})[document] = grade
    for at, row in table_files.rows(folder / QUERIES, ["_id", "text"], place):
        name = str(row["_id"])
        if name in relevant and str(row["text"] or "").strip():
            yield f"{QUERIES}, {at}", Text(str(row["text"]), TEXT, name, relevant[name], group=f"query {name}")


def _pairs(source: Path | HubDataset, spec: RetrievalSpec, work: Path) -> Iterator[tuple[str, Text]]:
    assert spec.text_pair is not None, "asked for where it is"
    columns = {"text": spec.text, "text_pair": spec.text_pair}
    names: dict[str, str] = {}
    for at, row in tables.read(source, columns, spec.where, work, _WHERE):
        found = {key: tables.required_text(row, key, column, _WHERE) for key, column in columns.items()}
        if wrong := next((value for value in found.values() if isinstance(value, Problem)), None):
            raise RecipeError([Problem(_WHERE, f"{at}: {wrong.what}", wrong.hint, kind=wrong.kind)])
        query, document = str(found["text"]), str(found["text_pair"])
        if document not in names:
            names[document] = f"document {len(names)}"
            yield at, Text(document, DOCUMENT, names[document], group=names[document])
        yield at, Text(query, TEXT, at, {names[document]: 1.0}, group=names[document])


def _first_sentences(source: Path | HubDataset, spec: RetrievalSpec) -> Iterator[tuple[str, Text]]:
    seen: set[str] = set()
    for number, text in enumerate(stream.texts_of(_WHERE, source, spec)):
        first, *rest = sentences(" ".join(text.split())) or [""]
        document = " ".join(rest)
        if not document or document in seen or first in seen:
            continue
        seen |= {document, first}
        name = f"text {number}"
        yield name, Text(document, DOCUMENT, name, group=name)
        yield name, Text(first, TEXT, name, {name: 1.0}, group=name)
