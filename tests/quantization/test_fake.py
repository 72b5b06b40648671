"""Fake quantization: what is rounded, how, what learns through it, and that files give the same answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import make_tokenizer
from tiny_models import is_tied, make_albert, make_batch, make_model

from compressor import checkpoint
from compressor.quantization import Settings, aware, calibration, fake, matrices, static
from compressor.recipe_deployment import CalibrationSpec
from compressor.runtimes import onnx as onnx_runtime
from compressor.runtimes import onnx_sharing
from compressor.surgery import pruning, widths
from compressor.surgery.families import put_together, take_apart


def pruned(kind: str) -> Any:
    """A compact BERT."""
    whole = take_apart(make_albert(kind) if kind.startswith("Albert") else make_model(kind))
    left = widths.after(whole.heads, whole.neurons, (0.25, 0.25), "global")
    return put_together(pruning.pruned(whole, pruning.choose(pruning.magnitudes(whole), left, "global"))).eval()


HEADS = ("SequenceClassification", "MaskedLM")
MODELS = {
    **{f"Bert{head}": lambda head=head: make_model(f"BertFor{head}") for head in (*HEADS, "PreTraining")},
    **{f"DistilBert{head}": lambda head=head: make_model(f"DistilBertFor{head}") for head in HEADS},
    **{f"Albert{head}": lambda head=head: make_albert(f"AlbertFor{head}") for head in HEADS},
    **{f"Compact{head}": lambda head=head: pruned(f"BertFor{head}") for head in HEADS},
    **{f"CompactAlbert{head}": lambda head=head: pruned(f"AlbertFor{head}") for head in HEADS},
    "Untied": lambda: make_model("BertForMaskedLM", tie_word_embeddings=False),
}


def rows(model: Any, count: int = 12) -> list[dict[str, np.ndarray]]:
    random = np.random.default_rng(0)
    names = checkpoint.input_names(model.config.model_type)
    found = []
    for _ in range(count):
        ids = random.integers(5, 60, (1, int(random.integers(3, 12))))
        row = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
        found.append({name: row[name] for name in names})
    return found


def exported(model: Any, folder: Path) -> Path:
    checkpoint.save(folder / "checkpoint", model, make_tokenizer())
    onnx_runtime.export(folder / "checkpoint", folder / "model.onnx")
    return folder / "model.onnx"


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
    rounded = fake.rounded_weight(weight, weight.abs().amax(dim=1, keepdim=True), 127)
    # steps 127, -76.2, 33.02; a row of zeros; 127, 0.5 and -1.5 half to even
    expected = torch.tensor([[1.0, -76 / 127, 33 / 127], [0.0, 0.0, 0.0], [127.0, 0.0, -2.0]])
    assert torch.allclose(rounded, expected, atol=1e-7)
    coarse = fake.rounded_weight(weight[:1], torch.tensor(1.0), 63)
    assert torch.allclose(coarse, torch.tensor([[1.0, -38 / 63, 16 / 63]]), atol=1e-7)


def test_an_input_is_rounded_by_hand_and_zero_stays_zero():
    rounds = fake.RoundedInput(-1.0, 4.1)  # steps of 0.02, zero point 50
    values = torch.tensor([0.0, 0.013, -0.033, 4.1, 9.0, -1.0, -1.5])
    assert torch.allclose(rounds(values), torch.tensor([0.0, 0.02, -0.04, 4.1, 4.1, -1.0, -1.0]), atol=1e-6)
    above = fake.RoundedInput(2.0, 5.1)  # 0 is always inside
    assert torch.allclose(above(torch.tensor([0.0, 0.031, -1.0])), torch.tensor([0.0, 0.04, 0.0]), atol=1e-6)
    assert fake.RoundedInput(0.0, 0.0)(torch.tensor([0.0])).item() == 0


def test_gradients_pass_inside_the_range_and_not_outside():
    values = torch.tensor([0.0, 0.013, -0.033, 4.1, 9.0, -1.0, -1.5], requires_grad=True)
    fake.RoundedInput(-1.0, 4.1)(values).backward(torch.arange(1.0, 8.0))
    assert values.grad.tolist() == [1, 2, 3, 4, 0, 6, 0]
    weight = torch.randn(4, 8, requires_grad=True)
    fake.rounded_weight(weight, weight.detach().abs().amax(dim=1, keepdim=True), 127).sum().backward()
    assert (weight.grad == 1).all(), "the largest weight sets the scale, so none is clipped"


def test_half_precision_is_rounded_as_floats_are():
    values = torch.linspace(-1, 4, 200).bfloat16()
    rounds = fake.RoundedInput(-1.0, 4.1)
    assert torch.equal(rounds(values), rounds(values.float()))
    model = make_model("BertForSequenceClassification")
    fake.put_on(model, Settings(), aware.ranges(model, rows(model), CalibrationSpec()))
    seen = []
    handle = model.classifier.register_forward_hook(lambda _, given, out: seen.append(out.dtype))
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(**make_batch()).logits
    handle.remove()
    assert seen == [torch.bfloat16] and logits.isfinite().all()


@pytest.fixture(scope="module", params=MODELS)
def model_and_graph(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    model = MODELS[request.param]()
    return model, exported(model, tmp_path_factory.mktemp("model"))


def test_matrices_have_the_names_of_modules(model_and_graph: tuple[Any, Path]):
    model, path = model_and_graph
    graph = onnx.load(str(path))
    onnx_sharing.merge(graph)
    modules = dict(model.named_modules())
    wanted = {name for name, module in modules.items() if isinstance(module, torch.nn.Linear | torch.nn.Embedding)}
    found = {matrix.name: matrix.table for matrix in matrices.find(graph)}
    assert set(found) == wanted
    assert all(isinstance(modules[name], torch.nn.Embedding) == table for name, table in found.items())


def both(model: Any, graph: Path, target: Path, settings: Settings) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each of some rows, the largest difference of what is trained and of the float model from what ships."""
    sample = rows(model)
    ranges = aware.ranges(model, sample, CalibrationSpec())
    state = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fake.put_on(model, settings, ranges)
    assert set(state) <= set(model.state_dict()), "parameters keep their names"
    trained = [main_output(model, row) for row in sample]
    assert fake.take_off(model) == {name: pytest.approx(ranges[name]) for name in ranges if not settings.keeps(name)}
    assert list(model.state_dict()) == list(state)
    static.write(graph, target, settings, ranges)
    plain = [main_output(model, row) for row in sample]
    shipped = [answers(target, row) for row in sample]
    return tuple(
        np.array([np.abs(a - b).max() for a, b in zip(given, shipped, strict=True)]) for given in (trained, plain)
    )


def assert_same(ours: np.ndarray, floats: np.ndarray) -> None:
    """Float noise moves a few values over the edge between two integers, and then an answer by as much as rounding."""
    assert np.median(ours) < 1e-5 < np.median(floats)
    assert ours.max() < floats.max()


def test_a_model_in_training_answers_as_its_file_will(model_and_graph: tuple[Any, Path], tmp_path: Path):
    assert_same(*both(*model_and_graph, tmp_path / "q.onnx", Settings()))


SETTINGS = {
    "per_tensor": Settings(per_channel=False),
    "reduced": Settings(reduce_range=True),
    "float_tables": Settings(embeddings=False),
    "kept": Settings(keep_float=("*.0.*", "*decoder", "classifier")),
    "kept_table": Settings(keep_float=("*.word_embeddings",)),
    "all": Settings(per_channel=False, reduce_range=True),
}


@pytest.mark.parametrize("name", SETTINGS)
@pytest.mark.parametrize("kind", ["BertMaskedLM", "BertSequenceClassification"])
def test_settings_mean_the_same_in_training_and_in_the_file(kind: str, name: str, tmp_path: Path):
    model = MODELS[kind]()
    assert_same(*both(model, exported(model, tmp_path), tmp_path / "q.onnx", SETTINGS[name]))


@pytest.mark.parametrize("method", ["min_max", "percentile", "entropy"])
@pytest.mark.parametrize("kind", ["BertSequenceClassification", "AlbertMaskedLM"])
def test_ranges_are_those_of_the_file(kind: str, method: str, tmp_path: Path):
    model = MODELS[kind]()
    graph, sample, spec = exported(model, tmp_path), rows(model), CalibrationSpec(method=method, percentile=99.0)
    ours, theirs = aware.ranges(model, sample, spec), calibration.ranges(graph, sample, spec)
    assert set(ours) == set(theirs)
    # The file computes the last layer's queries for the first token alone.
    same = [name for name in ours if not name.endswith("layer.3.attention.self.query")]
    for name in same:
        assert ours[name] == pytest.approx(theirs[name], abs=0.02 * (ours[name][1] - ours[name][0])), name


def test_shared_layers_have_one_range_for_all_of_their_calls():
    model = make_albert("AlbertForSequenceClassification")
    inputs = {name: tensor[:1] for name, tensor in make_batch().items()}
    name, seen = "albert.encoder.albert_layer_groups.0.albert_layers.0.ffn", []
    handle = model.get_submodule(name).register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad():
        model(**inputs)
    handle.remove()
    sample = [{key: tensor.numpy() for key, tensor in inputs.items()}]
    assert len(seen) == 2
    expected = min(call.min().item() for call in seen), max(call.max().item() for call in seen)
    assert aware.ranges(model, sample, CalibrationSpec())[name] == pytest.approx(expected)


def test_a_tied_table_and_decoder_learn_together():
    model = make_model("BertForMaskedLM")
    fake.put_on(model, Settings(), aware.ranges(model, rows(model), CalibrationSpec()))
    model(**make_batch()).logits.square().sum().backward()
    assert is_tied(model) and model.get_input_embeddings().weight.grad.abs().sum() > 0
    missing = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert not missing
