"""Multi-label answers: scores against scikit-learn, losses by hand, and what rows become."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from conftest import make_tokenizer
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st
from problems import refused
from sklearn.metrics import accuracy_score, average_precision_score, f1_score
from torch.nn import functional

from compressor.data.spec import DataSpec
from compressor.tasks import multi_label as task
from compressor.tasks.scoring import per_label
from compressor.tasks.scoring.average_precision import average_precision
from compressor.training import task_losses

NAMES = ["a", "b", "c"]
LOGITS = np.array([[2.0, -1.0, 0.5], [-0.5, 1.0, -3.0], [0.1, -2.0, -0.2], [-1.0, -1.0, -1.0]], dtype=np.float32)
RIGHT = np.array([[1, 0, 0], [1, 1, 0], [1, 0, 1], [0, 0, 0]], dtype=bool)


def test_scores_by_hand():
    found = task.score(LOGITS, {"labels": RIGHT}, NAMES)
    # Given are a and c, b, a, nothing: four, of which three are right. The rows have five.
    assert found["f1_micro"].value == pytest.approx(2 * 3 / (4 + 5))
    assert found["f1_macro"].value == pytest.approx((4 / 5 + 1 + 0) / 3)
    assert found["exact_match"].value == 0.25 and found["exact_match"].binomial
    # a: its three rows rank first, second and third: 1/1, 2/2, 3/3; b: 1; c: its only row ranks second.
    assert found["average_precision"].value == pytest.approx((1 + 1 + 1 / 2) / 3)
    asked = ["recall[a]", "precision[a]", "f1[c]", "recall[c]", "f1[b]"]
    single = per_label.score(task, LOGITS, {"labels": RIGHT}, NAMES, asked)
    assert [single[name].value for name in asked] == pytest.approx([2 / 3, 1, 0, 0, 1])


@given(st.integers(0, 10_000), st.integers(1, 40), st.integers(2, 6))
@settings(max_examples=60, deadline=None)
def test_scores_are_those_of_scikit_learn(seed: int, rows: int, labels: int):
    random = np.random.default_rng(seed)
    logits = random.normal(size=(rows, labels)).round(1).astype(np.float32)  # with ties
    right = random.random((rows, labels)) < random.random(labels)
    found = {
        name: value.value for name, value in task.score(logits, {"labels": right}, list("abcdef")[:labels]).items()
    }
    given = logits > 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of labels that no row has
        assert found["f1_micro"] == pytest.approx(f1_score(right, given, average="micro", zero_division=0))
        macro = f1_score(right, given, average="macro", zero_division=np.nan)
        assert found["f1_macro"] == pytest.approx(np.nan_to_num(macro))
        there = right.any(axis=0)
        precision = average_precision_score(right[:, there], logits[:, there]) if there.any() else math.nan
    assert found["exact_match"] == pytest.approx(accuracy_score(right, given))
    assert found["average_precision"] == pytest.approx(precision, nan_ok=True)


def test_the_derivative_of_average_precision_is_that_of_its_weighted_form():
    random = np.random.default_rng(1)
    right = random.random((80, 1)) < 0.3
    scores = (random.normal(size=(80, 1)) + right).round(1).astype(np.float32)
    ones, step = np.ones(80), 1e-5
    statistics = np.asarray(average_precision(scores, right).statistics)
    for row in range(0, 80, 9):
        more, less = (ones + sign * step * (np.arange(80) == row) for sign in (1, -1))
        both = [average_precision_score(right[:, 0], scores[:, 0], sample_weight=weights) for weights in (more, less)]
        assert statistics[row, 1] == pytest.approx((both[0] - both[1]) / (2 * step), abs=1e-6)


def test_bounds_of_average_precision_hold_as_often_as_they_say():
    def drawn(rows: int, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        right = random.random((rows, 3)) < [0.5, 0.3, 0.2]
        return (random.normal(size=(rows, 3)) + 1.5 * right).astype(np.float32), right

    random = np.random.default_rng(0)
    scores, right = drawn(200_000, random)
    truth = average_precision_score(right, scores)
    bounds = [average_precision(*drawn(200, random)).estimate(0.95) for _ in range(50)]
    # 95 % each, less what three standard errors of 50 trials are.
    assert np.mean([bound.low <= truth for bound in bounds]) >= 0.85
    assert np.mean([bound.high >= truth for bound in bounds]) >= 0.85
    assert np.mean([bound.high - bound.low for bound in bounds]) < 0.2


def test_numbers_that_are_none_rank_last():
    scores = np.array([[np.nan], [1.0], [0.0]], dtype=np.float32)
    assert average_precision(scores, np.array([[False], [True], [True]])).value == 1
    assert average_precision(scores, np.array([[True], [False], [False]])).value == pytest.approx(1 / 3)
    assert task.score(scores, {"labels": np.ones((3, 1), dtype=bool)}, ["a"])["f1_micro"].value == pytest.approx(1 / 2)
    none = task.score(scores, {"labels": np.zeros((3, 1), dtype=bool)}, ["a"])
    assert none["exact_match"].value == pytest.approx(1 / 3), "the row without a number is not one without labels"


HEAD = torch.tensor([[1.5, -0.5], [0.2, 2.0]])
TEACHER = torch.tensor([[1.0, -1.0], [-0.3, 1.0]])
BATCH = {"labels": torch.tensor([[1, 0], [1, 1]]), "teacher_logits": TEACHER}


def test_the_loss_of_labels_is_binary_cross_entropy():
    expected = functional.binary_cross_entropy_with_logits(HEAD, BATCH["labels"].float())
    assert torch.allclose(task_losses.hard_loss(task, HEAD, BATCH), expected)
    by_hand = sum(math.log1p(math.exp(z)) for z in (-1.5, -0.5, -0.2, -2.0)) / 4
    assert float(task_losses.hard_loss(task, HEAD, BATCH)) == pytest.approx(by_hand)
    assert int(task_losses.items(task, BATCH)) == 4


@pytest.mark.parametrize("temperature", [1.0, 2.5])
def test_the_loss_of_a_teacher_is_the_divergence_of_bernoulli_distributions(temperature: float):
    by_hand = 0.0
    for teacher, student in zip(TEACHER.flatten().tolist(), HEAD.flatten().tolist(), strict=True):
        p, q = (1 / (1 + math.exp(-z / temperature)) for z in (teacher, student))
        by_hand += p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))
    found = task_losses.soft_loss(task, HEAD, BATCH, temperature)
    assert float(found) == pytest.approx(temperature**2 * by_hand / 4, abs=1e-6)
    assert float(task_losses.soft_loss(task, TEACHER, BATCH, temperature)) == pytest.approx(0, abs=1e-6)


def test_rows_become_indicators_of_every_label_of_the_head():
    ids = task.label_ids(["b", "a"], ["a", "other", "B"])
    assert ids == {"a": 0, "other": 1, "B": 2, "b": 2}
    rows = Dataset.from_dict({"text": ["good", "bad", "film"], "label": [["b", "a"], [], ["b"]]})
    encoded = task.encode(rows, make_tokenizer(), 8, ids, DataSpec())
    assert encoded["labels"][:] == [[1, 0, 1], [0, 0, 0], [0, 0, 1]]
    assert task.references(rows, encoded, ids, rows)["labels"].sum() == 3
    with refused("data.label", "unknown"):
        task.label_ids(["a", "c"], ["a", "b"])
