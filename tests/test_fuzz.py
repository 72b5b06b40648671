"""A small, seeded part of benchmarks/fuzz.py: no traceback, no hang, nothing wrong passes, nothing valid is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import save_encoder, sentences, write_rows


def test_mutated_inputs_are_refused_clearly_or_accepted_rightly(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    import fuzz
    import yaml

    save_encoder(tmp_path / "model")
    for seed, name in enumerate(("train", "dev")):
        write_rows(tmp_path / f"{name}.tsv", sentences(60, seed))
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(fuzz.RECIPE, sort_keys=False))
    cases = list(fuzz.fuzz(tmp_path, 40, 0, seed=17))
    assert {case.mutation.what for case in cases} == {"recipe", "data", "checkpoint"}
    faults = [
        (case.outcome, case.mutation.name, case.seed, case.output) for case in cases if case.outcome in fuzz.FAULTS
    ]
    assert faults == []
    assert {case.outcome for case in cases} == {fuzz.CLEAR, fuzz.PASSED}
