"""Ranges of activations: what was seen, most of it, or what tells most of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kinds import export, make_model, rows
from scipy.stats import entropy

from compressor.quantization import calibration
from compressor.quantization.spec import CalibrationSpec


def histogram(values: np.ndarray) -> tuple[np.ndarray, float, float]:
    low, high = min(0.0, values.min()), max(0.0, values.max())
    return np.histogram(values, bins=2048, range=(low, high))[0].astype(float), low, high


def test_min_max_is_what_torch_sees(tmp_path: Path):
    model = make_model("bert")
    sample = rows(model)
    seen: dict[str, list[float]] = {}

    def look(name: str):
        return lambda module, given: seen.setdefault(name, []).extend([float(given[0].min()), float(given[0].max())])

    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            module.register_forward_pre_hook(look(name))
    path = export(model, tmp_path)
    seen.clear()
    for inputs in sample:
        with torch.no_grad():
            model(**{name: torch.from_numpy(value) for name, value in inputs.items()})
    found = calibration.ranges(path, sample, CalibrationSpec())
    assert set(found) == set(seen)
    for name, (low, high) in found.items():
        if "layer.3." in name and not name.endswith(("key", "value", "attention.output.dense")):
            # Of the last layer, only the first token is computed. Queries read the same tensor as keys do.
            assert name.endswith("query") or min(seen[name]) - 1e-4 <= low
            assert high <= max(seen[name]) + 1e-4
        elif not name.endswith("attention.output.dense"):  # its input has lost the values' bias
            assert low == pytest.approx(min(*seen[name], 0.0), abs=1e-4)
            assert high == pytest.approx(max(*seen[name], 0.0), abs=1e-4)


def test_percentile_cuts_as_much_on_both_sides():
    low, high = calibration._central(99.0)(*histogram(np.linspace(-1, 3, 100_001)))
    assert low == pytest.approx(-1 + 0.005 * 4, abs=0.003)
    assert high == pytest.approx(3 - 0.005 * 4, abs=0.003)


def test_percentile_leaves_a_lone_outlier_out_and_keeps_zero_in():
    values = np.append(np.random.default_rng(0).uniform(1, 2, 100_000), 50.0)
    low, high = calibration._central(99.9)(*histogram(values))
    assert low == 0
    assert high == pytest.approx(2, abs=0.05)


def test_entropy_cuts_a_long_tail_and_keeps_a_flat_range():
    random = np.random.default_rng(0)
    tail = np.append(random.normal(size=200_000), [-40.0, 40.0])
    low, high = calibration._least_divergence(*histogram(tail))
    assert 2.5 < high < 12
    assert low == pytest.approx(-high, abs=0.1)
    low, high = calibration._least_divergence(*histogram(random.uniform(0, 1, 200_000)))
    assert low == 0
    assert high > 0.95


def test_divergence_is_that_of_the_definition():
    sizes = np.zeros(2048)
    sizes[:256] = np.arange(256, 0, -1)
    sizes[700] = 5
    clipped = sizes[:256].copy()
    clipped[-1] += 5
    coarse = np.repeat(sizes[:256].reshape(128, 2).mean(axis=1), 2)
    assert calibration._divergence(sizes, 256) == pytest.approx(float(entropy(clipped, coarse)))


@pytest.mark.parametrize("how", [{"method": "percentile", "percentile": 95.0}, {"method": "entropy"}])
def test_other_ranges_lie_within_what_was_seen(how: dict[str, Any], tmp_path: Path):
    model = make_model("bert")
    path, sample = export(model, tmp_path), rows(model)
    whole = calibration.ranges(path, sample, CalibrationSpec())
    found = calibration.ranges(path, sample, CalibrationSpec(**how))
    assert set(found) == set(whole)
    assert all(whole[name][0] <= low <= 0 <= high <= whole[name][1] for name, (low, high) in found.items())
    assert any(found[name] != whole[name] for name in found)
