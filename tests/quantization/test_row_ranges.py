"""A range for each row: found where one token is far larger than the others, and only there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import whole_layers
from conftest import WriteRecipe, exact_settings, make_tokenizer, passing
from kinds import export, make_model, rows

from compressor.quantization import dynamic_int8, row_ranges, weight_matrices
from compressor.runtimes import RUNTIMES
from compressor.runtimes.onnx.coverage import optimized, quantized_coverage
from compressor.runtimes.ort import conversion
from compressor.runtimes.torchscript_int8.module import GraphModule

LOUD = "bert.encoder.layer.0.output.dense"
WORD = 7
"""The token of the loud neuron."""
Row = dict[str, np.ndarray]


def make_loud(model: Any) -> Any:
    """One neuron of the first layer is thousands at one word, as in models with massive activations, and else 0."""
    table, layer = model.base_model.embeddings.word_embeddings.weight, model.base_model.encoder.layer[0]
    with torch.no_grad():
        table[:, 0] = 0.0
        table[WORD] = 0.0
        table[WORD, 0] = 30.0
        layer.attention.output.LayerNorm.weight[0], layer.attention.output.LayerNorm.bias[0] = 1.0, 0.0
        layer.intermediate.dense.weight[0] = 0.0
        layer.intermediate.dense.weight[0, 0], layer.intermediate.dense.bias[0] = 2000.0, -8000.0
        layer.output.dense.weight[:, 0] *= 0.002
    return model


def texts(model: Any) -> list[Row]:
    """Rows of random tokens, each with the word once."""
    found = [row for row in rows(model) if row["attention_mask"].all()]
    for row in found:
        row["input_ids"][row["input_ids"] == WORD] = WORD + 1
        row["input_ids"][0, 1] = WORD
    return found


def answers(path: Path, inputs: list[Row]) -> list[np.ndarray]:
    session = RUNTIMES["onnxruntime"].session(path, 1)
    return [session.predict(row)["logits"] for row in inputs]


def error(path: Path, source: Path, inputs: list[Row]) -> float:
    """Root mean square of what a graph's logits are off, at tokens other than the loud one, by the float graph's."""
    pairs = zip(answers(path, inputs), answers(source, inputs), strict=True)
    off, whole = zip(*((np.delete(a - b, 1, 1).ravel(), b.ravel()) for a, b in pairs), strict=True)
    return float(np.sqrt((np.concatenate(off) ** 2).mean() / (np.concatenate(whole) ** 2).mean()))


def write(source: Path, target: Path, *names: str, keep_float: tuple[str, ...] = ()) -> Path:
    dynamic_int8.write(source, target, exact_settings(row_ranges=names, keep_float=keep_float))
    return target


def test_the_spread_by_hand():
    even = np.array([[[-1.0, 3.0], [0.5, 2.0], [-1.0, -3.0]]], dtype=np.float32)  # ranges of 4, 2 and 3, of all 6
    assert row_ranges.spread(even) == 2.0
    assert row_ranges.spread(np.array([[0, 0], [0, 0], [0, 6], [0, 2]], dtype=np.float32)) == 1.5, "zeros are exact"
    assert row_ranges.spread(np.zeros((3, 2), dtype=np.float32)) == 1.0


def test_only_the_product_behind_the_loud_neuron_gets_them_and_is_exact_again(tmp_path: Path):
    model = make_loud(make_model("bert", "TokenClassification"))
    source, inputs = export(model, tmp_path), texts(model)
    assert row_ranges.wanted(source, inputs) == (LOUD,)
    others = tuple(matrix.name for matrix in weight_matrices.read(source)[1] if matrix.name != LOUD)
    plain = write(source, tmp_path / "plain.onnx", keep_float=others)
    even = write(source, tmp_path / "even.onnx", LOUD, keep_float=others)
    assert error(even, source, inputs) < error(plain, source, inputs) / 3
    plain, even = write(source, tmp_path / "plain.onnx"), write(source, tmp_path / "even.onnx", LOUD)
    assert quantized_coverage(even) == quantized_coverage(plain) == 1.0
    fused = [[node.op_type for node in optimized(path).graph.node] for path in (plain, even)]
    assert fused[0].count("DynamicQuantizeMatMul") == fused[1].count("DynamicQuantizeMatMul") > 0


def test_a_model_without_a_loud_neuron_gets_none_and_the_same_file(tmp_path: Path):
    model = make_model("bert")
    source = export(model, tmp_path)
    assert row_ranges.wanted(source, rows(model)) == ()
    graph, _ = weight_matrices.read(source)
    before = graph.SerializeToString()
    row_ranges.place(graph, set())
    assert graph.SerializeToString() == before


@pytest.mark.parametrize("family", ["bert", "albert", "distilbert"])
def test_the_float_graph_computes_the_same_and_rows_of_zeros_are_no_trouble(family: str, tmp_path: Path):
    model = make_model(family)
    if family == "bert":
        model.config.hidden_act = "relu"
        for layer in model.base_model.encoder.layer:
            layer.intermediate.intermediate_act_fn = torch.nn.ReLU()
            torch.nn.init.constant_(layer.intermediate.dense.bias, -100.0)
    source = export(model, tmp_path)
    graph, found = weight_matrices.read(source)
    products = {name for matrix in found if not matrix.table for name in matrix.nodes}
    row_ranges.place(graph, products)
    onnx.checker.check_model(graph)
    kinds = [node.op_type for node in graph.graph.node]
    read = {node.input[0] for node in onnx.load(str(source)).graph.node if node.name in products}
    assert kinds.count("Div") - [node.op_type for node in onnx.load(str(source)).graph.node].count("Div") == len(read)
    onnx.save(graph, str(tmp_path / "even.onnx"))
    inputs = rows(model)
    for given, expected in zip(answers(tmp_path / "even.onnx", inputs), answers(source, inputs), strict=True):
        assert np.abs(given - expected).max() < 1e-5 * max(1.0, np.abs(expected).max())


@pytest.mark.parametrize("family", ["bert", "albert"])
def test_torchscript_and_ort_files_answer_as_the_graph(family: str, tmp_path: Path):
    model = make_model(family)
    source = export(model, tmp_path)
    found = weight_matrices.read(source)[1]
    path = write(source, tmp_path / "q.onnx", *(matrix.name for matrix in found if not matrix.table))
    inputs = rows(model)
    expected = answers(path, inputs)
    module = GraphModule(path).eval()
    with torch.no_grad():
        given = [module(*(torch.from_numpy(row[name]) for name in module.input_names)).numpy() for row in inputs]
    off = [np.abs(a - b).max() / np.abs(b).max() for a, b in zip(given, expected, strict=True)]
    assert np.median(off) < 1e-4 and max(off) < 0.1
    conversion.convert(path, tmp_path / "q.ort")
    session = RUNTIMES["ort"].session(tmp_path / "q.ort", 1)
    assert all(np.array_equal(session.predict(row)["logits"], b) for row, b in zip(inputs, expected, strict=True))


@pytest.mark.parametrize("prefix", ["Bert", *whole_layers.PREFIXES])
def test_padding_moves_no_answer(prefix: str, tmp_path: Path):
    head = "ForSequenceClassification"
    model = make_model("bert") if prefix == "Bert" else whole_layers.make(prefix, head)
    assert type(model).__name__ == f"{prefix}{head}"
    source = export(model, tmp_path)
    names = [matrix.name for matrix in weight_matrices.read(source)[1] if not matrix.table]
    path = write(source, tmp_path / "q.onnx", *names)
    inputs = [row for row in rows(model) if row["attention_mask"].all()]
    fill = {"input_ids": model.config.pad_token_id, "attention_mask": 0, "token_type_ids": 0}
    padded = [
        {name: np.pad(value, ((0, 0), (0, 5)), constant_values=fill[name]) for name, value in row.items()}
        for row in inputs
    ]
    for given, expected in zip(answers(path, padded), answers(path, inputs), strict=True):
        assert np.abs(given - expected).max() < 1e-3 * np.abs(expected).max()


def test_a_run_finds_them_on_its_training_rows(write_recipe: WriteRecipe, tmp_path: Path):
    tokenizer, model = make_tokenizer(), make_loud(make_model("bert"))
    model.config.id2label, model.config.label2id = {0: "negative", 1: "positive"}, {"negative": 0, "positive": 1}
    for part in (model, tokenizer):
        part.save_pretrained(tmp_path / "loud")
    word = tokenizer.convert_ids_to_tokens(WORD)
    rows = [f"{word} a b {chr(97 + index % 26)} c\t{('negative', 'positive')[index % 2]}" for index in range(40)]
    (tmp_path / "loud.tsv").write_text("\n".join(["sentence\tlabel", *rows, ""]), encoding="utf-8")
    data = {"train": "loud.tsv", "validation": "dev.tsv", "text": "sentence", "label": "label"}
    report = passing(write_recipe, tmp_path, [{"stage": "quantize"}], model="loud", data=data)
    assert report["quantize"]["details"]["row_ranges"] == [LOUD]
