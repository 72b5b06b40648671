"""The task that rows are of, and the columns that have its parts."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from compressor.data import squad, table_files
from compressor.data.lines import quoted
from compressor.data.question_rows import ANSWERS_HINT, answers_of
from compressor.data.tags import TAG_HINT, is_tag
from compressor.drafting import columns, labelled
from compressor.drafting.columns import Column
from compressor.drafting.guess import ASSUMED, Guess, Heads, refused
from compressor.drafting.rows import NAMES_HINT, PLACE, Sample
from compressor.errors import shown
from compressor.tasks import masked_lm, question_answering, token_classification

_SPLITS = ("split", "set", "fold", "partition", "subset")
_TAGS = ("nertags", "tags", "ner", "labels", "iob", "bio", "entities")
_TOKENS = ("tokens", "words", "text", "sentence")
_GROUPS = re.compile(r"(user|author|patient|customer|speaker|doc|document|article|group|session|thread)_?id", re.I)


def guess(rows: Sample, heads: Heads) -> Guess:
    """The task and its columns.

    Args:
        rows: The beginning of the rows.
        heads: What the checkpoint can do; where the rows leave the task open, its head decides.

    Raises:
        RecipeError: They are of no task, or would be refused when they are read.
    """
    if rows.form == "beir":
        what = f"{rows.train} is a retrieval set, and the checkpoint gives no vectors"
        raise refused(PLACE, what, "give a sentence encoder: a folder with modules.json", "unsupported")
    if rows.form == "conll":
        return _tagged(rows.rows, "tokens", "tags", {})
    if rows.form == "squad":
        return _asked(rows.rows, ("question", "context"), {})
    if rows.form == "text":
        return masked([row["text"] for row in rows.rows], {}, heads)
    where, kept = _training_rows(rows)
    there = columns.of(rows.names, kept)
    if answers := next((column for column in there if column.kind == "answers"), None):
        found = _questions(answers, there, kept)
    elif words := _words(there, kept, heads):
        found = words
    else:
        found = labelled.guess(rows, there, heads) or _unlabelled(rows, there, heads)
    if found.task != masked_lm.NAME:
        found = _with_groups(found, there)
    if not where:
        return found
    found.data["where"] = where
    return found.noting("where", f"{ASSUMED}the rows that are marked so are those to train on")


def masked(texts: Sequence[str], data: dict[str, Any], heads: Heads) -> Guess:
    """Raw text, which a language model learns from."""
    others = [task for task in heads.tasks if task != masked_lm.NAME]
    note = f"; the checkpoint's head for {others[0]} is not used" if others else ""
    return Guess(masked_lm.NAME, data, texts).noting("task", f"{ASSUMED}raw text without labels{note}")


def _training_rows(rows: Sample) -> tuple[dict[str, Any], Sequence[Mapping[str, Any]]]:
    """What marks the rows to train on, where a column names the split of each; and those rows."""
    for column in columns.of(rows.names, rows.rows):
        names = {text.lower(): text for text in column.counts}
        if column.plain in _SPLITS and "train" in names and len(names) <= 5:
            where = {column.name: names["train"]}
            return where, [row for row in rows.rows if row.get(column.name) == names["train"]]
    return {}, rows.rows


def _with_groups(found: Guess, there: Sequence[Column]) -> Guess:
    for column in there if "query" not in found.data else ():
        if _GROUPS.fullmatch(column.name) and 2 < len(column.counts) < len(column.texts) and not column.blank_row:
            found.data["group"] = column.name
            return found.noting("group", f"{ASSUMED}rows that share it are alike, and stay on one side of the split")
    return found


def _unlabelled(rows: Sample, there: Sequence[Column], heads: Heads) -> Guess:
    """Texts without labels."""
    readable = [column for column in there if column.reads_as_text]
    if not readable:
        every = table_files.columns(rows.train, PLACE)
        twice = next((name for name in every if name.strip() and every.count(name) > 1), None)
        named = [f"{quoted(column.name)} ({column.kind})" for column in there]
        named += [f"several are called {quoted(twice)}"] if twice is not None else []
        hint = "each row needs a text, and for most tasks a label" + ("; " + NAMES_HINT if rows.in_lines else "")
        raise refused(PLACE, f"{rows.train.name} has no column of texts: {', '.join(named)}", hint, "missing")
    text = max(readable, key=lambda column: column.characters)
    found = masked(text.texts, {"text": text.name}, heads)
    others = [c for c in there if c is not text and not (c.kind == "number" and c.whole and c.is_id)]
    if others:
        left = ", ".join(f"{quoted(column.name)} ({column.kind})" for column in others)
        return found.noting("text", f"{ASSUMED}the longest texts; nothing is learned from {left}")
    return found


def _asked(rows: Sequence[Mapping[str, Any]], names: tuple[str, str], data: dict[str, Any]) -> Guess:
    return Guess(question_answering.NAME, data, [tuple(row[name] for name in names) for row in rows])


def _questions(answers: Column, there: Sequence[Column], rows: Sequence[Mapping[str, Any]]) -> Guess:
    """Questions of a table: the context is the text that the answers are parts of."""
    for number, row in enumerate(rows, 1):
        if answers_of(row.get(answers.name)) is None:
            what = f"column {quoted(answers.name)} holds {shown(row.get(answers.name))} in row {number}"
            raise refused(PLACE, what, ANSWERS_HINT, "type")
    texts = [column for column in there if column.kind == "text" and column.blank_row is None]
    first = next((row for row in rows if (row.get(answers.name) or {}).get("text")), None)
    holds = [column for column in texts if first and str(first[answers.name]["text"][0]) in str(first[column.name])]
    context = max(holds, key=lambda column: column.characters, default=None)
    others = [column for column in texts if column is not context]
    question = next((column for column in others if column.plain in ("question", "query")), None)
    question = question or next(
        (c for c in others if sum(text.endswith("?") for text in c.texts) > len(rows) / 2), None
    )
    if context is None or question is None:
        missing = "context that holds the answers" if context is None else "question"
        raise refused(PLACE, f"no column has the {missing} of {quoted(answers.name)}", "name it context", "missing")
    for number, row in enumerate(rows, 1):
        parts = row[answers.name]
        asked = str(row[question.name]), str(row[context.name])
        if wrong := squad.check(*asked, parts["text"], parts["answer_start"], PLACE):
            raise refused(PLACE, f"row {number}: {wrong.what}", wrong.hint, wrong.kind)
    data = {"question": question.name, "context": context.name, "answers": answers.name}
    return _asked(rows, (question.name, context.name), data)


def _of_texts(column: Column) -> bool:
    return all(isinstance(item, str) for item in column.items())


def _words(there: Sequence[Column], rows: Sequence[Mapping[str, Any]], heads: Heads) -> Guess | None:
    """Lists of words with lists of tags; None where there are none: a list beside a text is one of labels."""
    lists = [column for column in there if column.kind == "list"]
    if not (words := [column for column in lists if _of_texts(column)]):
        return None
    tokens = min(words, key=lambda column: (_rank(column, _TOKENS), all(map(is_tag, column.items()))))
    alike = [c for c in lists if c is not tokens and _lengths(c) == _lengths(tokens)]
    if not alike:
        if any(column.reads_as_text for column in there):
            return None
        names = ", ".join(quoted(column.name) for column in lists)
        what = f"no column has a tag for each item of the lists in {names}"
        raise refused(PLACE, what, "a row needs its words and as many tags", "missing")
    tags = min(alike, key=lambda c: (not all(is_tag(str(item)) for item in c.items()), _rank(c, _TAGS)))
    data = {"tokens": tokens.name, "tags": tags.name}
    found = _tagged(rows, tokens.name, tags.name, data, heads)
    others = [quoted(c.name) for c in alike if c is not tags]
    return found.noting("tags", f"{ASSUMED}and not {', '.join(others)}") if others else found


def _tagged(
    rows: Sequence[Mapping[str, Any]], tokens: str, tags: str, data: dict[str, Any], heads: Heads | None = None
) -> Guess:
    """Words with tags; numbers for tags are those of the checkpoint's head."""
    counts = Counter(str(tag) for row in rows for tag in row[tags])
    found = Guess(token_classification.NAME, data, [row[tokens] for row in rows], counts)
    wrong = next((tag for tag in counts if not is_tag(tag)), None)
    if wrong is None:
        return found
    if not wrong.isdecimal():
        raise refused(PLACE, f"column {quoted(tags)} has the tag {quoted(wrong)}", TAG_HINT)
    names = heads.labels if heads is not None and token_classification.NAME in heads.tasks else ()
    if not names or any(not tag.isdecimal() or int(tag) >= len(names) for tag in counts):
        what = f"column {quoted(tags)} has numbers for tags, and the checkpoint has no head that names them"
        raise refused(PLACE, what, "write the tags' names: O, B-PER, I-PER …", "missing")
    data["labels"] = {tag: names[int(tag)] for tag in sorted(counts, key=int)}
    found = replace(found, counts=Counter({names[int(tag)]: count for tag, count in counts.items()}))
    return found.noting("labels", f"{ASSUMED}numbers are those of the checkpoint's head")


def _rank(column: Column, names: Sequence[str]) -> int:
    return names.index(column.plain) if column.plain in names else len(names)


def _lengths(column: Column) -> list[int]:
    return [len(value) for value in column.values if value is not None][:1000]
