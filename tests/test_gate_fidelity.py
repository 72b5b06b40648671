"""The benchmark of verdicts: what it says of quality, where the truth is known."""

from __future__ import annotations

from pathlib import Path

import pytest


def test_gates_seldom_pass_what_is_worse_or_fail_what_is_not(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    import gate_fidelity

    monkeypatch.setattr(gate_fidelity, "DIFFERING", (0.05,))
    cases = list(gate_fidelity.quality_cases(20))
    assert not gate_fidelity.erring(cases)
    found = {(case.compared, case.rule): case.verdicts for case in cases}
    assert found["0 points worse, 5% of 10000 rows differ", "max_drop 0.02"] == {"pass": 20}
    assert found["1 points worse, 5% of 10000 rows differ", "max_drop 0.005"]["pass"] == 0
    assert found["1 points worse, 5% of 10000 rows differ", "max_drop 0.02"]["pass"] == 20
