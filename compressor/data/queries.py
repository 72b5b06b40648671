"""Rows that are candidates for one query, such as the passages that a search found: what a reranker puts in order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from compressor.data.columns import values
from compressor.errors import Problem, shown

if TYPE_CHECKING:
    from datasets import Dataset

QUERY = "query"
"""Column of rows whose recipe says which are candidates for one query: the column that `data.query` names."""
MOST_RELEVANT = 30.0
"""Largest relevance of a row: nDCG's gain of it, 2^relevance - 1, is a billion."""


def numbers(queries: Iterable[str]) -> NDArray[np.int64]:
    """A number for each row, equal for the rows of one query. `(rows,)`."""
    names = list(queries)  # NumPy's texts would all be as long as the longest, and a query may be one
    known = {name: number for number, name in enumerate(sorted(set(names)))}
    return np.array([known[name] for name in names], dtype=np.int64)


def drawn(queries: Sequence[str], most: int, seed: int) -> list[int]:
    """Indices of at most so many rows: of queries drawn at random, with all of their rows.

    A query without some of its rows would be easier, or would have no relevant row left.

    Args:
        queries: The query of each row.
        most: Rows that are wanted at most.
        seed: Draws the queries.

    Returns:
        In order; none where each query has more rows than wanted.
    """
    sizes = Counter(queries)
    names = sorted(sizes)
    taken, left = set(), most
    for index in np.random.default_rng(seed).permutation(len(names)):
        name = names[index]
        if sizes[name] <= left:
            taken.add(name)
            left -= sizes[name]
    return [index for index, name in enumerate(queries) if name in taken]


def largest(rows: Dataset) -> int:
    """Rows of the query that has most; 0 where rows have no queries."""
    return max(Counter(values(rows, QUERY)).values()) if QUERY in rows.column_names else 0


def problems(rows: Dataset) -> list[Problem]:
    """What keeps rows from being scored as rankings.

    Args:
        rows: Rows with `label`, a number, and `query`.
    """
    relevance = np.asarray(list(map(float, values(rows, "label"))))
    wrong = np.flatnonzero((relevance < 0) | (relevance > MOST_RELEVANT))
    if len(wrong):
        what = f"row {wrong[0] + 1} of the validation rows has the relevance {rows['label'][int(wrong[0])]}"
        hint = f"allowed: from 0, which is irrelevant, to {MOST_RELEVANT:.0f}; data.labels maps others, {{-1: 0}}"
        return [Problem("data.label", what, f"{hint}; or drop data.query", kind="value")]
    query = numbers(values(rows, QUERY))
    hits, sizes = np.bincount(query, relevance > 0), np.bincount(query)
    if not hits.any():
        what = "no validation row is relevant, so there is nothing to rank"
        return [Problem("data.label", what, "a relevant row has a number above 0", kind="value")]
    if (sizes == 1).all():
        what = f"each of the {len(sizes)} queries of the validation rows has one row, so there is nothing to rank"
        return [Problem("data.query", what, "name the column that is equal for all rows of a query", kind="value")]
    return []


def notes(rows: Dataset) -> list[str]:
    """Remarks on the queries of validation rows, for the report.

    Args:
        rows: As of `problems`, which finds none.
    """
    query, relevant = numbers(values(rows, QUERY)), np.asarray(list(map(float, values(rows, "label")))) > 0
    sizes, hits = np.bincount(query), np.bincount(query, relevant)
    found = [f"the {len(rows)} validation rows are of {len(sizes)} queries, {sizes.min()} to {sizes.max()} rows each"]
    if without := int((hits == 0).sum()):
        found.append(f"{without} of {len(sizes)} queries have no relevant row: rankings leave them out")
    if only := int((hits == sizes).sum()):
        found.append(f"{only} of {len(sizes)} queries have relevant rows only: every order of them is right")
    return found


def across(queries: Iterable[str], groups: Iterable[str]) -> Problem | None:
    """The first query whose rows are of several groups, as a problem.

    Args:
        queries: The query of each row.
        groups: What each row belongs to.
    """
    first: dict[str, str] = {}
    for query, group in zip(queries, groups, strict=True):
        if first.setdefault(query, group) != group:
            what = f"the query {shown(query)} has rows of the groups {shown(first[query])} and {shown(group)}"
            return Problem("data.group", what, "all rows of a query are of one group", kind="conflict")
    return None
