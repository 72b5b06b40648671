"""Token classification: a tag for each word, such as the names in a text; scored by whole entities."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compressor.data import sources, tagged_rows
from compressor.data.columns import encoded_rows, values
from compressor.data.spec import DEFAULT_MAX_SEQUENCE_LENGTH, DataSpec
from compressor.errors import Problem, RecipeError
from compressor.gates.estimate import Floats
from compressor.gates.rows import Rows
from compressor.models import heads
from compressor.models.outputs import LOGITS, NO_LABEL
from compressor.tasks import label_names
from compressor.tasks.base import ABSENT_LOGIT
from compressor.tasks.scoring import entity_f1

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

Floats32 = NDArray[np.float32]
Ints = NDArray[np.int64]

NAME = "token-classification"
COLUMNS: tuple[str, ...] = ("tokens", "tags", "labels", "group")
METRICS: tuple[str, ...] = ("f1", "accuracy")
HEAD = heads.TOKEN_CLASSIFICATION
PIPELINE_TAG = "token-classification"
FORM = tagged_rows
FORMATS = (*sources.CONLL, *sources.LISTS)
TABLES = sources.LISTS
PER_TOKEN = True
LABELS_PER_TOKEN = True
REGRESSION = False
TOKEN_LABELS: str | None = "labels"
MAX_SEQUENCE_LENGTH = DEFAULT_MAX_SEQUENCE_LENGTH

_NO_WORD = -1
_OUTSIDE = "O"


def columns(data: DataSpec) -> dict[str, str]:
    """From `tokens` and `tags` to a table's columns."""
    return {"tokens": data.tokens, "tags": data.tags}


def label_ids(labels: Sequence[str], head: Sequence[str] | None) -> dict[str, int]:
    """Index of each tag in the head's output.

    Args:
        labels: The data's tags, in order.
        head: Names of a trained head's outputs, in order; None for a head that is made for these tags.

    Raises:
        RecipeError: A trained head has no output for a tag.
    """
    return label_names.match(labels, head, "data.tags")


def encode(
    rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int, label_ids: Mapping[str, int], data: DataSpec
) -> Dataset:
    """Tokenizes words; the first token of each has its tag, all others have none.

    Words get the tokens that they have in a text, with one space between two: byte-level BPE, as RoBERTa has it, tells
    a word with a space in front from one without. A word that the tokenizer drops, such as a lone control character, is
    read as unknown, so that every word has a token.

    Args:
        rows: With `tokens` and `tags`.
        tokenizer: The checkpoint's, a fast one.
        max_length: Tokens a row is cut to, special tokens included; words behind it get no tag.
        label_ids: Index of each tag.
        data: The recipe's.

    Returns:
        `input_ids`, `attention_mask`, `token_type_ids` if the tokenizer has them, `length`, and `labels`, -100 where a
        token has none.

    Raises:
        RecipeError: The tokenizer drops a word, and has no token for unknown ones.

    Source: Devlin et al. 2019, section 5.3: the first sub-token of a word is classified.
    """
    space = _between(tokenizer)

    def convert(batch: dict[str, list[Any]]) -> dict[str, list[Any]]:
        words = _readable([[*words[:1], *(space + word for word in words[1:])] for words in batch["tokens"]], tokenizer)
        encoded = tokenizer(words, is_split_into_words=True, truncation=True, max_length=max_length)
        labels = [
            _first_tokens(encoded.word_ids(row), [label_ids[tag] for tag in tags])
            for row, tags in enumerate(batch["tags"])
        ]
        return {**encoded, "length": [len(row) for row in labels], "labels": labels}

    return encoded_rows(rows, convert)


def _between(tokenizer: PreTrainedTokenizerBase) -> str:
    """What has to stand in front of a word, all but the first, to give it the tokens that it has in a text."""
    in_text = tokenizer("a b", add_special_tokens=False)["input_ids"]
    alone, spaced = (
        tokenizer(["a", f"{space}b"], is_split_into_words=True, add_special_tokens=False)["input_ids"]
        for space in ("", " ")
    )
    return " " if alone != in_text == spaced else ""


def _readable(rows: list[list[str]], tokenizer: PreTrainedTokenizerBase) -> list[list[str]]:
    """The words, with the unknown token for those that have none."""
    whole = tokenizer(rows, is_split_into_words=True, add_special_tokens=False)
    found = []
    for index, words in enumerate(rows):
        there = set(whole.word_ids(index))
        if len(there) < len(words) and tokenizer.unk_token is None:
            word = next(word for place, word in enumerate(words) if place not in there)
            what = f"its tokenizer drops the word {word!r}, and has no token for unknown words"
            raise RecipeError([Problem("model", what, "leave such words out of the data", kind="unsupported")])
        found.append([word if place in there else tokenizer.unk_token for place, word in enumerate(words)])
    return found


def _first_tokens(words: Sequence[int | None], tags: Sequence[int]) -> list[int]:
    before: int | None = None
    labels = []
    for word in words:
        labels.append(NO_LABEL if word is None or word == before else tags[word])
        before = word
    return labels


def references(rows: Dataset, encoded: Dataset, label_ids: Mapping[str, int], train: Dataset) -> dict[str, Ints]:
    """`tags`: index of each word's tag, words that were cut off included; -1 behind the last. `(rows, words)`."""
    tags = [[label_ids[tag] for tag in row] for row in values(rows, "tags")]
    filled = np.full((len(tags), max(map(len, tags))), _NO_WORD, dtype=np.int64)
    for index, row in enumerate(tags):
        filled[index, : len(row)] = row
    return {"tags": filled}


def head_logits(outputs: Mapping[str, Any]) -> torch.Tensor:
    """The logits, `(batch, sequence, tags)`."""
    logits: torch.Tensor = outputs[LOGITS]
    return logits


def choices(head: torch.Tensor, batch: Mapping[str, Any]) -> torch.Tensor:
    """One item for each word: the first token of each has a label. `(words, tags)`."""
    return head[batch["labels"] != NO_LABEL]


def answers(outputs: Mapping[str, Floats32], batch: Mapping[str, Ints]) -> Floats32:
    """The tag of each word, in order; -1 behind the last. `(batch, words)`."""
    labelled = batch["labels"] != NO_LABEL
    tags = outputs[LOGITS].argmax(axis=-1)
    filled = np.full((len(tags), max(1, int(labelled.sum(axis=1).max()))), _NO_WORD, dtype=np.float32)
    for index, where in enumerate(labelled):
        filled[index, : where.sum()] = tags[index, where]
    return filled


def compared(outputs: Mapping[str, Floats32], batch: Mapping[str, Ints]) -> Floats32:
    """Logits of each token that is not padding. `(batch, sequence, tags)`."""
    return np.where(batch["attention_mask"][..., None] == 1, outputs[LOGITS], np.float32(ABSENT_LOGIT))


def score(answers: Floats32, references: Mapping[str, NDArray[Any]], labels: Sequence[str]) -> dict[str, Rows]:
    """F1 of entities, and the share of words with the right tag. A word that was cut off is outside of any entity.

    Args:
        answers: From `answers`. `(rows, words)`
        references: `tags`. `(rows, words)`
        labels: Names of the tags.
    """
    counts, hits = [], []
    for said, right in _tagged(answers, references, labels):
        hits.append((float(sum(map(str.__eq__, said, right))), float(len(right))))
        counts.append(entity_f1.counts(said, right))
    return {
        "f1": Rows(np.array(counts, dtype=np.float64), entity_f1.f1),
        "accuracy": Rows(np.array(hits), lambda sums: np.asarray(sums[..., 0] / sums[..., 1])),
    }


def scored_labels(labels: Sequence[str]) -> tuple[str, ...]:
    """See `per_label.Labelled`: the types of entities."""
    return entity_f1.types(labels)


def by_label(
    answers: Floats32,
    references: Mapping[str, NDArray[Any]],
    labels: Sequence[str],
    wanted: Collection[str],
) -> dict[str, Floats]:
    """See `per_label.Labelled`: entities of a type, sentence by sentence. `(rows, 3)` each."""
    rows = [entity_f1.counts_by_type(said, right) for said, right in _tagged(answers, references, labels)]
    nothing = (0, 0, 0)
    return {name: np.array([row.get(name, nothing) for row in rows], dtype=np.float64) for name in wanted}


def _tagged(
    answers: Floats32, references: Mapping[str, NDArray[Any]], labels: Sequence[str]
) -> Iterator[tuple[list[str], list[str]]]:
    """The given and the right tags of each sentence; a word that was cut off is outside of any entity."""
    outside = labels.index(_OUTSIDE) if _OUTSIDE in labels else _NO_WORD
    for given, right in zip(answers.astype(np.int64), references["tags"], strict=True):
        right = right[right != _NO_WORD]
        said = np.full(len(right), outside)
        said[: min(len(given), len(right))] = given[: len(right)]
        said[said == _NO_WORD] = outside
        yield [labels[tag] for tag in said], [labels[tag] for tag in right]
