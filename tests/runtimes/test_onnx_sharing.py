"""What a model shares is stored once in every format, and the graphs still give its answers."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from conftest import MAX_POSITIONS, exact_settings
from onnx import TensorProto, helper, numpy_helper
from sharing_models import (
    LAYERS,
    check_parity,
    export,
    in_matrices,
    make_model,
    matrices,
    naive_export,
    quantize,
    save,
    torchscript_bytes,
)

from compressor.quantization import dynamic_int8
from compressor.runtimes.onnx import coverage, sharing

FLOAT = TensorProto.FLOAT


TABLE = 700 * 32


@pytest.fixture(scope="module", params=[1, 3], ids=["one-group", "three-groups"])
def albert(request, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    model = make_model("albert", "SequenceClassification", num_hidden_groups=request.param)
    return model, export(model, tmp_path_factory.mktemp("albert"))


def test_layers_that_share_weights_store_them_once(albert: tuple[Any, Path]):
    model, folder = albert
    assert matrices(folder / "model.onnx") == {False: in_matrices(model), True: 0}
    assert matrices(folder / "q.onnx") == {False: 0, True: in_matrices(model)}
    parameters = model.num_parameters()
    assert torchscript_bytes(folder / "model.pt") == pytest.approx(4 * parameters, rel=0.02)
    graph = onnx.load(str(folder / "model.onnx"))
    stored = sum(len(tensor.SerializeToString()) for tensor in graph.graph.initializer)
    assert stored == pytest.approx(4 * parameters, rel=0.1)


def test_shared_layers_give_torchs_logits(albert: tuple[Any, Path]):
    model, folder = albert
    check_parity(model, folder / "model.onnx", "onnxruntime", 1e-5)
    check_parity(model, folder / "model.pt", "torchscript", 1e-5)
    check_parity(model, folder / "q.onnx", "onnxruntime", 0.2)


def test_every_use_of_a_shared_weight_runs_as_integers(albert: tuple[Any, Path], tmp_path: Path):
    """4 layers of 6 products; mapping, pooler, classifier; words, positions, token types."""
    _, folder = albert
    assert coverage.quantized_coverage(folder / "q.onnx") == 1.0
    options = onnxruntime.SessionOptions()
    for name in ("q", "model"):
        options.optimized_model_filepath = str(tmp_path / f"{name}.onnx")
        onnxruntime.InferenceSession(str(folder / f"{name}.onnx"), options)
        uses = coverage.weight_uses(onnx.load(str(tmp_path / f"{name}.onnx")))
        assert uses == [name == "q"] * (LAYERS * 6 + 3 + 3)


def test_quantizing_without_sharing_leaves_most_in_float(tmp_path: Path):
    model = make_model("albert", "SequenceClassification")
    naive = naive_export(model, tmp_path)
    assert coverage.quantized_coverage(naive / "q.onnx") < 0.5
    assert matrices(naive / "q.onnx")[False] > 0.3 * in_matrices(model)


def test_a_shared_last_layer_is_computed_for_the_first_token_only(albert: tuple[Any, Path]):
    _, folder = albert
    model = onnx.load(str(folder / "model.onnx"))
    products = [node.output[0] for node in model.graph.node if node.op_type in ("MatMul", "Gemm")]
    products.remove("logits")
    model.graph.output.extend(helper.make_empty_tensor_value_info(name) for name in products)
    session = onnxruntime.InferenceSession(model.SerializeToString())
    ids = np.full((3, 9), 7)
    feed = {entry.name: ids if entry.name == "input_ids" else np.ones_like(ids) for entry in session.get_inputs()}
    rows = Counter(output.shape[-2] for output in session.run(products, feed))
    # The mapping, and 8 products in each layer, 2 of them without weights. With weights they have a row for each of 27
    # tokens; of the last layer's, only keys' and values' do; the pooler's and the others one for each of 3 texts.
    assert rows == {27: 1 + 6 * (LAYERS - 1) + 2, 9: 2 * (LAYERS - 1), 1: 2, 3: 5}


def spread(model: onnx.ModelProto) -> None:
    """Gives each use of a matrix its own: a copy, an alias, or a transposed copy with a Transpose, in turn."""
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer if len(tensor.dims) == 2}
    nodes = []
    for count, node in enumerate(graph.node):
        index = 1 if node.op_type in ("MatMul", "Gemm") else 0
        weight = constants.get(node.input[index]) if len(node.input) > index else None
        if weight is not None:
            own, kind = f"own{count}", ("copy", "alias", "transposed")[count % 3]
            value = numpy_helper.to_array(weight)
            node.input[index] = own
            if kind == "copy":
                graph.initializer.append(numpy_helper.from_array(value, own))
            elif kind == "alias":
                graph.initializer.append(numpy_helper.from_array(value, f"{own}.copy"))
                nodes.append(helper.make_node("Identity", [f"{own}.copy"], [own]))
            else:
                graph.initializer.append(numpy_helper.from_array(value.T, f"{own}.copy"))
                nodes.append(helper.make_node("Transpose", [f"{own}.copy"], [own], perm=[1, 0]))
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)


@pytest.mark.parametrize("head", ["SequenceClassification", "MaskedLM"])
def test_copies_aliases_and_transposes_become_one_again(head: str, tmp_path: Path):
    model = make_model("albert", head)
    path = export(model, tmp_path, quantize=False) / "model.onnx"
    whole = onnx.load(str(path))
    spread(whole)
    onnx.save(whole, str(path))
    assert matrices(path)[False] > 3 * in_matrices(model), "spread out, it stores every use"
    check_parity(model, path, "onnxruntime", 1e-5)
    dynamic_int8.write(path, tmp_path / "q.onnx", exact_settings())
    sharing.share(whole)
    onnx.save(whole, str(path))
    assert matrices(path) == {False: in_matrices(model), True: 0}
    assert matrices(tmp_path / "q.onnx") == {False: 0, True: in_matrices(model)}
    check_parity(model, path, "onnxruntime", 1e-5)
    check_parity(model, tmp_path / "q.onnx", "onnxruntime", 0.2)


@pytest.mark.parametrize("family", ["bert", "distilbert", "albert"])
def test_an_output_embedding_tied_to_the_inputs_is_stored_once(family: str, tmp_path: Path):
    model = make_model(family, "MaskedLM")
    folder = export(model, tmp_path)
    assert matrices(folder / "model.onnx") == {False: in_matrices(model), True: 0}
    assert matrices(folder / "q.onnx") == {False: 0, True: in_matrices(model)}
    assert torchscript_bytes(folder / "model.pt") == pytest.approx(4 * model.num_parameters(), rel=0.02)
    assert coverage.quantized_coverage(folder / "q.onnx") == 1.0
    check_parity(model, folder / "model.onnx", "onnxruntime", 1e-5)
    check_parity(model, folder / "model.pt", "torchscript", 1e-5)
    check_parity(model, folder / "q.onnx", "onnxruntime", 0.2)


def test_without_sharing_and_without_a_tie_the_table_is_stored_twice(tmp_path: Path):
    tied, untied = (make_model("bert", "MaskedLM", tie_word_embeddings=tie) for tie in (True, False))
    assert in_matrices(untied) == in_matrices(tied) + TABLE
    for name, folder in (
        ("naive", naive_export(tied, tmp_path / "naive")),
        ("untied", export(untied, tmp_path / "untied")),
    ):
        assert matrices(folder / "model.onnx")[False] == in_matrices(tied) + TABLE, name
        assert matrices(folder / "q.onnx")[True] == in_matrices(tied) + TABLE, name
    assert torchscript_bytes(tmp_path / "untied/model.pt") > 4 * (tied.num_parameters() + TABLE)


def test_the_runtime_folds_the_transposed_table(tmp_path: Path):
    """What runs is what ran before: one product with a constant, in float and as integers."""
    folder = export(make_model("bert", "MaskedLM"), tmp_path)
    options = onnxruntime.SessionOptions()
    for name, operator in (("model", "MatMul"), ("q", "DynamicQuantizeMatMul")):
        options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
        onnxruntime.InferenceSession(str(folder / f"{name}.onnx"), options)
        graph = onnx.load(str(tmp_path / "optimized.onnx")).graph
        table = next(tensor.name for tensor in graph.initializer if list(tensor.dims) == [32, 700])
        assert [node.op_type for node in graph.node if table in node.input] == [operator]


@pytest.mark.parametrize("options", [{"per_channel": False}, {"reduce_range": True}], ids=["one-scale", "7-bit"])
def test_other_integers_share_as_well(options: dict[str, bool], tmp_path: Path):
    model = make_model("bert", "MaskedLM")
    path = export(model, tmp_path, **options) / "q.onnx"
    assert matrices(path) == {False: 0, True: in_matrices(model)}
    check_parity(model, path, "onnxruntime", 0.3)


def test_a_table_that_is_to_stay_in_float_does(tmp_path: Path):
    model = make_model("bert", "MaskedLM")
    path = export(model, tmp_path, embeddings=False) / "q.onnx"
    tables = TABLE + (MAX_POSITIONS + 2) * 32
    assert matrices(path) == {False: tables, True: in_matrices(model) - tables + TABLE}
    check_parity(model, path, "onnxruntime", 0.2)


def test_looked_up_rows_are_those_that_are_multiplied(tmp_path: Path):
    """Row i of the integer table times scale i, by hand."""
    table = np.array([[1.0, -2.0], [0.5, 0.25], [0.0, 127.0]], dtype=np.float32)
    ids = helper.make_tensor_value_info("ids", TensorProto.INT64, ["n"])
    result = helper.make_tensor_value_info("y", FLOAT, ["n", 3])
    nodes = [
        helper.make_node("Gather", ["table", "ids"], ["rows"], name="look up"),
        helper.make_node("MatMul", ["rows", "decoder"], ["y"], name="decode"),
    ]
    constants = [numpy_helper.from_array(table, "table"), numpy_helper.from_array(table.T, "decoder")]
    save(tmp_path / "float.onnx", nodes, [ids], [result, helper.make_tensor_value_info("rows", FLOAT, None)], constants)
    quantize(tmp_path / "float.onnx", tmp_path / "q.onnx", reduce_range=False)
    session = onnxruntime.InferenceSession(str(tmp_path / "q.onnx"))
    _, rows = session.run(None, {"ids": np.array([2, 0, 1])})
    expected = [[0, 127], [round(127 / 2) * 2 / 127, -2], [0.5, round(127 / 2) * 0.5 / 127]]
    assert rows == pytest.approx(np.array(expected))
    stored = {tensor.name: tensor.data_type for tensor in onnx.load(str(tmp_path / "q.onnx")).graph.initializer}
    assert stored["table"] == TensorProto.INT8 and "decoder_quantized" not in stored
