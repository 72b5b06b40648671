"""transformers.js gives our vectors: its own pooling of the tokens, and the file's."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import exact_settings, make_config, make_tokenizer, sentences
from tiny_models import with_random_vectors

from compressor.models import loading
from compressor.models.quantized import ONNX_FILES
from compressor.models.sentence_embedding import KEY, SentenceEmbedding
from compressor.models.sentence_encoder import class_of
from compressor.quantization import dynamic_int8
from compressor.runtimes import RUNTIMES

HERE = Path(__file__).parent
FLOAT, INT8 = "onnx/model.onnx", str(ONNX_FILES["int8"])
DTYPES = {FLOAT: "fp32", INT8: "q8"}
TEXTS = [text for text, _ in sentences(12, seed=5)]
MOST = {FLOAT: 1e-4, INT8: 5e-2}
"""Largest difference of a number: each client rounds activations in its own kernels."""


@pytest.mark.parametrize("how", [SentenceEmbedding(), SentenceEmbedding("cls", normalize=False)])
def test_transformers_js(how: SentenceEmbedding, tmp_path: Path):
    if (node := shutil.which("node")) is None:
        pytest.skip("node is not installed")
    if not (HERE / "node_modules").is_dir():
        pytest.skip(f"no {HERE / 'node_modules'}: npm ci --ignore-scripts --prefix {HERE}")
    torch.manual_seed(3)
    folder, config = tmp_path / "model", make_config(num_hidden_layers=2, initializer_range=0.2)
    setattr(config, KEY, how.settings())
    loading.save(folder, with_random_vectors(class_of(config)(config).eval()), make_tokenizer())
    RUNTIMES["onnxruntime"].export(folder, folder / FLOAT)
    dynamic_int8.write(folder / FLOAT, folder / INT8, exact_settings())
    job = {"folder": str(folder), "files": list(DTYPES), "texts": TEXTS, "dtypes": DTYPES}
    job |= {"pooling": how.pooling, "normalize": how.normalize}
    command = [node, str(HERE / "transformers_js_vectors.mjs")]
    result = subprocess.run(
        command, input=json.dumps(job), capture_output=True, text=True, timeout=300, check=False, cwd=HERE
    )
    assert result.returncode == 0, result.stderr
    inputs = dict(loading.load_tokenizer(folder)(TEXTS, padding=True, return_tensors="np"))
    for file, given in json.loads(result.stdout).items():
        expected = RUNTIMES["onnxruntime"].session(folder / file, 1).predict(inputs)["sentence_embedding"]
        scale = max(1.0, float(np.abs(expected).max()))
        for name in ("own", "pooled"):
            assert np.abs(np.array(given[name]) - expected).max() < MOST[file] * scale, (file, name)
