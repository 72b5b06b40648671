"""A small part of `benchmarks/flips.py`: flipped bytes of a published run and of its store are found."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest


def test_flipped_bytes_are_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "benchmarks"))
    import flips

    random, run = Random(0), flips.make_run(tmp_path)
    assert flips.published(run, 60, random) == []
    assert flips.stored(tmp_path / "artifacts" / ".store", 60, random) == []
    assert flips.rebuilt(tmp_path, random) == []
