"""A teacher reads the training rows once for all the stages of a recipe that learn from it."""

from __future__ import annotations

import json
from pathlib import Path

from conftest import WriteRecipe, compress

SHORT = {"batch_size": 16, "learning_rate": 1e-3, "max_sequence_length": 24, "max_steps": 2}


def test_the_teacher_reads_the_rows_once(tmp_path: Path, classifier: Path, write_recipe: WriteRecipe):
    stages = [
        {"stage": "distill", "num_hidden_layers": 2, "architecture": "bert", **SHORT},
        {"stage": "prune", "ffn": 0.5, **SHORT},
    ]
    result = compress("run", write_recipe(stages=stages, model=str(classifier)), cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    entries = [json.loads(path.read_text(encoding="utf-8")) for path in tmp_path.glob("artifacts/.store/*/entry.json")]
    found = [e["inputs"] for e in entries if e["inputs"]["kind"] == "compressor.training.teacher_outputs"]
    assert [inputs["hidden"] for inputs in found] == [[1, 3]], "logits for the first, hidden states for the second"
