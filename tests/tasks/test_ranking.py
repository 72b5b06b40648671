"""Rankings of the rows of each query, against values worked out by hand and independent implementations."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from compressor.data.spec import DataSpec
from compressor.gates.rows import Rows
from compressor.measure import formats
from compressor.tasks import TASKS, main_metric, metrics, text_regression
from compressor.tasks.scoring import ranking


def scored(scores: list[float], relevance: list[float], queries: list[int], groups=None) -> dict[str, Rows]:
    return ranking.score(
        np.array(scores, dtype=np.float32), np.array(relevance, dtype=np.float64), np.array(queries), groups
    )


def test_by_hand():
    # Query 7: relevance by score 0, 2, 1: gains 0, 3, 1, so DCG = 3/log2(3) + 1/2, and of the best order 3 + 1/log2(3).
    # Query 3: its relevant row has 0.2, behind 0.9.
    found = scored([0.1, 2.0, 0.9, 0.8, 0.2], [1, 0, 0, 2, 1], [7, 7, 3, 7, 3])
    seventh = (3 / math.log2(3) + 0.5) / (3 + 1 / math.log2(3))
    assert found["mrr_at_10"].value == pytest.approx((1 / 2 + 1 / 2) / 2)
    third = 1 / math.log2(3)
    assert found["ndcg_at_10"].value == pytest.approx((seventh + third) / 2)
    assert found["mrr_at_10"].n == 2


def test_the_eleventh_place_does_not_count():
    scores = list(range(12, 0, -1))
    for place, expected in ((10, 1 / 10), (11, 0.0)):
        relevance = [float(index == place - 1) for index in range(12)]
        found = scored(scores, relevance, [0] * 12)
        assert found["mrr_at_10"].value == pytest.approx(expected)
        assert found["ndcg_at_10"].value == pytest.approx(expected and 1 / math.log2(11))


def test_equal_scores_gain_nothing_wherever_the_relevant_row_is_in_the_file():
    for place in range(5):
        relevance = [float(index == place) for index in range(5)]
        found = scored([0.5] * 5, relevance, [0] * 5)
        assert found["mrr_at_10"].value == pytest.approx(1 / 5)
        assert found["ndcg_at_10"].value == pytest.approx(1 / math.log2(6))


def test_queries_without_a_relevant_row_are_left_out():
    found = scored([1, 2, 3, 4], [0, 0, 1, 0], [0, 0, 1, 1])
    assert found["mrr_at_10"].n == 1 and found["mrr_at_10"].value == 0.5
    nothing = scored([1, 2], [0, 0], [0, 0])["ndcg_at_10"]
    assert math.isnan(nothing.value) and nothing.estimate(0.95).low is None


@pytest.mark.parametrize("broken", [0, 1])
def test_a_score_that_is_not_a_number_wins_nothing(broken: int):
    scores = [1.0, 2.0]
    scores[broken] = math.nan
    found = scored([*scores, 1, 0], [0, 1, 1, 0], [0, 0, 1, 1])
    assert {name: rows.value for name, rows in found.items()} == {"mrr_at_10": 0.5, "ndcg_at_10": 0.5}


QUERIES = st.lists(
    st.lists(st.tuples(st.integers(0, 4), st.integers(-50, 50)), min_size=1, max_size=14, unique_by=lambda row: row[1]),
    min_size=1,
    max_size=8,
)


@given(QUERIES, st.randoms(use_true_random=False))
def test_ndcg_is_sklearns_and_mrr_a_plain_search(given_queries: list[list[tuple[int, int]]], random):
    rows = [(query, *row) for query, found in enumerate(given_queries) for row in found]
    random.shuffle(rows)
    found = scored([row[2] for row in rows], [row[1] for row in rows], [row[0] for row in rows])
    gains, reciprocal = [], []
    for query in given_queries:
        relevance, scores = zip(*query, strict=True)
        if not any(relevance):
            continue
        # sklearn wants two rows at least: one that scores below them all and is irrelevant changes nothing.
        padded = [[*(2.0**value - 1 for value in relevance), 0.0]], [[*scores, -100]]
        gains.append(ndcg_score(*padded, k=10))
        order = [value for value, _ in sorted(query, key=lambda row: -row[1])][:10]
        reciprocal.append(next((1 / place for place, value in enumerate(order, start=1) if value), 0.0))
    if gains:
        assert found["ndcg_at_10"].value == pytest.approx(np.mean(gains))
        assert found["mrr_at_10"].value == pytest.approx(np.mean(reciprocal))


@given(QUERIES)
def test_what_keeps_the_order_keeps_the_score(given_queries: list[list[tuple[int, int]]]):
    rows = [(query, *row) for query, found in enumerate(given_queries) for row in found]
    query, relevance, scores = (np.array(column, dtype=np.float64) for column in zip(*rows, strict=True))
    plain = ranking.score(scores.astype(np.float32), relevance, query.astype(int), None)
    squashed = ranking.score((1 / (1 + np.exp(-scores / 50))).astype(np.float32), relevance, query.astype(int), None)
    for name, found in plain.items():
        np.testing.assert_equal(squashed[name].value, found.value)


def test_queries_are_drawn_and_those_of_one_group_together():
    random = np.random.default_rng(0)
    queries = np.repeat(np.arange(200), 5)
    relevance = np.tile([1.0, 0, 0, 0, 0], 200)
    hard = np.repeat(random.normal(size=20), 50)  # ten queries of a group are hard together
    scores = (relevance * (1 + hard) + random.normal(size=1000)).astype(np.float32)
    alone = ranking.score(scores, relevance, queries, None)["mrr_at_10"].estimate(0.95)
    grouped = ranking.score(scores, relevance, queries, queries // 10)["mrr_at_10"].estimate(0.95)
    assert alone.value == grouped.value
    assert grouped.high - grouped.low > 1.3 * (alone.high - alone.low)


def test_a_pair_is_compared_query_by_query():
    random = np.random.default_rng(1)
    queries, relevance = np.repeat(np.arange(300), 4), np.tile([1.0, 0, 0, 0], 300)
    teacher = (relevance + random.normal(size=1200)).astype(np.float32)
    student = (teacher + random.normal(size=1200) * 0.05).astype(np.float32)
    mine, theirs = (ranking.score(each, relevance, queries, None)["mrr_at_10"] for each in (student, teacher))
    alone, paired = mine.estimate(0.95), mine.drop(theirs, 0.95)
    assert paired.high - paired.low < (alone.high - alone.low) / 2
    same = theirs.drop(theirs, 0.95)
    assert same.value == 0 and same.high == pytest.approx(1 - 0.05 ** (1 / 300), abs=1e-6), "the rule of three"


def test_the_task_ranks_only_where_rows_have_queries():
    answers, values = np.array([[1.0], [2.0], [3.0]], dtype=np.float32), np.array([0.0, 1.0, 2.0])
    references = {"values": values, "groups": np.array([4, 4, 5])}
    plain = formats.scored(answers, text_regression, references, [])
    assert set(plain) == {"spearman"} and plain["spearman"].groups.tolist() == [4, 4, 5]
    found = formats.scored(answers, text_regression, {**references, "queries": np.array([0, 0, 1])}, [])
    assert found["mrr_at_10"].groups.tolist() == [4, 5], "one of each query"
    assert found["spearman"].n == 3 and found["mrr_at_10"].n == 2


def test_the_main_metric_is_a_ranking_where_there_is_one():
    assert metrics("text-regression", DataSpec()) == ("spearman",)
    ranked = metrics("text-regression", DataSpec(query="id"))
    assert set(ranked) == {"spearman", "ndcg_at_10", "mrr_at_10"}
    assert main_metric("text-regression", ranked) == "ndcg_at_10"
    assert main_metric("text-regression", ("spearman",)) == "spearman"
    for name, task in TASKS.items():
        assert main_metric(name, ()) == task.METRICS[0]
