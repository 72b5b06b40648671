"""How often tokens occur, in the training rows or in raw text, and how many texts have some of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from compressor.progress import Step

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Ints = NDArray[np.int64]

Texts = Callable[[], Iterator[list[Ints]]]
"""Texts as token ids, some at a time; from the first one whenever it is called."""

_TEXTS_AT_ONCE = 1024


def of_texts(texts: Callable[[], Iterator[str]], tokenizer: PreTrainedTokenizerBase) -> Texts:
    """Raw texts as a tokenizer reads them, whole and without special tokens.

    Args:
        texts: The texts; from the first one whenever it is called.
        tokenizer: The tokenizer.
    """

    def read() -> Iterator[list[Ints]]:
        source = texts()
        while some := list(islice(source, _TEXTS_AT_ONCE)):
            found = tokenizer(some, add_special_tokens=False, return_attention_mask=False, verbose=False)
            yield [np.asarray(ids, dtype=np.int64) for ids in found["input_ids"]]

    return read


def count(texts: Texts, vocabulary: int, step: Step) -> tuple[Ints, int]:
    """How often each token occurs, and in how many texts.

    Args:
        texts: The texts.
        vocabulary: Number of token ids.
        step: Progress, in texts.

    Returns:
        Counts `(vocabulary,)` and the number of texts.
    """
    counts, read = np.zeros(vocabulary, dtype=np.int64), 0
    for some in texts():
        counts += np.bincount(np.concatenate(some), minlength=vocabulary)
        read += len(some)
        step.update(read)
    return counts, read


def share_with(texts: Texts, marked: NDArray[np.bool_]) -> float:
    """The share of the texts that have at least one of the marked tokens.

    Args:
        texts: The texts, of which there is one at least.
        marked: Which tokens. `(vocabulary,)`
    """
    having = read = 0
    for some in texts():
        having += sum(bool(marked[ids].any()) for ids in some)
        read += len(some)
    return having / read
