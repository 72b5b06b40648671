"""Rankings: how far up the relevant rows of a query are when its rows are in order of their scores."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from compressor.gates.estimate import Floats
from compressor.gates.rows import Rows

DEPTH = 10
"""Places of a ranking that count."""


def score(
    scores: NDArray[np.float32],
    relevance: NDArray[np.float64],
    queries: NDArray[np.int64],
    groups: NDArray[np.int64] | None,
) -> dict[str, Rows]:
    """`ndcg_at_10` and `mrr_at_10`: means over the queries that have a relevant row.

    Of rows with equal scores the less relevant ones come first, so that no model gains by equal scores, and the order
    of the rows in the file does not matter. A query with a score that is not a number counts 0.

    Args:
        scores: The model's number of each row, the highest first. `(rows,)`.
        relevance: From 0, which is irrelevant; of yes and no, 0 and 1. `(rows,)`.
        queries: A number for each row, equal for the rows of one query. `(rows,)`.
        groups: A number for each row, equal for rows that belong together, of whole queries; None where each query
            stands for itself. `(rows,)`.

    Returns:
        Evidence over queries, whose bounds draw groups of them.

    Source: Järvelin & Kekäläinen 2002, "Cumulated gain-based evaluation of IR techniques", with the gain 2^relevance -
    1 and the discount 1 / log2(place + 1) of Burges et al. 2005, "Learning to rank using gradient descent", section 6;
    Voorhees 1999, "The TREC-8 question answering track report", for the reciprocal rank.
    """
    _, first, query, sizes = np.unique(queries, return_index=True, return_inverse=True, return_counts=True)
    place = np.arange(len(query)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    by_score = np.lexsort((relevance, -scores, query))
    best = np.lexsort((-relevance, query))
    gain, whose = 2.0**relevance - 1, query[best]
    discount = np.where(place < DEPTH, 1 / np.log2(place + 2), 0.0)
    found, ideal = (np.bincount(whose, gain[order] * discount) for order in (by_score, best))
    reciprocal = np.where((relevance[by_score] > 0) & (place < DEPTH), 1 / (place + 1), 0.0)
    highest = np.maximum.reduceat(reciprocal, np.cumsum(sizes) - sizes)
    ranked, broken = ideal > 0, np.bincount(query, np.isnan(scores)) > 0
    units = first if groups is None else groups[first]
    values = {
        "ndcg_at_10": np.divide(found, ideal, out=np.zeros_like(found), where=ranked & ~broken),
        "mrr_at_10": np.where(broken, 0.0, highest),
    }
    return {name: _mean(value[ranked], units[ranked]) for name, value in values.items()}


def _mean(values: Floats, groups: NDArray[np.int64]) -> Rows:
    """The mean over queries, of which resamples of groups have different numbers; not a number of none."""
    if not len(values):
        return Rows(np.zeros((1, 2)), lambda sums: np.full(sums.shape[:-1], np.nan), groups=np.zeros(1, dtype=np.int64))
    return Rows(
        np.stack([values, np.ones(len(values))], axis=1), lambda sums: sums[..., 0] / sums[..., 1], groups=groups
    )
