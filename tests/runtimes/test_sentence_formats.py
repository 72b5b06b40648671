"""Formats for phones give a sentence encoder's vectors, pooled and normalised in the file, in every precision."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import MAX_POSITIONS, make_config, make_tokenizer
from tiny_models import with_random_vectors

from compressor.measure.token_rows import edge_cases
from compressor.models import loading, quantized
from compressor.models.outputs import EMBEDDING, TOKENS
from compressor.models.quantized import QuantizedFile
from compressor.models.sentence_embedding import KEY, SentenceEmbedding
from compressor.models.sentence_encoder import class_of
from compressor.runtimes import RUNTIMES
from compressor.tasks.scoring.cosine import cosines

MEAN, FIRST = SentenceEmbedding("mean"), SentenceEmbedding("cls", dense=7, activation="tanh")
MAX = SentenceEmbedding("max", dense=5, normalize=False)
INT8 = QuantizedFile("dynamic_int8", "int8", "onnx/model_quantized.onnx", True, 4, True, None, ())
FP16 = replace(INT8, scheme="fp16", precision="fp16", integer_products=False, embeddings=16)
EDGES = edge_cases(MAX_POSITIONS, 60, 0)


@pytest.mark.parametrize(
    ("runtime", "how", "precision", "least"),
    [
        ("coreml", MEAN, None, 0.9999),
        ("coreml", FIRST, INT8, 0.98),
        ("coreml", MAX, None, 0.9999),
        ("executorch", MEAN, INT8, 0.98),
        ("executorch", FIRST, None, 0.999999),
        ("executorch", MAX, FP16, 0.9999),
    ],
)
def test_vectors_of_all_lengths_and_paddings(
    runtime: str, how: SentenceEmbedding, precision: QuantizedFile | None, least: float, tmp_path: Path
):
    if RUNTIMES[runtime].missing():
        pytest.skip(f"needs the extra: pip install 'bert-compressor[{runtime}]'")
    torch.manual_seed(3)
    config = make_config(num_hidden_layers=1, initializer_range=0.2)
    setattr(config, KEY, how.settings())
    loading.save(tmp_path, with_random_vectors(class_of(config)(config).eval()), make_tokenizer())
    if precision is not None:
        quantized.write(tmp_path, [precision])
    path = tmp_path / RUNTIMES[runtime].file
    RUNTIMES[runtime].export(tmp_path, path)
    reference, session = RUNTIMES["torch"].session(tmp_path, 1), RUNTIMES[runtime].session(path, 1)
    for batch in [*([index] for index in range(len(EDGES))), [0, 6, 3]]:
        inputs = EDGES.batch(batch)
        given, expected = session.predict(inputs), reference.predict(inputs)
        assert list(given) == list(expected) == [EMBEDDING, TOKENS]
        assert all(given[name].shape == expected[name].shape for name in expected)
        lengths = [np.linalg.norm(found[EMBEDDING], axis=1) for found in (given, expected)]
        cosines = (given[EMBEDDING] * expected[EMBEDDING]).sum(axis=1) / (lengths[0] * lengths[1])
        assert cosines.min() > least  # NaN is not above
        assert np.allclose(*lengths, rtol=1e-3 if how.normalize else 0.1)


@pytest.mark.parametrize(
    ("runtime", "how", "precision"),
    [("coreml", MEAN, None), ("coreml", SentenceEmbedding("max"), None), ("executorch", MEAN, FP16)],
)
def test_large_states_have_vectors_in_half_precision(
    runtime: str, how: SentenceEmbedding, precision: QuantizedFile | None, tmp_path: Path
):
    """States of 1e4: their squares, and the sums of the tokens of a text, are beyond half precision."""
    if RUNTIMES[runtime].missing():
        pytest.skip(f"needs the extra: pip install 'bert-compressor[{runtime}]'")
    torch.manual_seed(3)
    config = make_config(num_hidden_layers=1, initializer_range=0.2)
    setattr(config, KEY, how.settings())
    model = with_random_vectors(class_of(config)(config).eval())
    with torch.no_grad():
        for parameter in model.base_model.encoder.layer[-1].output.LayerNorm.parameters():
            parameter *= 1e4
    loading.save(tmp_path, model, make_tokenizer())
    if precision is not None:
        quantized.write(tmp_path, [precision])
    path = tmp_path / RUNTIMES[runtime].file
    RUNTIMES[runtime].export(tmp_path, path)
    reference, session = RUNTIMES["torch"].session(tmp_path, 1), RUNTIMES[runtime].session(path, 1)
    for batch in ([6], [0, 3]):
        inputs = EDGES.batch(batch)
        given, expected = session.predict(inputs), reference.predict(inputs)
        assert np.abs(expected[TOKENS][:, :1]).max() > 1e4
        assert cosines(given[EMBEDDING], expected[EMBEDDING]).min() > 0.9999
        assert np.allclose(np.linalg.norm(given[EMBEDDING], axis=1), 1, atol=2e-3)
