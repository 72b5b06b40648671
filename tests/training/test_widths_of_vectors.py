"""Students whose vectors have another number of dimensions than their teacher's."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from conftest import save_encoder
from running import compress, report_of, stage_of
from safetensors import safe_open
from sentence_recipes import write_recipe

from compressor.models import loading


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_encoder(tmp_path_factory.mktemp("wide"), hidden_size=48, intermediate_size=96, num_attention_heads=3)


@pytest.mark.parametrize(
    ("student", "keys", "dimensions"),
    [
        ("narrower", {"hidden_size": 32, "num_hidden_layers": 2, "dimensions": [32, 8]}, 32),
        ("of its own", {"student": "narrow"}, 32),
        ("wider", {"student": "wider"}, 64),
    ],
)
def test_they_learn_the_teachers_and_ship_without_the_map(
    student: str, keys: dict[str, Any], dimensions: int, tmp_path: Path, wide: Path
):
    if "student" in keys:
        save_encoder(tmp_path / keys["student"], hidden_size=dimensions, num_hidden_layers=2)
    train = {"stage": "distill", "epochs": 6, "batch_size": 16, "learning_rate": 3e-3, "alpha_relation": 0}
    path = write_recipe(tmp_path, wide, [{**train, **keys}, {"stage": "export"}])
    result = compress("run", path.name, "--allow-inconclusive", cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    details = stage_of(report_of(tmp_path), "distill")["details"]
    assert details["vector_projection"] == [dimensions, 48] and details["weights"]["soft"] == 1
    curve = [value for _, value in details["terms"]["soft"]]
    assert curve[-1] < 0.5 * curve[0], curve
    folder = tmp_path / "artifacts" / "tiny" / "model"
    with safe_open(folder / "model.safetensors", "pt") as weights:
        assert not [name for name in weights.keys() if "projection" in name]
    assert json.loads((folder / "1_Pooling" / "config.json").read_text())["word_embedding_dimension"] == dimensions
    inputs = loading.load_tokenizer(folder)("the film was good", return_tensors="pt")
    assert loading.load_model(folder)(**inputs).sentence_embedding.shape == (1, dimensions)
