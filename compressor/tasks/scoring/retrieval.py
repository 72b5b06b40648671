"""Retrieval: how far up the documents that answer a query are, when all are in order of their similarity to it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from compressor.gates.estimate import Floats
from compressor.gates.rows import Rows
from compressor.tasks.scoring.ranking import DEPTH

METRICS = ("ndcg_at_10", "mrr_at_10", "recall_at_1", "recall_at_10")
_AT_ONCE = 256
"""Queries whose products with all documents are in memory at a time."""
_NEVER = -1e30
"""Below every product."""


def score(
    vectors: NDArray[np.float32],
    documents: NDArray[np.int64],
    relevant: NDArray[np.int64],
    grades: NDArray[np.float64],
    groups: NDArray[np.int64],
) -> dict[str, Rows]:
    """Means over queries: recall among the first and the first ten documents, reciprocal rank and discounted gain.

    Of documents with equal similarities, one that answers comes last, so that no model gains by equal vectors. A vector
    that is not a number finds nothing, and nothing is found by it.

    Args:
        vectors: Of all rows; the product of two is their similarity, of vectors of length 1 the cosine. `(rows,
            dimensions)`
        documents: Rows of the documents. `(documents,)`
        relevant: Row of a query, and row of a document that answers it. `(n, 2)`
        grades: How well it does, above 0. `(n,)`
        groups: A number for each row, equal for rows that belong together. `(rows,)`

    Source: Thakur et al. 2021, "BEIR", section 3 (trec_eval's gain, which is the grade itself); recall counts the
    documents that answer a query and are among the first k, and divides them by all of them.
    """
    place = np.full(len(vectors), -1)
    place[documents] = np.arange(len(documents))
    queries, query = np.unique(relevant[:, 0], return_inverse=True)
    found = np.zeros((len(METRICS), len(queries)))
    searched = np.nan_to_num(vectors[documents], nan=0.0)
    broken = np.isnan(vectors[documents]).any(axis=1)
    for start in range(0, len(queries), _AT_ONCE):
        chosen = queries[start : start + _AT_ONCE]
        products = np.nan_to_num(vectors[chosen], nan=0.0) @ searched.T
        products[:, broken] = _NEVER
        gains = np.zeros_like(products, dtype=np.float64)
        own = (query >= start) & (query < start + len(chosen))
        gains[query[own] - start, place[relevant[own, 1]]] = grades[own]
        lost = np.isnan(vectors[chosen]).any(axis=1)
        found[:, start : start + len(chosen)] = np.where(lost, 0.0, _of_queries(products, gains))
    units = groups[queries]
    return {name: _mean(values, units) for name, values in zip(METRICS, found, strict=True)}


def _of_queries(products: NDArray[np.float32], gains: Floats) -> Floats:
    """Each metric of each query. `(metrics, queries)`."""
    depth = min(DEPTH, products.shape[1])
    first = np.take_along_axis(gains, _first(products, gains > 0, depth), axis=1)
    hits, every = first > 0, (gains > 0).sum(axis=1)
    discount = 1 / np.log2(np.arange(depth) + 2)
    best = -np.partition(-gains, depth - 1, axis=1)[:, :depth]
    ideal = -np.sort(-best, axis=1) @ discount
    reciprocal = (hits / (np.arange(depth) + 1)).max(axis=1)
    return np.stack([first @ discount / ideal, reciprocal, hits[:, 0] / every, hits.sum(axis=1) / every])


def _first(products: NDArray[np.float32], answers: NDArray[np.bool_], depth: int) -> NDArray[np.int64]:
    """The first documents of each query, those that answer behind others as similar. `(queries, depth)`."""
    # A step down to the next number: below all equal products, above all smaller ones.
    lowered = np.where(answers, np.nextafter(products, np.float32(-np.inf)), products)
    candidates = np.argpartition(-lowered, depth - 1, axis=1)[:, :depth]
    order = np.argsort(-np.take_along_axis(lowered, candidates, axis=1), axis=1, kind="stable")
    return np.take_along_axis(candidates, order, axis=1)


def _mean(values: Floats, groups: NDArray[np.int64]) -> Rows:
    return Rows(
        np.stack([values, np.ones(len(values))], axis=1), lambda sums: sums[..., 0] / sums[..., 1], groups=groups
    )
