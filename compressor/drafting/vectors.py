"""What a sentence encoder learns from rows, and what they are scored with: raw text, pairs, and retrieval sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from compressor.data.corpus.sentence_pairs import sentences
from compressor.data.lines import quoted
from compressor.drafting import columns, labelled
from compressor.drafting.guess import ASSUMED, Guess, Heads, refused
from compressor.drafting.rows import JUDGING, PLACE, Sample
from compressor.tasks import sentence_similarity

_NEGATIVES = ("negative", "neg", "hardnegative", "negativetext")
_LEAST_QUERIES = 10
"""Texts of two sentences that a search among them needs."""
_MOST_QUERIES, _MOST_DOCUMENTS = 2000, 10_000
"""Queries and documents of a search in raw text, about: more take time and memory, and tell little more."""


@dataclass(frozen=True)
class Vectors:
    """What a draft makes of rows.

    Attributes:
        guess: The texts, and the columns of pairs.
        files: Keys of `data` that name files, with the files or with mappings that have them as `source`.
        judged: How many queries or pairs are scored; 0 for a share of the rows.
    """

    guess: Guess
    files: Mapping[str, Any]
    judged: int = 0


def wanted(heads: Heads) -> bool:
    """Whether a checkpoint gives vectors."""
    return sentence_similarity.NAME in heads.tasks


def draft(rows: Sample, heads: Heads, named: Callable[[Path], str]) -> Vectors | None:
    """The texts of some rows, and what they are scored with.

    Args:
        rows: The beginning of the rows.
        heads: What the checkpoint can do.
        named: How the recipe names a file.

    Returns:
        None of rows of another task: tagged words, and single texts with labels.

    Raises:
        RecipeError: There is nothing to score vectors with.
    """
    if rows.form == "beir":
        return _of_set(rows, named)
    if rows.form == "squad":
        texts = [row[name] for row in rows.rows for name in ("question", "context")]
        found = Vectors(_guess({}, texts, "each question is to find its paragraph"), {"train": named(rows.train)})
        return _with_validation(found, rows, named)
    if rows.form == "text":
        return _raw(rows, [row["text"] for row in rows.rows], {}, heads, named)
    return None if rows.form == "conll" else _of_table(rows, heads, named)


def _guess(data: dict[str, Any], texts: Sequence[str], why: str) -> Guess:
    return Guess(sentence_similarity.NAME, data, texts).noting("task", f"{ASSUMED}{why}")


def _of_table(rows: Sample, heads: Heads, named: Callable[[Path], str]) -> Vectors | None:
    """Pairs with a score, pairs, triplets, or texts alone; None of other rows."""
    there = columns.of(rows.names, rows.rows)
    labelled.refuse_headless(rows, there)
    if any(column.kind == "list" for column in there):
        return None
    score, _ = labelled.find_label(there, needed=False)
    if score is not None and score.kind != "number":
        return None
    others = [column for column in there if column is not score and column.plain not in _NEGATIVES]
    pair, note = labelled.find_texts(others, heads)
    if len(pair) < 2:
        readable = [column for column in there if column.reads_as_text]
        if score is not None or len(readable) != 1:
            return None
        return _raw(rows, readable[0].texts, {"text": readable[0].name}, heads, named)
    data = {"text": pair[0].name, "text_pair": pair[1].name}
    negative = next((c for c in there if c.kind == "text" and c not in pair and c.plain in _NEGATIVES), None)
    if score is not None:
        data["score"], why = score.name, f"{quoted(score.name)} says how alike the texts of a pair are"
    else:
        why = "the texts of a row belong together, and the first is to find the second"
        data |= {} if negative is None else {"negative": negative.name}
    used = [*pair, *([score] if score else []), *([negative] if negative and not score else [])]
    labelled.refuse_blanks(rows, used)
    texts = list(chain.from_iterable(column.texts for column in pair))
    found = _guess(data, texts, why)
    found = found.noting("text_pair", f"{ASSUMED}{note}") if note else found
    return _with_validation(Vectors(found, {"train": named(rows.train)}), rows, named)


def _with_validation(found: Vectors, rows: Sample, named: Callable[[Path], str]) -> Vectors:
    if rows.validation is None:
        return found
    guess = found.guess.noting("validation", f"{ASSUMED}the rows to judge on, found beside those to train on")
    return Vectors(guess, {**found.files, "validation": named(rows.validation)}, len(rows.judged))


def _of_set(rows: Sample, named: Callable[[Path], str]) -> Vectors:
    """A folder in BEIR's layout: its training queries, else its documents alone, are learned from."""
    folder, splits = rows.train, rows.names
    texts = [row["text"] for row in rows.rows]
    split = next((name for name in JUDGING if name in splits), splits[0])
    searched: Any = named(folder) if split == "test" else {"source": named(folder), "split": split}
    queries = sum(bool(row["relevant"]) for row in rows.rows)
    if "train" in splits and split != "train":
        found = _guess({}, texts, "queries and documents are learned from, and others are searched")
        return Vectors(found, {"train": named(folder), "retrieval": searched}, queries)
    found = _guess({}, texts, "the documents are learned from, without queries")
    corpus = {"source": named(folder / "corpus.jsonl"), "text": "text"}
    return Vectors(found, {"corpus": corpus, "retrieval": searched}, queries)


def _raw(
    rows: Sample, texts: Sequence[str], data: dict[str, Any], heads: Heads, named: Callable[[Path], str]
) -> Vectors:
    """Texts alone, scored with pairs beside them, else by a search among themselves."""
    source: Any = {"source": named(rows.train), **data} if data else named(rows.train)
    found = _guess({}, texts, "the teacher's vectors of raw text are learned")
    if rows.validation is not None and rows.judged_names:
        judged = replace(rows, names=rows.judged_names, rows=rows.judged, train=rows.validation, validation=None)
        scored = _of_table(judged, heads, named)
        if scored is not None and "train" in scored.files:
            guess = replace(found, data=scored.guess.data)
            guess = guess.noting("validation", f"{ASSUMED}the pairs to judge on, found beside the texts")
            return Vectors(guess, {"corpus": source, "validation": named(rows.validation)}, len(rows.judged))
    file, judged_texts = rows.train, texts
    if rows.validation is not None and not rows.judged_names:
        file, judged_texts = rows.validation, [row["text"] for row in rows.judged]
    queries = sum(len(sentences(text)) > 1 for text in judged_texts)
    if queries < _LEAST_QUERIES:
        what = f"{file.name} has nothing to score vectors with: {queries} of its texts have two sentences or more"
        hint = "give pairs with a score, or a folder with train.txt and with such pairs as dev.tsv"
        raise refused(PLACE, what, hint, "missing")
    searched: Any = {"source": named(file), **(data if file == rows.train else {})}
    if (count := _texts_of(file, judged_texts, rows.whole or file != rows.train)) > _MOST_DOCUMENTS:
        searched["fraction"] = float(f"{_MOST_DOCUMENTS / count:.1g}")
    if queries > _MOST_QUERIES:
        searched["max_queries"] = _MOST_QUERIES
    note = f"{ASSUMED}the first sentence of each text looks for the rest; pairs that people scored say more"
    whole = searched["source"] if len(searched) == 1 else searched
    return Vectors(found.noting("retrieval", note), {"corpus": source, "retrieval": whole}, min(queries, _MOST_QUERIES))


def _texts_of(file: Path, beginning: Sequence[str], whole: bool) -> int:
    """How many texts a file has, about, by its size, if it has more than its beginning."""
    read = sum(len(text.encode()) + 1 for text in beginning)
    return len(beginning) if whole else max(len(beginning), int(len(beginning) * file.stat().st_size / read))
