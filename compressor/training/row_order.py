"""The order of training rows: random, with rows of like length together."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

_SORTED_STEPS = 50  # so many steps' rows are put in order of length at a time
_INDEX = np.uint32  # raw text has millions of rows, and what is kept of each row is memory


class RowOrder(torch.utils.data.Sampler[int]):
    """An order of the rows for each epoch, which depends on the seed and the epoch alone.

    So training that was stopped goes on with the rows it had not seen. Where rows differ in length, rows of like length
    come together: padding falls from about half of the tokens to a few percent. The batches keep a random order.

    Rows of one query follow each other, and only the end of a batch comes between them.

    Args:
        rows: Their number.
        lengths: Their tokens; None where all are equal. `(rows,)`
        together: Rows of one optimizer step.
        seed: Of the run.
        epoch: Asked for the epoch whenever one begins, counted from 0.
        queries: A number for each row, from 0 on, equal for those that follow each other; None where any may. `(rows,)`
    """

    def __init__(
        self,
        rows: int,
        lengths: NDArray[Any] | None,
        together: int,
        seed: int,
        epoch: Callable[[], int],
        queries: NDArray[np.int64] | None = None,
    ) -> None:
        self._rows, self._lengths, self._together, self._seed = rows, lengths, together, seed
        self._epoch, self._queries = epoch, queries
        if queries is not None and lengths is not None:  # as long as the query's longest
            longest = np.zeros(queries.max() + 1, dtype=np.int64)
            np.maximum.at(longest, queries, lengths)
            self._lengths = longest[queries]

    def __len__(self) -> int:
        return self._rows

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng((self._seed, self._epoch()))
        order: NDArray[Any] = np.arange(self._rows, dtype=_INDEX)
        random.shuffle(order)
        if self._queries is not None:
            place = random.permutation(self._queries.max() + 1)
            order = order[np.argsort(place[self._queries[order]], kind="stable")]
        if self._lengths is not None:
            self._group(order, self._lengths, random)
        return (int(row) for row in order)

    def _group(self, order: NDArray[Any], lengths: NDArray[Any], random: np.random.Generator) -> None:
        """Puts rows of like length together, in place."""
        span = self._together * _SORTED_STEPS
        for start in range(0, len(order), span):
            block = order[start : start + span]
            block[:] = block[np.argsort(lengths[block], kind="stable")]
        whole = len(order) // self._together * self._together
        # A batch that is not full can only be the last.
        random.shuffle(order[:whole].reshape(-1, self._together))
