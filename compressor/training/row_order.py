"""The order of training rows: random, with rows of like length together."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

_SORTED_STEPS = 50  # so many steps' rows are put in order of length at a time


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
        lengths: NDArray[np.int64] | None,
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
        order = random.permutation(self._rows)
        if self._queries is not None:
            place = random.permutation(self._queries.max() + 1)
            order = order[np.argsort(place[self._queries[order]], kind="stable")]
        if self._lengths is not None:
            order = self._grouped(order, self._lengths, random)
        return (int(row) for row in order)

    def _grouped(
        self, order: NDArray[np.int64], lengths: NDArray[np.int64], random: np.random.Generator
    ) -> NDArray[np.int64]:
        span = self._together * _SORTED_STEPS
        blocks = [order[start : start + span] for start in range(0, len(order), span)]
        order = np.concatenate([block[np.argsort(lengths[block], kind="stable")] for block in blocks])
        whole = len(order) // self._together * self._together
        batches = random.permutation(order[:whole].reshape(-1, self._together))
        return np.concatenate([batches.ravel(), order[whole:]])  # a batch that is not full can only be the last
