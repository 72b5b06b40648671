"""Limits that a gate could never meet, or never miss, are refused; those that make sense are not."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import WriteRecipe
from problems import refused

from compressor.recipe import resolve

PLACE = "stages[0] (finetune).gates"


def stages(metric: str, rule: str, limit: Any) -> list[dict[str, Any]]:
    return [{"stage": "finetune", "gates": {metric: {rule: limit}}}]


@pytest.mark.parametrize(
    ("metric", "rule", "limit"),
    [
        ("accuracy", "min", 95),
        ("accuracy", "min", -1),
        ("accuracy", "max", 1.5),
        ("accuracy", "max_drop", 5),
        ("accuracy", "max_drop", -2),
        ("accuracy", "min_retention", 97),
        ("accuracy", "min_retention", 0),
        ("matthews_correlation", "min", -1.5),
        ("latency_p50_ms", "min_speedup", -1),
        ("latency_p50_ms", "min_speedup", 0),
        ("latency_p50_ms", "max", 0),
        ("size_bytes", "max", -5),
        ("size_bytes", "max_ratio", 0),
        ("quantized_coverage", "min", 95),
    ],
)
def test_a_gate_that_could_never_hold_or_never_fail_is_refused(
    write_recipe: WriteRecipe, metric: str, rule: str, limit: float
):
    with refused(f"{PLACE}.{metric}.{rule}", "value"):
        resolve.resolve(write_recipe(stages=stages(metric, rule, limit)))


@pytest.mark.parametrize("limit", [".nan", ".inf", "-.inf"])
def test_a_limit_is_a_finite_number(write_recipe: WriteRecipe, limit: str):
    path = write_recipe(stages=stages("accuracy", "min", 0.5))
    path.write_text(path.read_text().replace("min: 0.5", f"min: {limit}"))
    assert limit in path.read_text()
    with refused(f"{PLACE}.accuracy.min", "value"):
        resolve.resolve(path)


@pytest.mark.parametrize(
    ("metric", "rule", "limit"),
    [
        ("accuracy", "min", 0),
        ("accuracy", "min", 1),
        ("accuracy", "max_drop", -0.01),
        ("accuracy", "min_retention", 1.05),
        ("matthews_correlation", "min", -0.2),
        ("latency_p50_ms", "min_speedup", 0.5),
        ("latency_p50_ms", "max_ratio", 3),
        ("size_bytes", "max", 1),
        ("num_parameters", "min", 0),
    ],
)
def test_a_limit_that_makes_sense_is_taken(write_recipe: WriteRecipe, metric: str, rule: str, limit: float):
    resolve.resolve(write_recipe(stages=stages(metric, rule, limit)))
