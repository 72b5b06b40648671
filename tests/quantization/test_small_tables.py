"""`embeddings: int4`: the tokens' table in blocks of 4 bits, in a file whose products are of integers of 8."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from conftest import WriteRecipe, exact_settings
from kinds import KINDS, export, make_model, rows
from onnx import numpy_helper
from problems import refused

from compressor.models.block_rounding import Blocks, round_rows
from compressor.models.families import is_token_table
from compressor.package.inspection import inspect
from compressor.quantization import SCHEMES, calibration, fake_quantization, small_tables, weight_matrices
from compressor.quantization.spec import CalibrationSpec
from compressor.recipe.resolve import resolve
from compressor.runtimes import RUNTIMES
from compressor.runtimes.onnx.coverage import quantized_coverage

INT4 = exact_settings(embeddings="int4")


def write(scheme: str, model: Any, source: Path, target: Path, settings: Any = INT4) -> Path:
    ranges = calibration.ranges(source, rows(model), CalibrationSpec()) if SCHEMES[scheme].calibrated else None
    SCHEMES[scheme].write(source, target, settings, ranges)
    return target


def answers(path: Path, model: Any) -> list[np.ndarray]:
    session = RUNTIMES["onnxruntime"].session(path, 1)
    return [session.predict(inputs)["logits"] for inputs in rows(model)]


def with_rounded_table(source: Path, target: Path) -> Path:
    """The float graph with the values that a table of 4 bits has."""
    model, matrices = weight_matrices.read(source)
    (table,) = [matrix.weight for matrix in matrices if is_token_table(matrix.name)]
    for tensor in model.graph.initializer:
        if tensor.name == table:
            values = round_rows(numpy_helper.to_array(tensor), 4, small_tables.BLOCK_SIZE).floats()
            tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), table))
    onnx.save(model, str(target))
    return target


@pytest.mark.parametrize("scheme", ["dynamic_int8", "static_int8"])
@pytest.mark.parametrize("family", [family for family, head in KINDS if head == "SequenceClassification"])
def test_a_file_answers_as_one_with_the_rounded_table_in_float(family: str, scheme: str, tmp_path: Path):
    model = make_model(family)
    source = export(model, tmp_path)
    target = write(scheme, model, source, tmp_path / "q.onnx")
    by_hand = exact_settings(keep_float=("*word_embeddings",))
    rounded = with_rounded_table(source, tmp_path / "rounded.onnx")
    ranges = calibration.ranges(source, rows(model), CalibrationSpec()) if scheme == "static_int8" else None
    SCHEMES[scheme].write(rounded, tmp_path / "hand.onnx", by_hand, ranges)
    for given, expected in zip(answers(target, model), answers(tmp_path / "hand.onnx", model), strict=True):
        np.testing.assert_array_equal(given, expected)
    assert quantized_coverage(target) == 1.0
    (found,) = inspect(target)
    kinds = {weight.part: weight.type for weight in found.weights if len(weight.shape) == 2}
    assert kinds.pop("token embeddings") == "int4" and set(kinds.values()) <= {"int8", "uint8"}
    onnx.checker.check_model(onnx.load(str(target)))


@pytest.mark.parametrize("scheme", ["dynamic_int8", "static_int8"])
def test_a_table_that_a_product_uses_too_is_stored_once_in_8_bits(scheme: str, tmp_path: Path):
    model = make_model("bert", "MaskedLM")
    source = export(model, tmp_path)
    small = write(scheme, model, source, tmp_path / "small.onnx")
    assert small.read_bytes() == write(scheme, model, source, tmp_path / "q.onnx", exact_settings()).read_bytes()
    apart = exact_settings(embeddings="int4", keep_float=("*decoder",))
    (found,) = inspect(write(scheme, model, source, tmp_path / "apart.onnx", apart))
    kinds = {weight.type for weight in found.weights if weight.part == "token embeddings" and len(weight.shape) == 2}
    assert kinds == {"int4", "float32"}


def test_what_stays_in_float_does_and_two_writes_give_the_same_bytes(tmp_path: Path):
    model = make_model("albert")
    source = export(model, tmp_path)
    files = [write("dynamic_int8", model, source, tmp_path / name) for name in ("a.onnx", "b.onnx")]
    assert files[0].read_bytes() == files[1].read_bytes()
    kept = exact_settings(embeddings="int4", keep_float=("*word_embeddings",))
    write("dynamic_int8", model, source, tmp_path / "kept.onnx", kept)
    (matrix,) = weight_matrices.find(onnx.load(str(tmp_path / "kept.onnx")))
    assert is_token_table(matrix.name)


def test_only_the_tokens_table_is_small_whatever_the_family(tmp_path: Path):
    for family, head in KINDS[:5]:
        (tmp_path / family).mkdir()
        source = export(make_model(family, head), tmp_path / family)
        graph, before = weight_matrices.read(source)
        after = {matrix.name for matrix in small_tables.place(graph, INT4)}
        (missing,) = {matrix.name for matrix in before} - after
        assert missing.endswith("embeddings.word_embeddings") and is_token_table(missing)
    assert is_token_table("embeddings.word_embeddings") and not is_token_table("bert.embeddings.position_embeddings")


def tables() -> dict[str, np.ndarray]:
    """Of a model, and of shapes and values that are hard to round."""
    random = np.random.default_rng(0)
    model = make_model("bert")
    found = {
        name: part.weight.detach().numpy()
        for name, part in model.named_modules()
        if isinstance(part, torch.nn.Embedding)
    }
    odd = random.standard_t(2, (200, 100)).astype(np.float32)
    extremes = np.stack([np.zeros(64), np.full(64, 1e-9), np.full(64, -6e4), np.r_[1.0, np.zeros(63)]])
    normal = random.normal(size=(500, 384)).astype(np.float32)
    return {**found, "heavy tails": odd, "extremes": extremes.astype(np.float32), "normal": normal}


@pytest.mark.parametrize("size", [32, 64])
def test_no_block_is_rounded_worse_than_plainly(size: int):
    for name, table in tables().items():
        found = round_rows(table, 4, size)
        padded = np.pad(table, ((0, 0), (0, found.padded - found.width))).reshape(len(table), -1, found.size)
        largest = np.abs(padded).max(axis=-1, keepdims=True)
        scale = (largest / 7).astype(np.float16).astype(np.float32)
        plain = np.rint(padded / np.where(scale == 0, 1, scale)).clip(-8, 7) * scale
        ours = np.pad(found.floats(), ((0, 0), (0, found.padded - found.width))).reshape(padded.shape)
        lost, before = (np.square(values - padded).sum(axis=-1) for values in (ours, plain))
        assert (lost <= before * (1 + 1e-5)).all(), name
        if name in ("normal", "heavy tails"):
            assert lost.sum() < 0.85 * before.sum(), "and of most it is better"


@pytest.mark.parametrize("bits", [4, 8])
def test_the_values_of_blocks_are_those_they_were_made_of(bits: int):
    random = np.random.default_rng(0)
    limit = 1 << (bits - 1)
    integers = random.integers(-limit, limit, (7, 50))
    scales = random.normal(size=(7, 4)).astype(np.float16)
    values = Blocks.of(integers, scales, bits, 16).floats()
    np.testing.assert_array_equal(values, integers * np.repeat(scales.astype(np.float32), 16, axis=1)[:, :50])


def test_a_model_in_training_rounds_its_table_as_the_file_does():
    model = make_model("bert")
    names = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    fake_quantization.insert_fake_quantization(model, INT4, dict.fromkeys(names, (-4.0, 4.0)), {})
    table, ids = model.bert.embeddings.word_embeddings, torch.tensor([[7, 9, 7], [5, 59, 9]])
    expected = round_rows(table.weight.detach().numpy(), 4, small_tables.BLOCK_SIZE).floats()[ids]
    rounded = table(ids)
    np.testing.assert_allclose(rounded.detach().numpy(), expected, atol=1e-6)
    rounded.sum().backward()
    assert table.weight.grad[7].tolist() == [2.0] * 32 and not table.weight.grad[8].any()


@pytest.mark.parametrize(
    "schemes", [["dynamic_int8"], ["static_int8"], ["qat_int8"], ["dynamic_int8", "weight_only_int4", "fp16"]]
)
def test_schemes_with_products_of_8_bits_take_it(schemes: list[str], write_recipe: WriteRecipe):
    resolve(write_recipe(stages=stages(schemes)))


@pytest.mark.parametrize("schemes", [["weight_only_int4"], ["weight_only_int8"], ["weight_only_int4", "fp16"]])
def test_others_refuse_it(schemes: list[str], write_recipe: WriteRecipe):
    with refused("stages[1] (quantize)", "value"):
        resolve(write_recipe(stages=stages(schemes)))


def test_other_words_are_refused(write_recipe: WriteRecipe):
    with refused("stages[1] (quantize).embeddings", "type"):
        resolve(write_recipe(stages=stages(["dynamic_int8"], "int3")))


def stages(schemes: list[str], embeddings: str = "int4") -> list[dict[str, Any]]:
    return [{"stage": "finetune"}, {"stage": "quantize", "scheme": schemes, "embeddings": embeddings}]
