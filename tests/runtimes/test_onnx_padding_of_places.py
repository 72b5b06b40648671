"""Padding moves no answer of int8 where attention knows the places of tokens, so that a copy of one is none."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import whole_layers
from conftest import MAX_POSITIONS, exact_settings
from kinds import rows
from test_onnx_padding import moved, padded, read

from compressor.measure.token_rows import EDGES, edge_cases
from compressor.quantization import dynamic_int8
from compressor.runtimes import RUNTIMES
from compressor.runtimes.onnx import padding
from compressor.runtimes.torchscript_int8.module import GraphModule

KINDS = [
    ("MPNet", "ForSequenceClassification", {}),
    ("MPNet", "ForTokenClassification", {}),
    ("DebertaV2", "ForSequenceClassification", {}),
    ("ModernBert", "ForSequenceClassification", {"classifier_pooling": "mean"}),
    ("ModernBert", "ForTokenClassification", {"global_attn_every_n_layers": 1}),
]


@pytest.mark.parametrize(("prefix", "head", "values"), KINDS)
def test_padding_moves_no_answer(prefix: str, head: str, values: dict[str, object], tmp_path: Path):
    whole_layers.save(tmp_path, prefix, head, num_hidden_layers=2, **values)
    model = whole_layers.make(prefix, head, num_hidden_layers=2, **values)
    source = tmp_path / "model.onnx"
    RUNTIMES["onnxruntime"].export(tmp_path, source)
    dynamic_int8.write(source, tmp_path / "q.onnx", exact_settings())
    session = RUNTIMES["onnxruntime"].session(tmp_path / "q.onnx", 1)
    pairs, names = padded(model), ("logits",)
    assert max(moved(session, pairs, names)) < 1e-3
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(padding, "keep_out", padding.repeat_first_token)
        dynamic_int8.write(source, tmp_path / "blind.onnx", exact_settings())
    blind = RUNTIMES["onnxruntime"].session(tmp_path / "blind.onnx", 1)
    assert max(moved(blind, pairs, names)) > 1e-2, "what this is for"
    for row in rows(model):
        if row["attention_mask"].all():
            (given,), (expected,) = read(session, row, names), read(blind, row, names)
            assert given.shape == expected.shape and np.abs(given - expected).max() < 1e-6
    shape = (3, 7)
    batch = {"input_ids": np.full(shape, 5), "attention_mask": np.ones(shape, np.int64)}
    assert session.predict(batch)["logits"].shape == blind.predict(batch)["logits"].shape

    module = GraphModule(tmp_path / "q.onnx").eval()
    for both in pairs:
        with torch.no_grad():
            one, other = (module(*(torch.from_numpy(row[name]) for name in module.input_names)) for row in both)
        there = torch.from_numpy(both[0]["attention_mask"]) == 1
        one, other = (one[there], other[:, : one.shape[1]][there]) if one.ndim == 3 else (one, other)
        assert (one - other).abs().max() < 1e-3 * one.abs().max()

    graph = onnx.load(str(source))
    assert padding.zero_products(graph) > 4
    onnx.save(graph, str(tmp_path / "zeros.onnx"))
    before, after = (RUNTIMES["onnxruntime"].session(path, 1) for path in (source, tmp_path / "zeros.onnx"))
    edges = edge_cases(MAX_POSITIONS, model.config.vocab_size, 1, first_padded=False)
    for index in range(len(EDGES)):
        row = edges.batch([index])
        for given, expected in zip(read(after, row, names), read(before, row, names), strict=True):
            assert np.abs(given - expected).max() < 2e-5, EDGES[index]
