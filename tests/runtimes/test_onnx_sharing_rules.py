"""Which weights of a graph are one, and which only look alike."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from sharing_models import (
    LAYERS,
    check_parity,
    export,
    in_matrices,
    make_model,
    matrices,
    quantize,
    save,
)

from compressor.runtimes.onnx import coverage, sharing

FLOAT = TensorProto.FLOAT


def test_layers_that_are_equal_by_chance_are_no_trouble(tmp_path: Path):
    """All layers alike, biases of zeros, and a classifier of zeros like the table of token types."""
    model = make_model("bert", "SequenceClassification")
    with torch.no_grad():
        for layer in model.bert.encoder.layer:
            layer.load_state_dict(model.bert.encoder.layer[0].state_dict())
        for name, parameter in model.named_parameters():
            if name.endswith("bias") or name == "bert.embeddings.token_type_embeddings.weight":
                parameter.zero_()
        model.bert.pooler.dense.weight.copy_(model.bert.encoder.layer[0].attention.self.query.weight)
        model.classifier.weight.copy_(model.bert.embeddings.position_embeddings.weight[:2])
    folder = export(model, tmp_path)
    one_layer = sum(parameter.numel() for parameter in model.bert.encoder.layer[0].parameters() if parameter.ndim == 2)
    alike = (LAYERS - 1) * one_layer + 32 * 32
    assert matrices(folder / "model.onnx")[False] == in_matrices(model) - alike
    assert coverage.quantized_coverage(folder / "q.onnx") == 1.0
    check_parity(model, folder / "model.onnx", "onnxruntime", 1e-5)
    check_parity(model, folder / "q.onnx", "onnxruntime", 0.2)


def test_two_gemms_with_one_weight_are_quantized_right(tmp_path: Path):
    """ONNX Runtime's quantizer turns a Gemm's weight around in place: with two readers, twice."""
    weight = np.random.default_rng(0).normal(size=(8, 8)).astype(np.float32)
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["h"], name="first", transB=1),
        helper.make_node("Gemm", ["h", "v"], ["y"], name="second", transB=1),
        helper.make_node("MatMul", ["x", "u"], ["z"], name="third"),
    ]
    sizes = {name: helper.make_tensor_value_info(name, FLOAT, ["n", 8]) for name in "xyz"}
    constants = [
        numpy_helper.from_array(value, name) for name, value in (("w", weight), ("v", weight), ("u", weight.T))
    ]
    save(tmp_path / "float.onnx", nodes, [sizes["x"]], [sizes["y"], sizes["z"]], constants)
    quantize(tmp_path / "float.onnx", tmp_path / "q.onnx")
    assert matrices(tmp_path / "q.onnx") == {False: 0, True: 64}
    x = np.random.default_rng(1).normal(size=(3, 8)).astype(np.float32)
    y, z = onnxruntime.InferenceSession(str(tmp_path / "q.onnx")).run(None, {"x": x})
    assert np.abs(y - x @ weight.T @ weight.T).max() < 0.2
    assert np.abs(z - x @ weight.T).max() < 0.05


def test_a_table_and_an_equal_matrix_stay_two(tmp_path: Path):
    """A scale for each column of the matrix is none for a row of the table."""
    value = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["y"], name="multiply"),
        helper.make_node("Gather", ["table", "ids"], ["rows"], name="look up"),
    ]
    x, y, rows = (helper.make_tensor_value_info(name, FLOAT, ["n", 4]) for name in ("x", "y", "rows"))
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])
    constants = [numpy_helper.from_array(value, name) for name in ("table", "w")]
    save(tmp_path / "float.onnx", nodes, [x, ids], [y, rows], constants)
    quantize(tmp_path / "float.onnx", tmp_path / "q.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "q.onnx"))
    product, looked_up = session.run(None, {"x": np.eye(4, dtype=np.float32), "ids": np.arange(4)})
    assert np.abs(product - value).max() < 0.05
    assert np.abs(looked_up - value).max() < 0.05


def test_types_shapes_and_what_callers_name_are_kept_apart(tmp_path: Path):
    values = {
        "i": np.zeros((2, 2), np.int32),
        "f": np.zeros((2, 2), np.float32),
        "row": np.zeros((1, 4), np.float32),
        "default": np.zeros((2, 2), np.float32),
        "same": np.zeros((2, 2), np.float32),
    }
    nodes = [helper.make_node("Identity", [name], [f"{name}.given"]) for name in values]
    nodes.append(helper.make_node("Add", ["f", "same"], ["sum"]))
    outputs = [helper.make_empty_tensor_value_info(name) for name in [*(f"{name}.given" for name in values), "sum"]]
    default = helper.make_tensor_value_info("default", FLOAT, [2, 2])
    constants = [numpy_helper.from_array(value, name) for name, value in values.items()]
    graph = helper.make_graph(nodes, "g", [default], outputs, constants)
    model = helper.make_model(graph)
    sharing.share(model)
    assert [tensor.name for tensor in model.graph.initializer] == ["i", "f", "row", "default"]
    assert [node.op_type for node in model.graph.node] == ["Identity"] * 5 + ["Add"]
    assert list(model.graph.node[-1].input) == ["f", "f"]


def test_the_same_export_twice_gives_the_same_bytes(tmp_path: Path):
    model = make_model("albert", "MaskedLM", num_hidden_groups=2)
    first, second = (export(model, tmp_path / name) for name in ("first", "second"))
    for name in ("model.onnx", "q.onnx"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_sharing_what_is_shared_changes_nothing(tmp_path: Path):
    once = onnx.load(str(export(make_model("albert", "MaskedLM"), tmp_path, quantize=False) / "model.onnx"))
    sharing.share(once)
    twice = onnx.ModelProto()
    twice.CopyFrom(once)
    sharing.share(twice)
    assert twice.SerializeToString() == once.SerializeToString()
