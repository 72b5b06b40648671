"""The benchmark of verdicts: what it says of quality, where the truth is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest


def test_gates_pass_what_is_the_same_and_never_what_is_worse(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    import gate_fidelity

    answers = np.random.default_rng(0).normal(size=(2000, 2)).astype(np.float32)
    same, churned, worse, both = (case.verdicts for case in gate_fidelity.quality_cases(answers, 10))
    assert same == {"pass": 10}
    assert churned["fail"] == 0
    assert worse["pass"] == both["pass"] == 0 and worse["fail"] > both["fail"] > 0
