"""Retrieval by cosine, and cosines of pairs, against values worked out by hand and an independent implementation."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import ndcg_score

from compressor.data.spec import DataSpec
from compressor.models.small_vectors import int8_scale
from compressor.tasks import TASKS, main_metric, metrics, sentence_similarity
from compressor.tasks.base import GROUPS
from compressor.tasks.scoring import retrieval
from compressor.tasks.scoring.vectors import score_smaller


def unit(*angles: float) -> np.ndarray:
    return np.array([[math.cos(angle), math.sin(angle)] for angle in angles], dtype=np.float32)


def score(vectors, documents, relevant, grades=None, groups=None):
    of = np.ones(len(relevant)) if grades is None else np.array(grades, dtype=np.float64)
    units = np.arange(len(vectors)) if groups is None else np.array(groups)
    return retrieval.score(vectors, np.array(documents), np.array(relevant), of, units)


def test_by_hand():
    # Rows 0 and 1 are queries. For row 0 the order of documents is 2, 3, 4: its document 3 is second. Row 1 lies on 4.
    found = score(unit(0.0, 1.0, 0.1, 0.3, 1.0), [2, 3, 4], [(0, 3), (1, 4)])
    assert found["recall_at_1"].value == 0.5 and found["recall_at_10"].value == 1.0
    assert found["mrr_at_10"].value == pytest.approx((1 / 2 + 1) / 2)
    assert found["ndcg_at_10"].value == pytest.approx((1 / math.log2(3) + 1) / 2)


def test_recall_is_of_all_documents_that_answer():
    found = score(unit(0.0, 0.1, 0.2, 0.3), [1, 2, 3], [(0, 1), (0, 3)])
    assert found["recall_at_1"].value == 0.5 and found["recall_at_10"].value == 1.0


def test_equal_vectors_gain_nothing():
    for right in (1, 2, 3):
        found = score(unit(0.0, 0.2, 0.2, 0.2), [1, 2, 3], [(0, right)])
        assert found["recall_at_1"].value == 0.0 and found["mrr_at_10"].value == pytest.approx(1 / 3)


def test_what_is_not_a_number_finds_nothing_and_is_not_found():
    vectors = unit(0.0, 0.1, 0.2, 0.3)
    vectors[1] = np.nan
    assert score(vectors, [1, 2, 3], [(0, 1)])["mrr_at_10"].value == pytest.approx(1 / 3)
    vectors[0] = np.nan
    assert score(vectors, [1, 2, 3], [(0, 2)])["recall_at_10"].value == 0.0


def test_graded_relevance_is_scikit_learns():
    random = np.random.default_rng(0)
    vectors = random.normal(size=(60, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    documents, expected, relevant, grades = range(20, 60), [], [], []
    for query in range(20):
        chosen = random.permutation(np.arange(20, 60))[:7]
        given = random.integers(1, 4, 7).astype(float)
        relevant += [(query, document) for document in chosen]
        grades += given.tolist()
        truth = np.zeros(60)
        truth[chosen] = given
        expected.append(ndcg_score([truth[20:]], [(vectors[query] @ vectors.T)[20:]], k=10))
    found = score(vectors, documents, relevant, grades)
    assert found["ndcg_at_10"].value == pytest.approx(np.mean(expected), abs=1e-6)


def test_queries_of_one_document_are_one_group():
    vectors = unit(*np.linspace(0, 1, 12))
    relevant = [(query, 8 + query % 4) for query in range(8)]
    alone = score(vectors, range(8, 12), relevant)["mrr_at_10"].estimate(0.95)
    together = score(vectors, range(8, 12), relevant, groups=[q % 2 for q in range(12)])["mrr_at_10"].estimate(0.95)
    assert together.low is None or together.low <= alone.low


def test_pairs_are_ranked_by_cosine():
    random = np.random.default_rng(1)
    vectors, values = random.normal(size=(40, 6)).astype(np.float32), random.integers(0, 6, 20).astype(np.float64)
    pairs = np.arange(40).reshape(20, 2)
    none = np.zeros((0, 2), dtype=np.int64)
    references = {"scored": pairs, "scores": values, "documents": none[:, 0], "relevant": none, "grades": values[:0]}
    found = sentence_similarity.score(vectors, {**references, GROUPS: np.arange(40)}, ())
    cosines = [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in vectors.reshape(20, 2, 6)]
    assert found.keys() == {"spearman"}
    assert found["spearman"].value == pytest.approx(spearmanr(cosines, values).statistic, abs=1e-6)


def test_which_metrics_are_measured():
    name, every = sentence_similarity.NAME, TASKS[sentence_similarity.NAME].METRICS
    pairs = {"train": "a.csv", "text_pair": "b"}
    assert metrics(name, DataSpec(**pairs, score="s")) == ("spearman",)
    assert metrics(name, DataSpec(**pairs)) == every[1:]
    assert metrics(name, DataSpec(**pairs, score="s", retrieval="r.json")) == every
    assert metrics(name, DataSpec(corpus="c.txt", retrieval="r.json")) == every[1:]
    assert main_metric(name, ["spearman"]) == "spearman" and main_metric(name, every) == "ndcg_at_10"


def smaller(vectors: np.ndarray, references: dict[str, np.ndarray], *metrics: str) -> dict[str, float]:
    return {name: rows.value for name, rows in score_smaller(vectors, references, metrics).items()}


def test_smaller_vectors_are_ranked_by_distances_of_their_bits_and_by_products_of_integers():
    random = np.random.default_rng(2)
    vectors = random.normal(size=(50, 48)).astype(np.float32)
    pairs, documents = np.arange(40).reshape(20, 2), np.arange(20, 50)
    relevant = np.stack([np.arange(20), random.permutation(documents)[:20]], axis=1)
    references = {
        **{"scored": pairs, "scores": random.integers(0, 6, 20).astype(np.float64), GROUPS: np.arange(50)},
        **{"documents": documents, "relevant": relevant, "grades": np.ones(20)},
    }
    bits = np.packbits(vectors[:, :24] > 0, axis=1)
    distances = np.unpackbits(bits[:, None] ^ bits[None], axis=2).sum(axis=2)
    units = vectors[:, :24] / np.linalg.norm(vectors[:, :24], axis=1, keepdims=True)
    integers = np.rint(units / np.float32(int8_scale(24))).clip(-127, 127).astype(np.int64)
    for form, similar in (("24,binary", -distances.astype(np.int64)), ("24,int8", integers @ integers.T)):
        others = [np.delete(similar[query, 20:], document - 20) for query, document in relevant]
        firsts = [
            similar[query, document] > rest.max() for (query, document), rest in zip(relevant, others, strict=True)
        ]
        expected = spearmanr(similar[pairs[:, 0], pairs[:, 1]], references["scores"]).statistic
        found = smaller(vectors, references, f"recall_at_1[{form}]", f"spearman[{form}]", "spearman", "f1[x]")
        assert found == {
            f"recall_at_1[{form}]": pytest.approx(np.mean(firsts)),
            f"spearman[{form}]": pytest.approx(expected, abs=1e-9),
        }
    whole = sentence_similarity.score(vectors, references, ())["spearman"].value
    assert smaller(vectors, references, "spearman[48]", "spearman[49]") == {"spearman[48]": pytest.approx(whole)}


def test_a_vector_that_is_not_a_number_leaves_the_ranks_of_others():
    vectors = unit(0.0, 0.1, 0.0, 0.5, 0.0, 1.0, 0.0, 0.0)
    vectors[7] = np.nan
    none = np.zeros((0, 2), dtype=np.int64)
    references = {"scored": np.arange(8).reshape(4, 2), "scores": np.array([3.0, 2, 1, 0]), GROUPS: np.arange(8)}
    references |= {"documents": none[:, 0], "relevant": none, "grades": np.zeros(0)}
    assert sentence_similarity.score(vectors, references, ())["spearman"].value == pytest.approx(1)
