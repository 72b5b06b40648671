"""Core ML: a saved package, read back and evaluated in half precision, gives torch's answers."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from conftest import MAX_POSITIONS, WriteRecipe
from kinds import loaded, make_model
from problems import refused
from torch import nn

from compressor.commands import main
from compressor.errors import StageError
from compressor.measure import parity
from compressor.measure.token_rows import edge_cases
from compressor.models import outputs
from compressor.models.quantized import QuantizedFile
from compressor.recipe.resolve import resolve
from compressor.runtimes import base, coreml, tracing
from compressor.runtimes.shipped import size_bytes

VOCABULARY = 60
EDGES = edge_cases(MAX_POSITIONS, VOCABULARY, 0)
KINDS = [
    ("bert", "PreTraining"),
    ("distilbert", "QuestionAnswering"),
    ("albert", "MaskedLM"),
    ("shared_attention", "TokenClassification"),
    ("pruned", "SequenceClassification"),
    ("roberta", "SequenceClassification"),
]
"""Every family and every head."""
INT8 = QuantizedFile("dynamic_int8", "int8", "m.onnx", True, 8, True, None, ())
INT4 = replace(INT8, scheme="weight_only_int4", precision="int4", embeddings=4, integer_products=False, block_size=32)
needs_coremltools = pytest.mark.skipif(
    bool(coreml.RUNTIME.missing()), reason="needs the extra: pip install 'bert-compressor[coreml]'"
)


def write(model: Any, path: Path, chosen: QuantizedFile | None = None) -> Path:
    from compressor.runtimes.coreml import conversion

    with loaded(model):
        conversion.write(path.parent, path, chosen)
    return path


def answers(model: Any, inputs: dict[str, Any]) -> dict[str, np.ndarray]:
    names = tracing.Traceable(model).input_names
    with torch.no_grad():
        found = outputs.outputs_by_name(model, model(**{name: torch.from_numpy(inputs[name]) for name in names}))
    return {name: tensor.numpy() for name, tensor in found.items()}


KEPT = "bert.encoder.layer.0.output.dense"
TABLE, POSITIONS = "bert.embeddings.word_embeddings", "bert.embeddings.position_embeddings"
PRODUCT = "bert.encoder.layer.0.intermediate.dense"


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One small model in two precisions."""
    folder = tmp_path_factory.mktemp("packages")
    chosen = {"int8": replace(INT8, keep_float=(KEPT,), embeddings=4), "int4": INT4}
    return {
        name: write(make_model("bert", layers=1), folder / f"{name}.mlpackage", how) for name, how in chosen.items()
    }


class Activations(nn.Module):
    """Every activation of transformers that the converter knows."""

    def __init__(self) -> None:
        from transformers.activations import ACT2FN

        super().__init__()
        self.parts = nn.ModuleList([ACT2FN[name] for name in ACT2FN if name not in ("prelu", "xielu")])

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        total = inputs
        for part in self.parts:
            total = total + part(inputs) / len(self.parts)
        return total


@needs_coremltools
@pytest.mark.parametrize(("family", "head"), KINDS)
def test_edges_of_all_lengths_give_torchs_logits_in_batches_too(family: str, head: str, tmp_path: Path):
    model = make_model(family, head, layers=2 if family in ("albert", "shared_attention") else 1)
    if family == "bert":
        model.bert.encoder.layer[0].intermediate.intermediate_act_fn = Activations()
    path = write(model, tmp_path / "model.mlpackage", INT8 if head == "MaskedLM" else None)
    if head == "MaskedLM":
        from compressor.runtimes.coreml import package

        table = model.get_input_embeddings().weight.detach()
        found = [value for value in package.read(path).constants.values() if np.shape(value) == table.shape]
        assert sum(np.allclose(value, table, atol=1e-3) for value in found) == 1, "tied, and stored once"
    session = coreml.Session(path, 1)
    for batch in [*([index] for index in range(len(EDGES))), [0, 6, 3]]:
        inputs = EDGES.batch(batch)
        given, expected = session.predict(inputs), answers(model, inputs)
        assert list(given) == list(expected)
        for name, logits in expected.items():
            limit = 0.03 * max(1.0, float(np.abs(logits).max()))
            assert np.abs(given[name] - logits).max() < limit  # NaN is not below


@needs_coremltools
def test_weights_are_as_small_as_a_stage_has_chosen(packages: dict[str, Path]):
    from compressor.runtimes.coreml import package

    model, inputs = make_model("bert", layers=1), EDGES.batch([4])
    expected = answers(model, inputs)["logits"]
    read = {name: package.read(path).constants.values() for name, path in packages.items()}
    for name, limit in (("int8", 0.2), ("int4", 1.5)):
        given = coreml.Session(packages[name], 1).predict(inputs)["logits"]
        assert 0 < np.abs(given - expected).max() < limit * max(1.0, float(np.abs(expected).max())), name

    def stored(name: str, part: str) -> torch.Tensor:
        """What a package has for a matrix."""
        found = [value for value in read[name] if np.shape(value) == matrix(part).shape]
        return min(found, key=lambda value: float((value - matrix(part)).norm()))

    def matrix(part: str) -> torch.Tensor:
        weight: torch.Tensor = model.get_submodule(part).weight.detach()
        return weight

    def levels(name: str, part: str) -> int:
        """Different values in a row, at most; rows of this model are single blocks."""
        return max(len(row.unique()) for row in stored(name, part))

    assert max(levels("int4", TABLE), levels("int4", PRODUCT), levels("int8", TABLE)) <= 16
    assert min(levels("int8", PRODUCT), levels("int8", POSITIONS)) > 16, "not the small tables"
    assert torch.equal(stored("int8", KEPT), matrix(KEPT).half().float()), "stays in half precision"
    assert not torch.equal(stored("int8", PRODUCT), matrix(PRODUCT).half().float())
    assert not torch.equal(stored("int8", POSITIONS), matrix(POSITIONS).half().float())
    weights = {name: size_bytes(path / "Data/com.apple.CoreML/weights") for name, path in packages.items()}
    assert weights["int4"] < weights["int8"] < 2 * sum(parameter.numel() for parameter in model.parameters())


@needs_coremltools
def test_the_same_checkpoint_gives_the_same_bytes(packages: dict[str, Path], tmp_path: Path):
    first, again = packages["int4"], write(make_model("bert", layers=1), tmp_path / "model.mlpackage", INT4)
    files = [path.relative_to(again) for path in again.rglob("*") if path.is_file()]
    assert len(files) == 3
    assert [file for file in files if (again / file).read_bytes() != (first / file).read_bytes()] == []


@needs_coremltools
def test_a_row_that_is_too_long_is_refused(packages: dict[str, Path]):
    rows = np.ones((1, MAX_POSITIONS + 1), np.int64)
    inputs = dict.fromkeys(("input_ids", "attention_mask", "token_type_ids"), rows)
    with pytest.raises(StageError, match=f"{MAX_POSITIONS + 1} tokens"):
        coreml.Session(packages["int8"], 1).predict(inputs)


@needs_coremltools
def test_a_mask_that_half_precision_cannot_hold_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from compressor.runtimes.coreml import conversion

    monkeypatch.setattr(conversion, "_MASKED", float(torch.finfo(torch.float32).min))
    model, inputs = make_model("bert", layers=1), EDGES.batch([4])
    given = coreml.Session(write(model, tmp_path / "model.mlpackage"), 1).predict(inputs)["logits"]
    assert np.isnan(given).any()


class Unknown(nn.Module):
    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return torch.special.bessel_j0(inputs)


@needs_coremltools
def test_an_operator_that_the_converter_does_not_know_is_named(tmp_path: Path):
    model = make_model("bert", layers=1)
    model.bert.encoder.layer[0].intermediate.intermediate_act_fn = Unknown()
    with pytest.raises(StageError, match=r"coreml.*bessel_j0"):
        write(model, tmp_path / "model.mlpackage")


def test_an_operator_that_the_evaluation_does_not_know_is_named():
    from compressor.runtimes.coreml import operators

    with pytest.raises(StageError, match=r"coreml.*operator einsum"):
        operators.evaluate("einsum", {})


def test_floats_are_rounded_to_half_precision_after_every_operator():
    from compressor.runtimes.coreml import operators

    tiny = torch.tensor([1.0], dtype=torch.float16)
    (total,) = operators.evaluate("add", {"x": tiny * 2048, "y": tiny})
    assert total.dtype == torch.float16 and total.item() == 2048
    (product,) = operators.evaluate("mul", {"x": tiny * 300, "y": tiny * 300})
    assert torch.isinf(product).all()


def test_it_is_held_to_torch_whatever_is_quantized(tmp_path: Path):
    (tmp_path / "coreml/model.mlpackage").mkdir(parents=True)
    assert [(found.kind, str(found.reference)) for found in parity.present(tmp_path)] == [("evaluated", "torch")]
    for quantized in (False, True):
        assert coreml.RUNTIME.held(quantized) == "evaluated"
    assert [coreml.RUNTIME.precision(deployed) for deployed in (None, "int8", "int4")] == ["fp16", "int8", "int4"]


def export(targets: list[str], **keys: Any) -> dict[str, Any]:
    return {"stage": "export", "targets": targets, **keys}


@pytest.mark.parametrize(
    ("targets", "metric", "kind"),
    [
        (["onnx", "coreml"], "coreml.latency_p50_ms", "unknown"),
        (["onnx", "coreml"], "coreml.accuracy", "unknown"),
        (["onnx", "coreml"], "coreml.peak_rss_bytes", "unknown"),
        (["onnx"], "parity_evaluated_label_agreement", "conflict"),
        (["coreml"], "parity_max_abs_diff", "conflict"),
        (["coreml"], "parity_label_agreement", "conflict"),
    ],
)
def test_what_is_not_measured_of_it_is_not_gated(write_recipe: WriteRecipe, targets: list[str], metric: str, kind: str):
    limit = {"min": 0.9} if metric.endswith(("agreement", "accuracy")) else {"max": 1}
    with refused(f"stages[1] (export).gates.{metric}", kind):
        resolve(write_recipe(stages=[{"stage": "finetune"}, export(targets, gates={metric: limit})]))


@needs_coremltools
@pytest.mark.parametrize("scheme", ["dynamic_int8", "weight_only_int4", "weight_only_int8", "fp16", None])
def test_every_precision_can_ship(write_recipe: WriteRecipe, scheme: str | None):
    gates = {
        "coreml.parity_max_abs_diff": {"max": 1},
        "coreml.size_bytes": {"max": 1e6},
        "parity_evaluated_label_agreement": {"min": 0.9},
    }
    quantize = [{"stage": "quantize", "scheme": scheme}] if scheme else []
    resolve(write_recipe(stages=[{"stage": "finetune"}, *quantize, export(["coreml"], gates=gates)]))


def test_without_the_extra_validate_and_the_stage_say_so(
    write_recipe: WriteRecipe, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setattr(base, "installed", lambda name: False)
    recipe = write_recipe(stages=[{"stage": "finetune"}, export(["onnx", "coreml"])])
    result = CliRunner().invoke(main.main, ["validate", str(recipe)])
    assert result.exit_code == 2
    assert "stages[1] (export).targets" in result.output and "not installed" in result.output
    assert "pip install 'bert-compressor[coreml]'" in result.output
    for call in (lambda: coreml.export(tmp_path, tmp_path / "m"), lambda: coreml.Session(tmp_path, 1)):
        with pytest.raises(StageError, match=r"bert-compressor\[coreml\]"):
            call()
