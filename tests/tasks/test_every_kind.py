"""Heads for tokens and spans on every family: taken apart and put together, exported, quantized, loaded again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import transformers
from conftest import exact_settings, make_tokenizer
from kinds import export, loaded, make_model, rows

from compressor import quantization
from compressor.models import checkpoint, heads, loading, outputs
from compressor.models.convert import from_parts, to_parts
from compressor.quantization import calibration
from compressor.quantization.spec import CalibrationSpec
from compressor.runtimes import RUNTIMES, torchscript
from compressor.runtimes.onnx import coverage
from compressor.runtimes.torchscript_int8.module import GraphModule

HEADS = {"TokenClassification": heads.TOKEN_CLASSIFICATION, "QuestionAnswering": heads.QUESTION_ANSWERING}
FAMILIES = ["bert", "distilbert", "albert", "shared_attention", "pruned"]
KINDS = [(family, head) for head in HEADS for family in FAMILIES]
SCHEMES = list(quantization.SCHEMES)


@pytest.mark.parametrize(("family", "head"), KINDS)
def test_a_model_of_parts_is_the_same_model(family: str, head: str):
    model = make_model(family, head)
    again = from_parts(to_parts(model)).eval()
    assert type(again) is type(model)
    for inputs in rows(model):
        tensors = {name: torch.from_numpy(value) for name, value in inputs.items()}
        with torch.no_grad():
            pairs = zip(model(**tensors).to_tuple(), again(**tensors).to_tuple(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)


@pytest.mark.parametrize(("family", "head"), KINDS)
def test_what_is_saved_is_known_by_its_head(family: str, head: str, tmp_path: Path):
    model = make_model(family, head)
    loading.save(tmp_path, model, make_tokenizer())
    there = checkpoint.Checkpoint(tmp_path)
    assert there.head is HEADS[head]
    assert [kind for kind in heads.HEADS if there.has_head(kind)] == [there.head]
    assert type(loading.load_model(tmp_path)) is type(model)
    assert type(getattr(transformers, f"AutoModelFor{head}").from_pretrained(tmp_path)) is type(model)


@pytest.mark.parametrize(("family", "head"), KINDS)
def test_graphs_give_the_models_answers_in_every_scheme(family: str, head: str, tmp_path: Path):
    model = make_model(family, head)
    source, sample = export(model, tmp_path), rows(model)
    with loaded(model):
        torchscript.export(tmp_path, tmp_path / "model.pt")
    ranges = calibration.ranges(source, sample, CalibrationSpec())
    names = outputs.output_names(model)
    expected = []
    for inputs in sample:
        with torch.no_grad():
            given = model(**{name: torch.from_numpy(value) for name, value in inputs.items()})
        expected.append([given[name].numpy() for name in names])
    scale = max(float(np.abs(values).max()) for row in expected for values in row)

    def error(runtime: str, path: Path) -> float:
        session = RUNTIMES[runtime].session(path, 1)
        answers = [session.predict(inputs) for inputs in sample]
        pairs = (
            (row[n] - values[i])[inputs["attention_mask"] == 1]  # nobody reads positions that are padding
            for inputs, row, values in zip(sample, answers, expected, strict=True)
            for i, n in enumerate(names)
        )
        return max(float(np.abs(difference).max()) for difference in pairs) / scale

    assert error("onnxruntime", source) < 2e-5
    assert error("torchscript", tmp_path / "model.pt") < 2e-5
    for scheme in SCHEMES:
        path = tmp_path / f"{scheme}.onnx"
        settings = exact_settings(bits=4 if scheme.endswith("int4") else 8, block_size=16)
        quantization.SCHEMES[scheme].write(source, path, settings, ranges)
        assert error("onnxruntime", path) < (0.5 if scheme.endswith("int4") else 0.12), scheme
        if scheme != "fp16":
            assert coverage.quantized_coverage(path) == 1, scheme
        graph = GraphModule(path)
        for inputs in sample[:2]:
            given = graph(*(torch.from_numpy(inputs[name]) for name in graph.input_names))
            given = given if isinstance(given, tuple) else (given,)
            session = RUNTIMES["onnxruntime"].session(path, 1)
            for name, value in zip(graph.output_names, given, strict=True):
                assert np.abs(value.numpy() - session.predict(inputs)[name]).max() < 0.05 * scale, scheme
    assert [entry.name for entry in onnx.load(str(source)).graph.output] == list(names)
