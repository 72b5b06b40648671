"""Recipes that prune what cannot be pruned are refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import WriteRecipe
from prune_stages import TEACHER
from running import compress


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ({}, "nothing to remove; give at least one of heads, ffn, layers"),
        ({"heads": 1.0}, "heads: is 1.0, must be less than 1"),
        ({"heads": 0.9}, "heads: is 0.9; of 4 it would not leave one head in each layer; at most 0.75"),
        ({"ffn": -0.1}, "ffn: is -0.1, must be at least 0"),
        ({"ffn": 0.95}, "ffn: is 0.95; of 64 it would not leave eight neurons in each layer; at most 0.875"),
        ({"layers": [4]}, "layers: there is no layer 4; 4 layers come in; allowed: 0 to 3"),
        ({"layers": 4}, "layers: removes 4 of 4 layers; at most 3"),
        ({"layers": [0, 1, 2, 3]}, "layers: removes 4 of 4 layers; at most 3"),
        ({"heads": 0.5, "scoring": "gradient"}, "allowed: taylor, magnitude, random"),
        ({"heads": 0.5, "alpha_attention": 1.0}, "the student has 2 heads and the teacher 4"),
        ({"layers": 2, "layer_map": [0, 1, 2, 3]}, "the student has 2 layers, the teacher 4"),
        ({"layers": 1, "steps": 2}, "steps removes heads and neurons bit by bit; give heads, ffn or target"),
        ({"heads": 0.5, "steps": 2, "epochs": 0}, "steps is 2, but with 0 epochs nothing is learned in between"),
        ({"sparsity": 1.0}, "sparsity: is 1.0, must be less than 1"),
        ({"sparsity": 0.5, "pattern": "2:4"}, "sparsity and pattern are both given; keep one"),
        ({"pattern": "4:2"}, "pattern is 4:2: N of every M weights stay, so N must be less than M"),
        ({"pattern": "half"}, "pattern: is 'half'"),
        ({"target": {}}, "target: give one of num_parameters, size_bytes, latency_p50_ms"),
        ({"target": {"latency": 3}}, "did you mean 'latency_p50_ms'?"),
        ({"target": {"size_bytes": 9}, "ffn": 0.5}, "target finds the shares of heads and ffn; drop them"),
        ({"vocabulary": {}}, "vocabulary: give one of keep and min_count"),
        ({"vocabulary": {"keep": 9, "min_count": 2}}, "vocabulary: give one of keep and min_count"),
        ({"vocabulary": {"keep": 20}}, "keep: is 20; but special tokens and single characters stay; at least 57"),
        ({"vocabulary": {"keep": 99}}, "keep: is 99, but there are 86 tokens; at most 86"),
        ({"vocabulary": {"keep": 60, "corpus": "no.txt"}}, "vocabulary.corpus: there is no file"),
        ({"vocabulary": {"keep": 60, "corpus": {"source": "dev.tsv"}}}, "corpus.text: dev.tsv has no column 'text'"),
    ],
)
def test_mistakes(write_recipe: WriteRecipe, tmp_path: Path, stage: dict, message: str):
    result = compress("validate", write_recipe(stages=[TEACHER, {"stage": "prune", **stage}]).name, cwd=tmp_path)
    assert result.returncode == 2, result.stdout
    assert message in result.stdout + result.stderr
