"""Thresholds of labels: chosen by F1, and what configs may say of them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from conftest import save_classifier
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score

from compressor.models import heads, loading, thresholds
from compressor.models.checkpoint import Checkpoint
from compressor.models.convert import from_parts, to_parts
from compressor.training import label_thresholds

MULTI = "multi_label_classification"


def test_the_best_threshold_by_hand():
    scores = np.array([0.1, 0.2, 0.3, 0.4] * 5 + [0.9])
    right = np.array([False, False, True, True] * 5 + [True])
    assert label_thresholds.best(scores, right) == 0.25
    assert label_thresholds.best(np.where(right, 0.8, 0.2), right) == 0.5, "as good as any between 0.2 and 0.8"
    assert label_thresholds.best(scores[:16], right[:16]) == 0.5, "of eight rows nothing is learned"
    assert label_thresholds.best(np.linspace(0.001, 0.004, 40), np.arange(40) > 10) == 0.5, "never below 0.05"


@given(st.integers(0, 10_000))
@settings(max_examples=15, deadline=None)
def test_no_other_threshold_is_better(seed: int):
    random = np.random.default_rng(seed)
    right = random.random(60) < 0.4
    scores = np.clip(random.normal(0.4, 0.2, 60) + 0.2 * right, 0.001, 0.999).round(2)
    chosen = label_thresholds.best(scores, right)
    others = np.arange(label_thresholds.LEAST, label_thresholds.MOST, 0.02)
    found = [f1_score(right, scores > value, zero_division=0) for value in (chosen, *others)]
    assert found[0] >= max(found) - 1e-9 if right.sum() >= label_thresholds.LEAST_ROWS else chosen == 0.5


def classifier(folder: Path, **config: Any) -> Path:
    """A classifier whose config.json says more."""
    path = save_classifier(folder)
    given = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**given, **config}))
    return path


def test_a_checkpoint_is_multi_label_if_its_config_says_so(tmp_path: Path):
    plain, several = Checkpoint(classifier(tmp_path / "a")), Checkpoint(classifier(tmp_path / "b", problem_type=MULTI))
    assert plain.head is heads.SEQUENCE_CLASSIFICATION and several.head is heads.MULTI_LABEL
    assert "no problem_type" in str(plain.fault(heads.MULTI_LABEL))
    assert thresholds.offsets(plain) is thresholds.offsets(several) is None
    tuned = Checkpoint(classifier(tmp_path / "c", problem_type=MULTI, label_thresholds={"positive": 0.2}))
    assert tuned.head is heads.MULTI_LABEL and thresholds.thresholds(tuned) == [0.5, 0.2]
    assert thresholds.offsets(tuned) == pytest.approx([0, math.log(0.2 / 0.8)])
    unused = Checkpoint(classifier(tmp_path / "d", label_thresholds={"positive": 0.2}))
    assert thresholds.offsets(unused) is None, "a single label is the likeliest one"


@pytest.mark.parametrize(
    "wrong", [[0.5, 0.5], {"other": 0.5}, {"positive": 0}, {"positive": 1}, {"positive": "0.5"}, {"positive": True}]
)
def test_thresholds_that_are_none(wrong: Any, tmp_path: Path):
    there = Checkpoint(classifier(tmp_path / "it", problem_type=MULTI, label_thresholds=wrong))
    assert "label_thresholds" in str(there.fault(heads.MULTI_LABEL)) and not there.has_head(heads.MULTI_LABEL)


@pytest.mark.parametrize("family", ["bert", "distilbert", "compact_bert"])
def test_surgery_and_saving_keep_them(family: str, tmp_path: Path):
    path = classifier(tmp_path / "it", problem_type=MULTI, label_thresholds={"positive": 0.2})
    model = from_parts(to_parts(loading.load_model(path)), family)
    loading.save(tmp_path / "again", model, loading.load_tokenizer(path))
    again = Checkpoint(tmp_path / "again")
    assert again.head is heads.MULTI_LABEL and thresholds.thresholds(again) == [0.5, 0.2]


def test_a_student_has_its_teachers_and_a_new_model_none(tmp_path: Path):
    teacher = Checkpoint(classifier(tmp_path / "it", problem_type=MULTI, label_thresholds={"positive": 0.2}))
    student: Any = SimpleNamespace(config=SimpleNamespace(label_thresholds={"negative": 0.7}))
    label_thresholds.follow(student, teacher)
    assert student.config.label_thresholds == {"positive": 0.2}
    label_thresholds.follow(student, None)
    assert not hasattr(student.config, thresholds.KEY)
    label_thresholds.follow(student, Checkpoint(classifier(tmp_path / "other", problem_type=MULTI)))
    assert not hasattr(student.config, thresholds.KEY)
