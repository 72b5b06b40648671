"""Which matrices stay in float: the order they are tried in, the search, and what a report says of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import WriteRecipe, passing

from compressor.gates.metrics import METRICS
from compressor.quantization.mixed_precision import candidates, fewest
from compressor.quantization.weight_matrices import Matrix
from compressor.tasks import TASKS


def test_the_fewest_that_hold_by_doubling_and_bisection():
    for most in (0, 1, 5, 40):
        for needed in range(most + 1):
            tried = []

            def holds(count: int, needed: int = needed, tried: list[int] = tried) -> bool:
                assert count not in tried, "each is a file that is written and scored"
                tried.append(count)
                return count >= needed

            assert fewest(holds, most) == needed
            assert needed in tried and len(tried) <= 2 + 2 * most.bit_length()
    assert fewest(lambda count: False, 40) is None


def test_what_is_gained_by_hand():
    def matrix(name: str, elements: int, table: bool = False, uses: int = 1) -> Matrix:
        return Matrix(name, name, table, tuple(f"{name}{use}" for use in range(uses)), (), elements)

    every = [matrix("words", 600, table=True), matrix("shared", 100, uses=3), matrix("b", 100), matrix("a", 200)]
    order = candidates(every, every, {"words": 0.3, "shared": 0.1, "b": 0.05, "a": 0.2})
    assert [(found.name, found.multiply_adds, found.size) for found in order] == [
        ("words", 0.0, 0.6),
        ("a", 200 / 600, 0.2),
        ("b", 100 / 600, 0.1),
        ("shared", 0.5, 0.1),
    ]
    assert [found.price for found in order] == pytest.approx([0.5, 0.375, 0.1875, 1 / 6])


def test_of_every_main_metric_more_is_better():
    assert all(METRICS[task.METRICS[0]].kind == "quality" for task in TASKS.values())


def test_a_language_model_and_its_report(write_recipe: WriteRecipe, tmp_path: Path):
    lines = [f"the film was {word} and the plot was {word} too" for word in ("good", "bad", "long", "fine")] * 60
    (tmp_path / "corpus.txt").write_text("\n".join(f"{line} {n % 7} {n % 5}" for n, line in enumerate(lines)))
    train = {"stage": "finetune", "epochs": 1, "batch_size": 16, "learning_rate": 3e-3, "max_sequence_length": 24}

    def run(max_drop: float) -> dict[str, Any]:
        stages = [train, {"stage": "quantize", "accuracy": {"max_drop": max_drop}}]
        return passing(write_recipe, tmp_path, stages, task="masked-lm", data={"corpus": "corpus.txt"})

    def measured() -> dict[str, int]:
        entries = [path / "entry.json" for path in (tmp_path / "artifacts/.store").glob("*")]
        inputs = {path: json.loads(path.read_text())["inputs"] for path in entries if path.is_file()}
        return {
            entry["matrix"]: path.stat().st_mtime_ns
            for path, entry in inputs.items()
            if entry["kind"] == "compressor.quantization.sensitivity"
        }

    found, before = run(0.5), measured()
    told = found["quantize"]["details"]["selection"]
    names = {entry["name"] for entry in told["matrices"]}
    assert {"cls.predictions.decoder", "bert.embeddings.word_embeddings"} <= names == set(before)
    assert all(entry["divergence"] > 0 for entry in told["matrices"])
    scores = {name: entry["measurements"]["accuracy"]["value"] for name, entry in found.items()}
    # Training sequences choose, validation sequences judge: the language model is about as good on both.
    assert told["float"] == pytest.approx(scores["finetune"], abs=0.15)
    assert told["chosen"] >= told["float"] - 0.5
    markdown = (tmp_path / "artifacts/tiny/report.md").read_text()
    assert f"quantize: none of {len(names)} matrices stay in float, so that accuracy drops by at most" in markdown

    found = run(0.0)
    told = found["quantize"]["details"]["selection"]
    assert measured() == before, "nothing is measured again for another limit"
    assert told["chosen"] >= told["float"]
    rows = [line for line in (tmp_path / "artifacts/tiny/report.md").read_text().splitlines() if " | " in line]
    for entry in told["matrices"][: told["kept"]]:
        assert any(row.startswith(f"| {entry['name']} | {entry['divergence']:.2e} |") for row in rows)
