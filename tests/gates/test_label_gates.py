"""Gates of single labels: their names, values by hand, and the worst of all labels."""

from __future__ import annotations

import math

import numpy as np
import pytest

from compressor.gates.judge import comparisons, judge_measured
from compressor.gates.metrics import is_metric, metric_of
from compressor.gates.rows import Rows
from compressor.gates.spec import Gate
from compressor.tasks import text_classification, text_regression, token_classification
from compressor.tasks.scoring import per_label

LABELS = ["cat", "dog", "owl", "yak"]
TAGS = ["O", "B-a", "I-a", "S-b.c"]


def test_a_name_has_a_file_a_metric_and_a_label_that_may_be_anything():
    metric = metric_of("torchscript.recall[U.S. state [old]]")
    assert (metric.form, metric.base, metric.label) == ("torchscript", "recall", "U.S. state [old]")
    assert metric.name == "recall[U.S. state [old]]" and metric.kind == "quality" and metric.range == (0, 1)
    assert metric_of("f1").label == "" and metric_of("f1[x]").label == "x"
    for wrong in ("recall", "recall[]", "recall[x", "accuracy[x]", "latency_p50_ms[x]", "[x]", ""):
        assert not is_metric(wrong)


def logits(given: list[int]) -> np.ndarray:
    return np.eye(len(LABELS), dtype=np.float32)[given]


def values(answers: np.ndarray, references: dict[str, np.ndarray], task, labels: list[str], *names: str) -> list[float]:
    found = per_label.score(task, answers, references, labels, names)
    return [found[name].value for name in names]


def test_classes_by_hand():
    right, given = [0, 0, 0, 1, 1, 2], [0, 0, 1, 1, 0, 0]
    asked = [f"{base}[{label}]" for base in ("precision", "recall", "f1") for label in ("cat", "dog", "owl", "yak")]
    found = values(logits(given), {"labels": np.array(right)}, text_classification, LABELS, *asked)
    expected = [2 / 4, 1 / 2, math.nan, math.nan, 2 / 3, 1 / 2, 0, math.nan, 4 / 7, 1 / 2, 0, math.nan]
    assert found == pytest.approx(expected, nan_ok=True)


def test_types_of_entities_by_hand():
    right = np.array([[1, 2, 0, 3], [3, 0, 1, -1]])  # a:0-2, b.c:3 and b.c:0, a:2
    given = np.array([[1, 0, 0, 3], [0, 0, 1, -1]], dtype=np.float32)  # a:0-1, b.c:3 and a:2
    names = ["recall[a]", "precision[a]", "recall[b.c]", "precision[b.c]", "f1[b.c]"]
    found = values(given, {"tags": right}, token_classification, TAGS, *names)
    assert found == pytest.approx([1 / 2, 1 / 2, 1 / 2, 1, 2 / 3])
    assert token_classification.scored_labels(TAGS) == ("a", "b.c")


def test_tasks_without_labels_have_none():
    assert per_label.names_of(text_regression, []) == ()
    assert per_label.score(text_regression, np.zeros((1, 1)), {}, [], ["f1[x]"]) == {}
    assert per_label.expanded("recall[*]", LABELS) == [f"recall[{label}]" for label in LABELS]


def measured(right: np.ndarray, given: np.ndarray) -> dict[str, Rows]:
    names = per_label.expanded("recall[*]", LABELS)
    found = per_label.score(text_classification, logits(list(given)), {"labels": right}, LABELS, names)
    return found


def test_the_worst_label_decides_and_is_named():
    right = np.repeat([0, 1, 2], 400)
    given = right.copy()
    given[400:440] = 0  # 10 % of the dogs
    evidence, teacher = measured(right, given), measured(right, right)
    (result,) = judge_measured("recall[*]", Gate(min=0.95), evidence, {})
    assert (result.metric, result.label, result.verdict) == ("recall[*]", "dog", "fail")
    assert result.observed == pytest.approx(0.9) and result.subject == "recall[*] (dog)"
    (result,) = judge_measured("recall[*]", Gate(min=0.8), evidence, {})
    assert (result.label, result.verdict) == ("dog", "pass"), "the others are further from the limit"
    (result,) = judge_measured("recall[*]", Gate(max_drop=0.05), evidence, {"baseline": teacher})
    assert (result.label, result.verdict) == ("dog", "fail")
    (result,) = judge_measured("recall[owl]", Gate(max_drop=0.05), evidence, {"baseline": teacher})
    assert (result.label, result.verdict) == (None, "pass")


def test_labels_without_rows_do_not_decide_unless_there_are_no_others():
    right = np.repeat([0, 1], 200)
    evidence = measured(right, right)
    (result,) = judge_measured("recall[*]", Gate(min=0.9), evidence, {})
    assert result.verdict == "pass", "no row is of an owl or a yak"
    (result,) = judge_measured("recall[yak]", Gate(min=0.9), evidence, {})
    assert result.verdict == "inconclusive" and result.unbounded
    only = {name: evidence[name] for name in ("recall[owl]", "recall[yak]")}
    assert judge_measured("recall[*]", Gate(min=0.9), only, {})[0].verdict == "inconclusive"


def test_a_few_rows_of_a_label_are_little_evidence_however_many_others_there_are():
    right = np.zeros(5000, dtype=np.int64)
    right[:10] = 1
    low = measured(right, right)["recall[dog]"].estimate(0.95).low
    assert low is not None and 0.6 < low < 0.8, "the rule of three: up to 3 of 10 may be wrong"


def test_rows_that_add_nothing_to_a_score_are_evidence_all_the_same():
    wrong = Rows(np.zeros((1000, 1)), lambda sums: np.asarray(sums[..., 0] / 1000)).estimate(0.95)
    assert wrong.value == 0 and wrong.high is not None and wrong.high < 0.004, "all 1,000 answers are wrong"


def test_every_label_is_a_comparison():
    gates = [{"recall[*]": Gate(min=0.5, max_drop=0.1), "f1": Gate(min=0.5), "size_bytes": Gate(max=1)}]
    assert comparisons(gates, 12) == 2 * 12 + 1
