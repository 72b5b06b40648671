"""Texts, or pairs of texts, with a label or a number: which column is which."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from typing import Any

from compressor.data import table_files
from compressor.data.cells import NotText, text_of
from compressor.data.lines import quoted
from compressor.data.queries import MOST_RELEVANT
from compressor.drafting import columns, label_sets
from compressor.drafting.columns import Column
from compressor.drafting.guess import ASSUMED, Guess, Heads, refused
from compressor.drafting.rows import PLACE, Sample
from compressor.errors import RecipeError
from compressor.tasks import multi_label, text_classification, text_regression

_KEYS = ("text", "text_pair")
_LEARNS_LABELS = {text_classification.NAME, multi_label.NAME, text_regression.NAME}

_LABELS = (
    *("labeltext", "labelname", "label", "labels", "goldlabel", "gold", "class", "category", "target", "sentiment"),
    *("intent", "emotion", "topic", "polarity", "relevance", "score", "similarityscore", "similarity", "rating"),
    *("stars", "grade", "y", "tag", "toxic", "spam", "output", "answer"),
)
"""Names of columns with labels, without what separates words, the surest first."""
_ENDS = ("label", "class", "category", "sentiment", "intent", "emotion", "topic", "polarity", "rating", "stars")
"""Ends of other names of such columns, such as `airline_sentiment`."""
_NUMBERS = ("score", "similarity", "similarityscore", "relevance", "rating", "grade", "stars")
"""Those of them that are often a number to learn."""
_NO_LABELS = (
    *("split", "set", "fold", "source", "lang", "language", "date", "time", "timestamp", "year", "id", "index", "idx"),
    *("domain", "url", "createdat", "confidence", "weight", "length"),
)
_TEXTS = (
    *("text", "sentence", "review", "reviewtext", "content", "comment", "commenttext", "body", "utterance", "tweet"),
    *("message", "document", "passage", "query", "question", "title", "headline", "description", "abstract", "input"),
    *("prompt", "sms", "post", "email", "reviewbody", "fulltext"),
)
_PAIRS = (
    *(("sentence1", "sentence2"), ("premise", "hypothesis"), ("question1", "question2"), ("text1", "text2")),
    *(("texta", "textb"), ("sentencea", "sentenceb"), ("text", "textpair"), ("first", "second"), ("s1", "s2")),
    *(("query", "passage"), ("query", "document"), ("query", "doc"), ("query", "text"), ("query", "answer")),
    *(("question", "passage"), ("question", "sentence"), ("question", "context"), ("question", "answer")),
    *(("anchor", "positive"), ("query", "positive"), ("query", "pos")),
    *(("claim", "evidence"), ("context", "response"), ("prompt", "response"), ("a", "b"), ("left", "right")),
)
_QUERIES, _QUERY_IDS = ("query", "question"), ("queryid", "qid", "questionid")
_ALIKE = 3
"""How many times longer one of two texts may be on average where only their lengths say that they are a pair."""
_MOST_NUMBERED = 20
"""Different whole numbers that are taken for classes."""
_LONG_NAME = 40


def guess(rows: Sample, there: Sequence[Column], heads: Heads) -> Guess | None:
    """The text, maybe the second one, and the label.

    Args:
        rows: The rows.
        there: Their columns.
        heads: What the checkpoint can do.

    Returns:
        None where no column has labels.

    Raises:
        RecipeError: The first line is a row, or a column that is called so cannot be what it is called.
    """
    refuse_headless(rows, there)
    sets = label_sets.find(there)
    if sets is not None and (sets[1] or not any(c.plain in _LABELS and c.kind in ("text", "number") for c in there)):
        return _with_sets(rows, there, heads, *sets)
    label, note = find_label(there, bool(set(heads.tasks) & _LEARNS_LABELS))
    if label is None:
        _refuse_mixed(there)
        return None
    texts, said = find_texts([column for column in there if column is not label], heads)
    if not texts:
        return None
    _refuse_answers(label, texts)
    refuse_blanks(rows, [*texts, label])
    query = None if text_classification.NAME in heads.tasks else _query(there, texts, label)
    data: dict[str, Any] = {key: column.name for key, column in zip(_KEYS, texts, strict=False)}
    data["label"] = label.name
    if query is not None:
        data["query"] = query.name
        task, why = text_regression.NAME, "rows with one query are its candidates, to be ranked"
    else:
        task, why = _task(label, len(texts) == 2, heads)
    if task == text_classification.NAME and multi_label.NAME in heads.tasks:
        task, data["multi_label"] = multi_label.NAME, True
    pairs = list(zip(*(column.texts for column in texts), strict=True))
    found = Guess(task, data, pairs, Counter() if task == text_regression.NAME else label.counts)
    for key, comment in (("label", note), (_KEYS[len(texts) - 1], said), ("task", why)):
        found = found.noting(key, f"{ASSUMED}{comment}") if comment else found
    return _with_sources(found, there, [*texts, label])


def _with_sets(
    rows: Sample, there: Sequence[Column], heads: Heads, label: Column, mark: str | None, counts: Counter[str]
) -> Guess | None:
    """Texts with any number of labels each."""
    texts, said = find_texts([column for column in there if column is not label], heads)
    if not texts:
        return None
    refuse_blanks(rows, texts)
    data = {key: column.name for key, column in zip(_KEYS, texts, strict=False)} | {"label": label.name}
    found = Guess(multi_label.NAME, data, list(zip(*(column.texts for column in texts), strict=True)), counts)
    if mark is not None:
        data["label_separator"] = mark
        found = found.noting("label_separator", f"{ASSUMED}a row has any number of labels, with this between them")
    return found.noting(_KEYS[len(texts) - 1], f"{ASSUMED}{said}") if said else found


def _refuse_mixed(there: Sequence[Column]) -> None:
    """Refuses a column that is called as labels are where a row has neither a text nor a number."""
    for column in there:
        for number, value in enumerate(column.values if column.kind == "other" and column.plain in _LABELS else (), 1):
            try:
                text_of(value)
            except NotText as error:
                what = f"column {quoted(column.name)} {error.what} in row {number}"
                raise refused(PLACE, what, "labels are texts or numbers; fix the row, or drop it", error.kind) from None


def refuse_blanks(rows: Sample, used: Sequence[Column]) -> None:
    """Refuses columns in which a row has no value."""
    for column in used:
        if column.blank_row is not None:
            what = f"{rows.train.name} has nothing in column {quoted(column.name)} of row {column.blank_row}"
            raise refused(PLACE, what, "every row needs a value; drop the row or fix the file", "missing")


def find_label(there: Sequence[Column], needed: bool) -> tuple[Column | None, str]:
    """The column with the label, and what is assumed of it.

    Args:
        there: All columns.
        needed: Whether the checkpoint's head is of a task that has labels: then anything that may be one is.
    """
    scalar = [column for column in there if column.kind in ("text", "number") and not column.is_prose]
    named = [column for column in scalar if column.plain in _LABELS]
    named.sort(key=lambda column: (_LABELS.index(column.plain), column.name))
    if named:
        label = next(filter(_can_label, named), None)
        if label is None:
            raise _no_label(named[0])
        alike = [c for c in scalar if c is not label and c.counts.keys() == label.counts.keys()]
        passed = [quoted(column.name) for column in (*named[: named.index(label)], *alike)]
        return label, f"and not {', '.join(passed)}" if passed else ""
    if ends := next((c for c in scalar if c.plain.endswith(_ENDS) and _can_label(c)), None):
        return ends, "by the end of the column's name"
    free = [c for c in scalar if c.plain not in _NO_LABELS and not c.plain.endswith("id") and c.blank_row is None]
    able = [c for c in free if c.repeats or _is_amount(c)]
    if not able:
        return None, ""
    chosen = min(able, key=lambda c: (_is_amount(c), len(c.counts)))
    others = [quoted(c.name) for c in able if c is not chosen]
    unsure = bool(others) if _is_amount(chosen) else len(chosen.counts) * 4 > len(chosen.texts)
    if unsure and not needed:
        return None, ""
    what = "the column of numbers with a fraction" if _is_amount(chosen) else "the column with few different values"
    return chosen, what + (f", and not {', '.join(others)}" if others else "")


def _is_amount(column: Column) -> bool:
    return column.kind == "number" and column.points


def _can_label(column: Column) -> bool:
    """Whether the values are labels, or numbers to learn."""
    return column.may_label or (
        column.kind == "number" and len(column.counts) > 1 and not (column.whole and column.is_id)
    )


def _no_label(column: Column) -> RecipeError:
    """The error of a column that is called as labels are and has none."""
    name, count = quoted(column.name), len(column.counts)
    odd = [text for text in column.counts if not columns.is_number(text)]
    if count == 1:
        what = f"column {name} has one value only, {quoted(next(iter(column.counts)))}"
        return refused(PLACE, what, "there have to be two labels to tell apart; is the file cut off?")
    if 0 < len(odd) < count / 2:
        return refused(PLACE, f"column {name} has {quoted(odd[0])} among numbers", "write a number, or drop the row")
    what = f"column {name} has {count} different values in {len(column.texts)} rows"
    hint = f"labels are at most {columns.MOST_LABELS}, or a quarter of the rows; rename the column if it has none"
    return refused(PLACE, what, hint)


def find_texts(others: Sequence[Column], heads: Heads) -> tuple[list[Column], str]:
    """The column with the text, or the two of a pair; and what is assumed of them."""
    there = {column.plain: column for column in others if column.kind == "text"}
    for names in _PAIRS:
        if all(name in there for name in names):
            return [there[name] for name in names], ""
    readable = [column for column in others if column.reads_as_text and column.plain not in _NO_LABELS]
    named = [column for column in there.values() if column.plain in _TEXTS]
    able = named or [column for column in readable if column.blank_row is None] or readable
    if not able:
        return [], ""
    if len(readable) == 2 and len(named) in (0, 2) and heads.pairs:
        short, long = sorted(readable, key=lambda column: column.characters)
        if long.characters <= _ALIKE * short.characters and all(column.blank_row is None for column in readable):
            return list(readable), "two texts a row are a pair"
    text = max(able, key=lambda column: column.characters)
    rest = [quoted(column.name) for column in readable if column is not text]
    return [text], f"the longest texts; others are in {', '.join(rest)}" if rest else ""


def _refuse_answers(label: Column, texts: Sequence[Column]) -> None:
    """Refuses answers that are parts of a text, without where they start."""
    if label.plain not in ("answer", "answertext", "answers") or len(texts) < 2:
        return
    parts = [answer in text for answer, text in zip(label.texts, texts[1].texts, strict=False)]
    if sum(parts) > 0.9 * len(parts):
        what = f"column {quoted(label.name)} has parts of {quoted(texts[1].name)}, without where they start"
        hint = "write jsonl with answers: {text: [...], answer_start: [...]}; answer_start counts characters from 0"
        raise refused(PLACE, what, hint, "unsupported")


def _query(there: Sequence[Column], texts: Sequence[Column], label: Column) -> Column | None:
    """The column that is equal for the candidates of one query, where numbers say how relevant they are."""
    if len(texts) < 2 or label.kind != "number" or not all(0 <= float(text) <= MOST_RELEVANT for text in label.counts):
        return None
    able = [column for column in there if column.plain in _QUERY_IDS] + [texts[0]] * (texts[0].plain in _QUERIES)
    return next((column for column in able if column.repeats_in_groups), None)


def _task(label: Column, paired: bool, heads: Heads) -> tuple[str, str]:
    """Whether a label is a class or a number, and what is assumed of it."""
    classes, number = text_classification.NAME, text_regression.NAME
    if label.kind == "text":
        return classes, ""
    count = len(label.counts)
    if number in heads.tasks:
        return number, ""
    few = label.whole and count <= _MOST_NUMBERED and label.repeats
    if classes in heads.tasks and few:
        return classes, ""
    if not label.whole:
        return number, f"{quoted(label.name)} holds numbers, not classes"
    if few and not (paired and label.plain in _NUMBERS) and (count == 2 or not label.points):
        unknown = "-1" in label.counts and count > 2
        none = "; -1 too, which often marks rows without a label: drop these" if unknown else ""
        return classes, f"the {count} numbers of {quoted(label.name)} are classes (for amounts: {number}){none}"
    return number, f"{quoted(label.name)} holds numbers of an amount; for classes: {classes}"


def _with_sources(found: Guess, there: Sequence[Column], used: Sequence[Column]) -> Guess:
    """The guess with a note on columns that tell rows of several kinds apart."""
    for column in there:
        if column not in used and column.kind == "text" and 2 <= len(column.counts) <= 8 and column.repeats:
            value, count = column.counts.most_common()[-1]
            note = f"to keep a part: `where: {{{column.name}: {value}}}` keeps {count:,} of {len(column.texts):,} rows"
            return found.noting("train", note)
    return found


def refuse_headless(rows: Sample, there: Sequence[Column]) -> None:
    """Refuses csv and tsv files whose first line is a row: its values are names, and the row is lost."""
    if not rows.in_lines:
        return
    if not any(
        (c.repeats and c.name in c.counts) or (len(c.name) > _LONG_NAME and c.name.count(" ") > 3) for c in there
    ):
        return
    names: list[str] = []
    by_name = {column.name: column for column in there}
    for number, given in enumerate(table_files.columns(rows.train, PLACE), 1):
        column = by_name.get(given)
        name = "column"
        if column is not None and len(column.counts) > 1:
            name = "text" if column.reads_as_text else "label" if column.repeats else name
        names.append(f"{name}{number}" if name == "column" or name in names else name)
    mark = "\t" if table_files.kind(rows.train) == "tsv" else csv.excel.delimiter
    what = f"{rows.train.name} has no line with the names of its columns: its first line is a row"
    raise refused(PLACE, what, f"put a first line like `{mark.join(names)}`", "missing")
