"""Fake quantization: what is rounded, how, what learns through it, and that files give the same answers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from conftest import exact_settings
from kinds import KINDS, export, export_anew, make_model, rows

from compressor.errors import StageError
from compressor.quantization import Settings, calibration, fake_quantization, static_int8, weight_matrices
from compressor.quantization.spec import CalibrationSpec
from compressor.runtimes.onnx import attention_biases, flatten, passes


def answers(path: Path, inputs: dict[str, np.ndarray]) -> np.ndarray:
    """The main output, each operator run as the file says."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(["logits"], inputs)[0]


def main_output(model: Any, inputs: dict[str, np.ndarray]) -> np.ndarray:
    with torch.no_grad():
        outputs = model(**{name: torch.from_numpy(array) for name, array in inputs.items()})
    return outputs[0].numpy()


def test_a_weight_is_rounded_by_hand():
    weight = torch.tensor([[1.0, -0.6, 0.26], [0.0, 0.0, 0.0], [127.0, 0.5, -1.5]])
    rounded = fake_quantization.rounded_weight(
        weight, fake_quantization.weight_scale(weight.abs().amax(dim=1, keepdim=True), 127), 127
    )
    # steps 127, -76.2, 33.02; a row of zeros; 127, 0.5 and -1.5 half to even
    expected = torch.tensor([[1.0, -76 / 127, 33 / 127], [0.0, 0.0, 0.0], [127.0, 0.0, -2.0]])
    assert torch.allclose(rounded, expected, atol=1e-7)
    coarse = fake_quantization.rounded_weight(weight[:1], fake_quantization.weight_scale(torch.tensor(1.0), 63), 63)
    assert torch.allclose(coarse, torch.tensor([[1.0, -38 / 63, 16 / 63]]), atol=1e-7)


def test_an_input_is_rounded_by_hand_and_zero_stays_zero():
    rounds = fake_quantization.RoundedInput(-1.0, 4.1)  # steps of 0.02, zero point 50
    values = torch.tensor([0.0, 0.013, -0.033, 4.1, 9.0, -1.0, -1.5])
    assert torch.allclose(rounds(values), torch.tensor([0.0, 0.02, -0.04, 4.1, 4.1, -1.0, -1.0]), atol=1e-6)
    above = fake_quantization.RoundedInput(2.0, 5.1)  # 0 is always inside
    assert torch.allclose(above(torch.tensor([0.0, 0.031, -1.0])), torch.tensor([0.0, 0.04, 0.0]), atol=1e-6)
    assert fake_quantization.RoundedInput(0.0, 0.0)(torch.tensor([0.0])).item() == 0


def test_gradients_pass_inside_the_range_and_not_outside():
    values = torch.tensor([0.0, 0.013, -0.033, 4.1, 9.0, -1.0, -1.5], requires_grad=True)
    fake_quantization.RoundedInput(-1.0, 4.1)(values).backward(torch.arange(1.0, 8.0))
    assert values.grad.tolist() == [1, 2, 3, 4, 0, 6, 0]
    weight = torch.randn(4, 8, requires_grad=True)
    scale = fake_quantization.weight_scale(weight.detach().abs().amax(dim=1, keepdim=True), 127)
    fake_quantization.rounded_weight(weight, scale, 127).sum().backward()
    assert (weight.grad == 1).all(), "the largest weight sets the scale, so none is clipped"


def test_half_precision_is_rounded_as_floats_are():
    values = torch.linspace(-1, 4, 200).bfloat16()
    rounds = fake_quantization.RoundedInput(-1.0, 4.1)
    assert torch.equal(rounds(values), rounds(values.float()))
    model = make_model("bert")
    fake_quantization.insert_fake_quantization(
        model, exact_settings(), {name: (-4.0, 4.0) for name, _ in model.named_modules()}, {}
    )
    seen = []
    handle = model.classifier.register_forward_hook(lambda _, given, out: seen.append(out.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(torch.randint(5, 60, (2, 8))).logits
    handle.remove()
    assert seen == [torch.bfloat16] and logits.isfinite().all()


def biases_of(graph: Path) -> dict[str, weight_matrices.Bias]:
    return weight_matrices.biases(weight_matrices.read(graph)[0])


def differences(
    model: Any, folder: Path, settings: Settings, export: Callable[[Any, Path], Path] = export
) -> tuple[np.ndarray, np.ndarray]:
    """For each of some rows, the largest difference of the model in training, and of the float model, from the file."""
    graph, sample = export(model, folder), rows(model, 9)
    ranges, biases = calibration.ranges(graph, sample, CalibrationSpec()), biases_of(graph)
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fake_quantization.insert_fake_quantization(model, settings, ranges, biases)
    assert set(state) <= set(model.state_dict()), "parameters keep their names"
    trained = [main_output(model, row) for row in sample]
    used = fake_quantization.remove_fake_quantization(model)
    assert set(used) == {name for name in ranges if not settings.stays_float(name)}
    assert list(model.state_dict()) == list(state)
    static_int8.write(graph, folder / "q.onnx", settings, used)
    plain = [main_output(model, row) for row in sample]
    shipped = [answers(folder / "q.onnx", row) for row in sample]
    found = ([np.abs(a - b).max() for a, b in zip(given, shipped, strict=True)] for given in (trained, plain))
    ours, floats = map(np.array, found)
    return ours, floats


def assert_same(ours: np.ndarray, floats: np.ndarray) -> None:
    """Float noise moves a few values over the edge between two integers, and then an answer by as much as rounding."""
    assert np.median(ours) < 1e-3 * np.median(floats), (ours, floats)
    assert ours.max() < floats.max()


@pytest.mark.parametrize(
    ("family", "head"), [*KINDS, ("bert", "TokenClassification"), ("distilbert", "TokenClassification")]
)
def test_a_model_in_training_answers_as_its_file_will(family: str, head: str, tmp_path: Path):
    assert_same(*differences(make_model(family, head), tmp_path, exact_settings()))


@pytest.mark.parametrize("left_out", ["fold_biases", "flatten"])
@pytest.mark.parametrize("family", ["bert", "albert"])
def test_it_rounds_what_the_graph_has_and_not_what_a_rewrite_should_have_made_of_it(
    family: str, left_out: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    folds = left_out == "fold_biases"
    module, nothing = (attention_biases, (0, 0)) if folds else (flatten, 0)
    monkeypatch.setattr(module, left_out, lambda model: nothing)
    with pytest.raises(StageError, match=r"value_biases: 0, 4 expected" if folds else r"joined_biases: 0, 16 expected"):
        export_anew(make_model(family), tmp_path)
    monkeypatch.setattr(passes, "check", lambda found, model: None)
    assert_same(*differences(make_model(family), tmp_path, exact_settings(), export_anew))
    found = set(biases_of(tmp_path / "model.onnx").values())
    assert found == ({"inside"} if folds else {"after", "inside", "none"})


@pytest.mark.parametrize(
    "settings",
    [
        exact_settings(per_channel=False),
        exact_settings(per_channel=False, reduce_range=True),
        exact_settings(embeddings=False),
        exact_settings(embeddings="int4", keep_float=("*.decoder",)),
        exact_settings(keep_float=("*.layer.0.*", "*.decoder")),
        exact_settings(keep_float=("*.word_embeddings",), reduce_range=True),
    ],
)
def test_settings_mean_the_same_in_training_and_in_the_file(settings: Settings, tmp_path: Path):
    assert_same(*differences(make_model("bert", "MaskedLM"), tmp_path, settings))


def test_a_tied_table_and_decoder_learn_together(tmp_path: Path):
    model = make_model("bert", "MaskedLM")
    graph = export(model, tmp_path)
    ranges = calibration.ranges(graph, rows(model), CalibrationSpec())
    fake_quantization.insert_fake_quantization(model, exact_settings(), ranges, biases_of(graph))
    inputs = {name: torch.from_numpy(array) for name, array in rows(model)[3].items()}
    model(**inputs).logits.square().sum().backward()
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert not [name for name, parameter in model.named_parameters() if parameter.grad is None]


def test_there_is_no_dropout_while_a_model_rounds():
    model = make_model("bert").train()
    inputs = torch.randint(5, 60, (2, 8))

    def two() -> list[torch.Tensor]:
        return [model(inputs).logits for _ in range(2)]

    assert not torch.equal(*two())
    fake_quantization.insert_fake_quantization(
        model, exact_settings(), {name: (-4.0, 4.0) for name, _ in model.named_modules()}, {}
    )
    assert torch.equal(*two())
    fake_quantization.remove_fake_quantization(model)
    assert not torch.equal(*two()), "it is back"
    assert model.config.hidden_dropout_prob == 0.1
