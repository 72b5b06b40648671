"""Extractive question answering: the span of a context that answers a question; long contexts are read in windows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from compressor.data import question_rows, sources
from compressor.data.columns import encoded_rows, numbers, values
from compressor.data.spec import DataSpec
from compressor.errors import Problem, RecipeError
from compressor.gates.rows import Rows
from compressor.models import heads
from compressor.models.outputs import END, NO_LABEL, START
from compressor.tasks.base import ABSENT_LOGIT, MASKED_LOGIT
from compressor.tasks.scoring import spans

if TYPE_CHECKING:
    import torch
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

Floats32 = NDArray[np.float32]
Ints = NDArray[np.int64]

NAME = "question-answering"
COLUMNS: tuple[str, ...] = ("question", "context", "answers", "stride", "group")
METRICS: tuple[str, ...] = ("f1", "exact_match")
HEAD = heads.QUESTION_ANSWERING
PIPELINE_TAG = "question-answering"
FORM = question_rows
FORMATS = (sources.SQUAD, *sources.LISTS)
TABLES = sources.LISTS
PER_TOKEN = True
LABELS_PER_TOKEN = False
REGRESSION = False
TOKEN_LABELS: str | None = "inside"
MAX_SEQUENCE_LENGTH = 384
"""Source: run_squad.py of Devlin et al. 2019, for this, the windows' stride and the longest answer."""

_LONGEST_ANSWER = 30
_BEST = 20


def columns(data: DataSpec) -> dict[str, str]:
    """From `question`, `context` and `answers` to a table's columns."""
    return {"question": data.question, "context": data.context, "answers": data.answers}


def label_ids(labels: Sequence[str], head: Sequence[str] | None) -> dict[str, int]:
    """An empty dict: the head chooses among the tokens of a row."""
    return {}


def encode(
    rows: Dataset, tokenizer: PreTrainedTokenizerBase, max_length: int, label_ids: Mapping[str, int], data: DataSpec
) -> Dataset:
    """Tokenizes questions with their contexts; of a long context, windows that overlap.

    Args:
        rows: With `question`, `context`, `answers` and `starts`.
        tokenizer: The checkpoint's, a fast one.
        max_length: Tokens of a window, special tokens and question included; a question takes half of it at most.
        label_ids: Nothing.
        data: Sets how many tokens windows share.

    Returns:
        `input_ids`, `attention_mask`, `token_type_ids` if the tokenizer has them, `length`; `labels`: where the first
        answer starts and ends, both on the first token if the window does not hold it; and for scoring `inside`: 0 on
        tokens of the context and -100 on others, `question`: the row's index, and `offsets`: the characters of each
        token, end to end.

    Raises:
        RecipeError: Windows have no room for a context.
    """
    room = max_length // 2 - tokenizer.num_special_tokens_to_add(pair=True)
    stride = min(data.stride, room // 2)
    if room < 1:
        what = f"windows of {max_length} tokens have no room for a question and a context"
        raise RecipeError([Problem("data", what, "give training stages a larger max_sequence_length", kind="value")])

    def convert(batch: dict[str, list[Any]], indices: list[int]) -> dict[str, list[Any]]:
        encoded = tokenizer(
            _cut(batch["question"], tokenizer, room),
            batch["context"],
            truncation="only_second",
            max_length=max_length,
            stride=stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        rows_of, offsets = encoded.pop("overflow_to_sample_mapping"), encoded.pop("offset_mapping")
        inside = [
            [0 if part == 1 else NO_LABEL for part in encoded.sequence_ids(window)] for window in range(len(rows_of))
        ]
        labels = []
        for window, row in enumerate(rows_of):
            answers, starts = batch["answers"][row], batch["starts"][row]
            span = (starts[0], starts[0] + len(answers[0])) if answers else None
            labels.append(_span(span, offsets[window], inside[window]))
        return {
            **encoded,
            "length": [len(ids) for ids in encoded["input_ids"]],
            "labels": labels,
            "inside": inside,
            "question": [indices[row] for row in rows_of],
            "offsets": [[place for pair in window for place in pair] for window in offsets],
        }

    return encoded_rows(rows, convert, with_indices=True)


def _cut(questions: Sequence[str], tokenizer: PreTrainedTokenizerBase, room: int) -> list[str]:
    """Questions cut to `room` tokens; leading spaces, which some data sets have, are no tokens, or their own."""
    encoded = tokenizer(list(questions), add_special_tokens=False, return_offsets_mapping=True)
    ends = [offsets[room - 1][1] if len(offsets) > room else None for offsets in encoded["offset_mapping"]]
    return [question[:end] for question, end in zip(questions, ends, strict=True)]


def _span(answer: tuple[int, int] | None, offsets: Sequence[tuple[int, int]], inside: Sequence[int]) -> list[int]:
    """The first and the last token of an answer, given as characters; both 0 if the window does not hold it."""
    tokens = [index for index, label in enumerate(inside) if label != NO_LABEL]
    if answer is None or not tokens or offsets[tokens[0]][0] > answer[0] or offsets[tokens[-1]][1] < answer[1]:
        return [0, 0]
    first = max((index for index in tokens if offsets[index][0] <= answer[0]), default=tokens[0])
    last = min((index for index in tokens if offsets[index][1] >= answer[1]), default=tokens[-1])
    return [first, max(first, last)]


def references(
    rows: Dataset, encoded: Dataset, label_ids: Mapping[str, int], train: Dataset
) -> dict[str, NDArray[Any]]:
    """The arrays that turn tokens into text and compare it.

    Returns:
        Of each window `question` `(windows,)`, and `offsets`, the characters of its tokens, end to end `(tokens, 2)`
        with `starts` `(windows + 1,)`; of each question `contexts` and `answers` as text, the answers of all
        questions end to end with `counts` `(questions,)`; and `null`, whether a training question has no answer `(1,)`.
    """
    lengths = numbers(encoded, "length", np.int64)
    offsets = np.concatenate([np.asarray(row, dtype=np.int32) for row in values(encoded, "offsets")])
    answers = list(values(rows, "answers"))
    return {
        "question": numbers(encoded, "question", np.int64),
        "offsets": offsets.reshape(-1, 2),
        "starts": np.concatenate([[0], np.cumsum(lengths)]),
        **_packed("contexts", list(values(rows, "context"))),
        **_packed("answers", [text for row in answers for text in row]),
        "counts": np.asarray([len(row) for row in answers], dtype=np.int64),
        "null": np.asarray([not all(values(train, "answers"))]),
    }


def _packed(name: str, texts: Sequence[str]) -> dict[str, NDArray[Any]]:
    """Texts as bytes, end to end, and where each ends."""
    encoded = [text.encode() for text in texts]
    ends = np.cumsum([len(text) for text in encoded], dtype=np.int64)
    return {name: np.frombuffer(b"".join(encoded), dtype=np.uint8), f"{name}_ends": ends}


def _texts(references: Mapping[str, NDArray[Any]], name: str) -> Iterator[str]:
    whole, start = references[name].tobytes(), 0
    for end in references[f"{name}_ends"].tolist():
        yield whole[start:end].decode()
        start = end


def head_logits(outputs: Mapping[str, Any]) -> torch.Tensor:
    """Logits of starts and ends as two channels. `(batch, sequence, 2)`."""
    import torch

    return torch.stack([outputs[START], outputs[END]], dim=-1)


def choices(head: torch.Tensor, batch: Mapping[str, Any]) -> torch.Tensor:
    """Among the tokens of a row, once for the start and once for the end. `(2 * batch, sequence)`."""
    padding = batch["attention_mask"][:, None] == 0
    return head.transpose(1, 2).masked_fill(padding, MASKED_LOGIT).flatten(0, 1)


def answers(outputs: Mapping[str, Floats32], batch: Mapping[str, Ints]) -> Floats32:
    """The best spans of each window, the best first, and the score of no answer there.

    Returns:
        Start, end and score of each span, -1 and -inf where there are fewer; behind them the score of no answer,
        which is that of the first token. `(batch, 3 * spans + 1)`
    """
    inside = batch["labels"] != NO_LABEL
    kept = []
    for start, end, allowed in zip(outputs[START], outputs[END], inside, strict=True):
        found = spans.best_spans(start, end, allowed, _BEST, _LONGEST_ANSWER)
        kept.append(np.concatenate([np.column_stack(found).ravel(), [start[0] + end[0]]]))
    return np.asarray(kept, dtype=np.float32)


def compared(outputs: Mapping[str, Floats32], batch: Mapping[str, Ints]) -> Floats32:
    """Logits of start and end at each token that is not padding. `(batch, 2, sequence)`."""
    both = np.stack([outputs[START], outputs[END]], axis=1)
    return np.where(batch["attention_mask"][:, None] == 1, both, np.float32(ABSENT_LOGIT))


def score(answers: Floats32, references: Mapping[str, NDArray[Any]], labels: Sequence[str]) -> dict[str, Rows]:
    """Exact match and F1 of words, as SQuAD's script counts them; the rows are questions.

    "No answer" is a possible prediction only if some training question has no answer, as in SQuAD 2.

    Args:
        answers: From `answers`, for each window. `(windows, 3 * spans + 1)`
        references: From `references`.
        labels: None.
    """
    texts = predictions(answers, references)
    right = _texts(references, "answers")
    exact, f1 = [], []
    for text, count in zip(texts, references["counts"].tolist(), strict=True):
        wanted = [next(right) for _ in range(count)]
        exact.append(spans.exact(text, wanted))
        f1.append(spans.f1(text, wanted))
    n = len(texts)
    return {
        "f1": Rows(np.array(f1)[:, None], lambda sums: np.asarray(sums[..., 0] / n)),
        "exact_match": Rows(np.array(exact)[:, None], lambda sums: np.asarray(sums[..., 0] / n), binomial=True),
    }


def predictions(answers: Floats32, references: Mapping[str, NDArray[Any]]) -> list[str]:
    """The answer to each question; empty for none."""
    null = bool(references["null"][0])
    starts, offsets = references["starts"], references["offsets"]
    windows: dict[int, list[int]] = {}
    for window, question in enumerate(references["question"].tolist()):
        windows.setdefault(question, []).append(window)
    found = []
    for question, context in enumerate(_texts(references, "contexts")):
        of_windows: list[spans.Window] = []
        for window in windows[question]:
            kept = answers[window, :-1].reshape(-1, 3)
            starts_ends = kept[:, :2].astype(np.int64)
            best = spans.Spans(starts_ends[:, 0], starts_ends[:, 1], kept[:, 2].astype(np.float64))
            tokens = offsets[starts[window] : starts[window + 1]]
            of_windows.append(spans.Window(best, tokens, float(answers[window, -1])))
        found.append(spans.decode(context, of_windows, _BEST, null)[0].text)
    return found
