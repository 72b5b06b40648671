"""Attention gives the same with two sums less in each layer; what does not look like attention stays."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from kinds import KINDS, LAYERS, export_anew, make_model, rows

from compressor.runtimes import RUNTIMES
from compressor.runtimes.onnx import attention_biases, flatten, passes


def sums(path: Path) -> int:
    return Counter(node.op_type for node in onnx.load(str(path)).graph.node)["Add"]


@pytest.mark.parametrize(("family", "head"), KINDS)
def test_two_sums_less_in_each_layer_and_the_same_outputs(family: str, head: str, tmp_path: Path):
    model = make_model(family, head)
    for name in ("with", "without"):
        (tmp_path / name).mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passes, "check", lambda found, model: None)
        patch.setattr(flatten, "flatten", lambda model: 0)  # it joins sums and products
        after = export_anew(model, tmp_path / "without")
        patch.setattr(attention_biases, "fold_biases", lambda model: (0, 0))
        before = export_anew(model, tmp_path / "with")
    assert sums(before) - sums(after) == 2 * LAYERS
    session = RUNTIMES["onnxruntime"].session(after, 1)
    for inputs in rows(model):
        with torch.no_grad():
            expected = model(**{name: torch.from_numpy(value) for name, value in inputs.items()}).logits.numpy()
        given = session.predict(inputs)["logits"]
        assert np.abs(given - expected).max() < 2e-5
    biases = [tensor.name for tensor in onnx.load(str(after)).graph.initializer if "key.bias" in tensor.name]
    assert not biases, "what is not used is not stored"


def test_layers_of_equal_biases_and_other_matrices_keep_their_own(tmp_path: Path):
    model = make_model("bert")
    with torch.no_grad():
        for layer in model.bert.encoder.layer:
            layer.attention.self.value.bias.fill_(0.5)
            layer.attention.output.dense.bias.fill_(0.25)
    session = RUNTIMES["onnxruntime"].session(export_anew(model, tmp_path), 1)
    for inputs in rows(model):
        with torch.no_grad():
            expected = model(**{name: torch.from_numpy(value) for name, value in inputs.items()}).logits.numpy()
        assert np.abs(session.predict(inputs)["logits"] - expected).max() < 2e-5


def test_a_bias_that_something_else_reads_stays(tmp_path: Path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passes, "check", lambda found, model: None)
        patch.setattr(flatten, "flatten", lambda model: 0)
        patch.setattr(attention_biases, "fold_biases", lambda model: (0, 0))
        path = export_anew(make_model("bert"), tmp_path)
    model = onnx.load(str(path))
    adds = [node for node in model.graph.node if node.op_type == "Add" and "attention/self" in node.name]
    biased = {node.name.split("/")[-2]: node.output[0] for node in adds if "layer.0" in node.name}
    model.graph.output.extend(onnx.ValueInfoProto(name=biased[name]) for name in ("key", "value"))
    before = Counter(node.op_type for node in model.graph.node)["Add"]
    attention_biases.fold_biases(model)
    assert before - Counter(node.op_type for node in model.graph.node)["Add"] == 2 * (LAYERS - 1)
