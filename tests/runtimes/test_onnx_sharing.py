"""What a model shares is stored once in every format, and the graphs still give its answers."""

from __future__ import annotations

import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import MAX_POSITIONS, exact_settings, make_config
from kinds import loaded
from onnx import TensorProto, helper, numpy_helper

from compressor.measure.token_rows import edge_cases
from compressor.quantization import dynamic_int8
from compressor.runtimes import RUNTIMES, torchscript, tracing
from compressor.runtimes import onnxruntime as onnx_runtime
from compressor.runtimes.onnx import coverage, passes, sharing

FLOAT = TensorProto.FLOAT
LAYERS = 4
VOCABULARY = 60  # of the words in the test rows; tables are longer, so that they weigh
TABLE = 700 * 32


def make_model(family: str, head: str, **overrides: Any) -> Any:
    import transformers

    torch.manual_seed(0)
    sizes = {"vocab_size": 700, "num_hidden_layers": LAYERS, "initializer_range": 0.2}
    bert = make_config(**sizes)
    shared = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 4, "embedding_size": 32}
    config = {
        "bert": bert,
        "distilbert": transformers.DistilBertConfig(
            vocab_size=700, n_layers=LAYERS, n_heads=4, dim=32, hidden_dim=64, max_position_embeddings=MAX_POSITIONS,
            initializer_range=0.2,
        ),
        "albert": transformers.AlbertConfig(max_position_embeddings=MAX_POSITIONS, **shared, **sizes),
    }[family]  # fmt: skip
    for name, value in overrides.items():
        setattr(config, name, value)
    model = getattr(transformers, f"AutoModelFor{head}").from_config(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    return model


def export(model: Any, folder: Path, quantize: bool = True, **options: bool) -> Path:
    """Folder with the model in every format."""
    with loaded(model):
        onnx_runtime.export(folder, folder / "model.onnx")
        torchscript.export(folder, folder / "model.pt")
    if quantize:
        dynamic_int8.write(folder / "model.onnx", folder / "q.onnx", exact_settings(**options))
    return folder


def naive_export(model: Any, folder: Path) -> Path:
    """The same without any of what is tested here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(passes, "check", lambda found, model: None)
        for name in ("share", "merge", "tie_quantized"):
            patch.setattr(sharing, name, lambda *_: 0)
        patch.setattr(sharing, "ties", lambda _: {})
        return export(model, folder)


def matrices(path: Path) -> dict[bool, int]:
    """Elements in the matrices that an ONNX file stores: of floats (False) and of integers (True)."""
    counts = Counter({False: 0, True: 0})
    for tensor in onnx.load(str(path)).graph.initializer:
        if len(tensor.dims) >= 2 and tensor.data_type != TensorProto.INT64:
            counts[tensor.data_type in (TensorProto.INT8, TensorProto.UINT8)] += int(np.prod(tensor.dims))
    return dict(counts)


def in_matrices(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters() if parameter.ndim == 2)


def torchscript_bytes(path: Path) -> int:
    with zipfile.ZipFile(path) as archive:
        return sum(entry.file_size for entry in archive.infolist() if "/data/" in entry.filename)


def check_parity(model: Any, path: Path, runtime: str, tolerance: float) -> None:
    """Compares logits on padded rows, relative to the largest."""
    session, edges = RUNTIMES[runtime].session(path, 1), edge_cases(MAX_POSITIONS, VOCABULARY, 0)
    names = tracing.Traceable(model).input_names
    for batch in ([2], [4], [5], [0, 6, 3]):
        inputs = edges.batch(batch)
        with torch.no_grad():
            expected = model(**{name: torch.from_numpy(inputs[name]) for name in names}).logits.numpy()
        error = np.abs(session.predict(inputs)["logits"] - expected).max()
        assert error < tolerance * max(1.0, np.abs(expected).max())


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


def save(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    constants: list[onnx.TensorProto],
) -> None:
    graph = helper.make_graph(nodes, "g", inputs, outputs, constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), str(path))


def quantize(source: Path, path: Path, **settings: bool) -> None:
    dynamic_int8.write(source, path, exact_settings(**settings))


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
