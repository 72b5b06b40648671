"""Padding: positions that no token has move neither the answers of a float graph nor the ranges of a quantized one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from conftest import MAX_POSITIONS, exact_settings
from kinds import KINDS, export, make_model, rows

from compressor.measure.token_rows import EDGES, edge_cases
from compressor.models.outputs import output_names
from compressor.quantization import dynamic_int8
from compressor.runtimes import RUNTIMES
from compressor.runtimes.base import Session
from compressor.runtimes.onnx import padding
from compressor.runtimes.torchscript_int8.module import GraphModule

ALL = [
    *KINDS,
    ("roberta", "SequenceClassification"),
    ("electra", "TokenClassification"),
    *((family, head) for head in ("TokenClassification", "QuestionAnswering") for family in ("bert", "albert")),
]
Row = dict[str, np.ndarray]


def longer(row: Row, length: int) -> Row:
    """Padded on the right: with a word, so that what is looked up there is none that real rows do not have."""
    fill = {"input_ids": 7, "attention_mask": 0, "token_type_ids": 0}
    more = length - row["input_ids"].shape[1]
    return {name: np.pad(value, ((0, 0), (0, more)), constant_values=fill[name]) for name, value in row.items()}


def read(session: Session, row: Row, names: tuple[str, ...]) -> list[np.ndarray]:
    """What is read of the outputs: of a row, or of each position that is not padding."""
    outputs = session.predict(row)
    there = row["attention_mask"] == 1
    per_token = [outputs[name].shape[:2] == there.shape and outputs[name].shape[1] > 1 for name in names]
    return [outputs[name][there] if each else outputs[name] for name, each in zip(names, per_token, strict=True)]


def moved(session: Session, pairs: list[tuple[Row, Row]], names: tuple[str, ...]) -> list[float]:
    """The largest difference between what is read of two forms of a row, of each pair, in shares of the largest."""
    found = []
    for one, other in pairs:
        answers = zip(read(session, one, names), read(session, other, names), strict=True)
        found.append(max(float(np.abs(a - b).max() / np.abs(a).max()) for a, b in answers))
    return found


def write_blind(source: Path, target: Path) -> Path:
    """The quantized graph as it is without the rewrite."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(padding, "repeat_first_token", lambda model: 0)
        dynamic_int8.write(source, target, exact_settings())
    return target


def padded(model: Any) -> list[tuple[Row, Row]]:
    return [(row, longer(row, MAX_POSITIONS)) for row in rows(model)]


@pytest.mark.parametrize(("family", "head"), ALL)
def test_padding_moves_no_answer_of_int8_and_rows_without_it_keep_theirs(family: str, head: str, tmp_path: Path):
    model = make_model(family, head)
    names, source = output_names(model), export(model, tmp_path)
    dynamic_int8.write(source, tmp_path / "q.onnx", exact_settings())
    blind = RUNTIMES["onnxruntime"].session(write_blind(source, tmp_path / "blind.onnx"), 1)
    session = RUNTIMES["onnxruntime"].session(tmp_path / "q.onnx", 1)
    assert max(moved(session, padded(model), names)) < 1e-3
    assert max(moved(blind, padded(model), names)) > 1e-2, "what this is for"
    for row in rows(model):
        if row["attention_mask"].all():
            given, expected = session.predict(row), blind.predict(row)
            assert all(np.abs(given[name] - expected[name]).max() < 1e-6 for name in names), "but for the last bit"


def test_a_table_in_four_bits_is_looked_up_alike(tmp_path: Path):
    model = make_model("bert")
    dynamic_int8.write(export(model, tmp_path), tmp_path / "q.onnx", exact_settings(embeddings="int4"))
    session = RUNTIMES["onnxruntime"].session(tmp_path / "q.onnx", 1)
    assert max(moved(session, padded(model), ("logits",))) < 1e-3


def test_a_longer_batch_answers_as_the_same_rows_in_a_shorter_one(tmp_path: Path):
    """Rows of one batch share their ranges, as before; padding is in none of them."""
    model = make_model("bert")
    dynamic_int8.write(export(model, tmp_path), tmp_path / "q.onnx", exact_settings())
    short, long = rows(model)[1], rows(model)[4]
    batch = {name: np.concatenate([longer(short, long["input_ids"].shape[1])[name], long[name]]) for name in long}
    session = RUNTIMES["onnxruntime"].session(tmp_path / "q.onnx", 1)
    assert max(moved(session, [(batch, longer(batch, MAX_POSITIONS))], ("logits",))) < 1e-3


def test_torchscript_of_int8_is_not_moved_either(tmp_path: Path):
    model = make_model("bert")
    dynamic_int8.write(export(model, tmp_path), tmp_path / "q.onnx", exact_settings())
    module = GraphModule(tmp_path / "q.onnx").eval()
    for pair in padded(model):
        with torch.no_grad():
            one, other = (module(*(torch.from_numpy(row[name]) for name in module.input_names)) for row in pair)
        assert (one - other).abs().max() < 1e-3 * one.abs().max()


@pytest.mark.parametrize(("family", "head"), [("bert", "TokenClassification"), ("albert", "SequenceClassification")])
def test_a_float_graph_answers_as_before_wherever_the_padding_is(family: str, head: str, tmp_path: Path):
    model = make_model(family, head)
    source = export(model, tmp_path)
    graph = onnx.load(str(source))
    assert padding.repeat_first_token(graph) == 3, "words, positions, segments"
    onnx.save(graph, str(tmp_path / "rewritten.onnx"))
    before, after = (RUNTIMES["onnxruntime"].session(path, 1) for path in (source, tmp_path / "rewritten.onnx"))
    edges = edge_cases(MAX_POSITIONS, model.config.vocab_size, 0)
    for index in range(len(EDGES)):
        row = edges.batch([index])
        for given, expected in zip(read(after, row, ("logits",)), read(before, row, ("logits",)), strict=True):
            assert np.abs(given - expected).max() < 2e-5, EDGES[index]


def test_the_rewrite_adds_integers_alone(tmp_path: Path):
    """Nothing stands between the layers, where it would cost time and break up what ONNX Runtime fuses."""
    source = export(make_model("bert"), tmp_path)
    dynamic_int8.write(source, tmp_path / "q.onnx", exact_settings())
    before, after = (
        [node.op_type for node in onnx.load(str(path)).graph.node]
        for path in (write_blind(source, tmp_path / "blind.onnx"), tmp_path / "q.onnx")
    )
    assert sorted(after) == sorted([*before, "Cast", *["Slice", "Where"] * 3])
