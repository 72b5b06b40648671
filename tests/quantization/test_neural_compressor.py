"""neural-compressor: its own torch module is what our file is held against, number by number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from conftest import SATURATES, exact_settings, make_tokenizer, passing
from kinds import export, make_model, rows
from onnx import helper, numpy_helper

from compressor.device import worker
from compressor.errors import StageError
from compressor.models import loading
from compressor.quantization import static_int8 as writer
from compressor.quantization import weight_matrices
from compressor.quantization.neural_compressor import backend
from compressor.quantization.neural_compressor.static import Static
from compressor.quantization.neural_compressor.weight_only import WeightOnly
from compressor.runtimes import RUNTIMES
from compressor.runtimes import onnxruntime as onnx_runtime
from compressor.runtimes.onnx import attention_biases, passes, sharing
from compressor.runtimes.onnx.coverage import quantized_coverage
from compressor.stages.quantize import QuantizeSpec

pytest.importorskip("neural_compressor")

FAMILIES = ["bert", "distilbert", "albert", "shared_attention", "pruned"]
HEAD = "SequenceClassification"


def save(folder: Path, family: str, head: str = HEAD) -> Path:
    """A checkpoint and its float graph, as a stage has them."""
    loading.save(folder / "checkpoint", make_model(family, head), make_tokenizer())
    onnx_runtime.export(folder / "checkpoint", folder / "model.onnx")
    return folder


def static(folder: Path, family: str, head: str = HEAD, method: str = "min_max", **settings: Any) -> Static:
    sample = rows(make_model(family, head))
    return Static(folder / "checkpoint", folder / "model.onnx", exact_settings(**settings), method, sample)


def quantized(algorithm: backend.Algorithm, rung: backend.Rung | None = None) -> Any:
    """What neural-compressor itself makes of a model."""
    from neural_compressor.torch.quantization import quantize

    config = (rung or algorithm.first()).config
    return quantize(
        algorithm.model, config, run_fn=algorithm.calibrate, example_inputs=algorithm.example_inputs, inplace=True
    )


def stored(path: Path) -> dict[str, np.ndarray]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(str(path)).graph.initializer}


KINDS = [*((family, HEAD) for family in FAMILIES), ("albert", "MaskedLM")]


def unfused(_: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return options


def float_bias(_: Any, node: onnx.NodeProto, __: Any) -> list[onnx.NodeProto]:
    return [helper.make_node("Identity", [node.input[2]], [f"{node.output[0]}.bias"])]


@pytest.mark.parametrize(("family", "head", "folded"), [*((*kind, True) for kind in KINDS), ("bert", HEAD, False)])
def test_static_files_give_what_neural_compressors_module_gives(
    family: str, head: str, folded: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    if not folded:  # as of an export whose attention the rewrite does not know
        monkeypatch.setattr(attention_biases, "fold_biases", lambda model: (0, 0))
        monkeypatch.setattr(passes, "check", lambda found, model: None)
    algorithm = static(save(tmp_path, family, head), family, head, embeddings=False)  # it leaves those in float
    module = quantized(algorithm)
    assert algorithm.write(module, tmp_path / "q.onnx") == []
    # Our biases are int32, for the runtime's sake, which moves some values over to the next integer; its are not.
    monkeypatch.setattr(writer._Writer, "_bias", float_bias)
    algorithm.write(module, tmp_path / "exact.onnx")
    floats, *others = (onnx.load(str(tmp_path / name)).graph for name in ("model.onnx", "q.onnx", "exact.onnx"))
    assert all((graph.input, graph.output) == (floats.input, floats.output) for graph in others)

    if SATURATES:  # the same files, as they are written: rounded values, multiplied as floats
        monkeypatch.setattr(worker, "onnx_options", unfused)
    names = [entry.name for entry in floats.input]
    sessions = [RUNTIMES["onnxruntime"].session(tmp_path / f"{name}.onnx", 1) for name in ("exact", "q", "model")]
    exact, close, error = [], [], []
    for inputs in rows(make_model(family, head)):
        with torch.no_grad():
            expected = module(*(torch.from_numpy(inputs[name]) for name in names)).numpy()
        for found, session in zip((exact, close, error), sessions, strict=True):
            found.append(np.abs(session.predict(inputs)["logits"] - expected).ravel())
    # What lies between two integers may fall to either side, and is seen beyond: rarely.
    assert np.median(np.concatenate(exact)) < 1e-5
    assert np.median(np.concatenate(close)) < 0.5 * np.median(np.concatenate(error))


def test_static_files_hold_the_integers_that_were_chosen_and_nothing_of_the_build(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(save(tmp_path, "albert"))
    before = sorted(path.name for path in tmp_path.iterdir())
    algorithm = static(tmp_path, "albert")
    module = quantized(algorithm)
    assert sorted(path.name for path in tmp_path.iterdir()) == before, "no workspace, no history"
    algorithm.write(module, tmp_path / "q.onnx")
    assert quantized_coverage(tmp_path / "q.onnx") == 1.0
    sizes = [sum(value.nbytes for value in stored(tmp_path / name).values()) for name in ("model.onnx", "q.onnx")]
    assert sizes[1] < 0.5 * sizes[0]  # scales and ranges count in a tiny model

    float_graph = onnx.load(str(tmp_path / "model.onnx"))
    sharing.merge(float_graph)
    found = {matrix.name: matrix for matrix in weight_matrices.find(float_graph)}
    query = found["albert.encoder.albert_layer_groups.0.albert_layers.0.attention.query"]
    weight = module.get_parameter("model.albert.encoder.albert_layer_groups.0.albert_layers.0.attention.query.weight")
    scales = weight.detach().abs().amax(dim=1).numpy() / 127.5  # torchao's symmetric int8: -128 to 127
    constants = stored(tmp_path / "q.onnx")
    assert len(query.nodes) == 2, "two layers share it"
    assert np.allclose(constants[f"{query.weight}_scale"], scales, rtol=1e-6)
    expected = np.clip(np.rint(weight.detach().numpy() / scales[:, None]), -128, 127)
    assert np.abs(constants[f"{query.weight}_quantized"].T - expected).max() <= 1, "to the even neighbour, or beside"
    assert (constants[f"{query.weight}_quantized"].T == expected).mean() > 0.999
    ranges = {float(constants[f"{name}.scale"]) for name in query.activations}
    assert len(ranges) == 2, "each layer has its own range"
    shapes = [value.shape for value in constants.values() if value.dtype == np.int8 and value.ndim == 2]
    assert len(shapes) == len(found), "each once"
    assert not any(value.ndim == 2 and value.dtype == np.float32 for value in constants.values())

    graph = onnx.load(str(tmp_path / "q.onnx"))
    assert not graph.metadata_props
    assert not graph.graph.metadata_props
    assert not any(node.doc_string or node.metadata_props for node in graph.graph.node)
    assert str(Path(backend.__file__).parents[2]).encode() not in (tmp_path / "q.onnx").read_bytes()


def test_static_files_are_the_same_every_time_and_keep_what_they_are_told_to(tmp_path: Path):
    kept = "bert.encoder.layer.1.*"
    save(tmp_path, "bert")
    for name in ("a", "b"):
        algorithm = static(tmp_path, "bert", method="entropy", per_channel=False, keep_float=(kept,))
        module = quantized(algorithm)
        names = algorithm.write(module, tmp_path / f"{name}.onnx")
        assert len(names) == 6
        assert all(name.startswith(kept[:-1]) for name in names)
    assert (tmp_path / "a.onnx").read_bytes() == (tmp_path / "b.onnx").read_bytes()
    constants = stored(tmp_path / "a.onnx")
    scales = {name: value.shape for name, value in constants.items() if name.endswith("_scale") and "embed" not in name}
    assert set(scales.values()) == {()}, "one for each matrix"
    assert sum(value.ndim == 2 and value.dtype == np.float32 for value in constants.values()) == 6


def test_static_tuning_leaves_the_worst_matrices_in_float_until_it_holds(tmp_path: Path):
    algorithm = static(save(tmp_path, "bert"), "bert")
    scores = iter([0.80, 0.81, 0.82, 0.84])
    facts = backend.tune(algorithm, tmp_path / "q.onnx", backend.Limit(0.06, lambda path: next(scores), 0.90))
    assert [entry["score"] for entry in facts["tried"]] == [0.80, 0.81, 0.82, 0.84]
    assert [entry["what"] for entry in facts["tried"]] == [
        "static, minmax",
        "static, kl",
        "static, minmax, 2 matrices in float",
        "static, minmax, 3 matrices in float",
    ]
    assert len(facts["exceptions"]) == 3
    assert facts["algorithm"] == facts["tried"][-1]["what"]
    coverage = quantized_coverage(tmp_path / "q.onnx")
    assert 0.8 < coverage < 1.0, coverage


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize(("family", "head"), [("bert", "MaskedLM"), ("albert", HEAD), ("pruned", HEAD)])
def test_weight_only_files_hold_neural_compressors_integers(family: str, head: str, bits: int, tmp_path: Path):
    from neural_compressor.torch.quantization import RTNConfig, quantize

    model = make_model(family, head)
    source = export(model, tmp_path)
    algorithm = WeightOnly(source, exact_settings(bits=bits, block_size=16))
    assert backend.write(algorithm, tmp_path / "q.onnx")["algorithm"] == f"RTN, {bits} bits"
    assert quantized_coverage(tmp_path / "q.onnx") == 1.0

    float_graph = onnx.load(str(source))
    sharing.merge(float_graph)
    found = [matrix for matrix in weight_matrices.find(float_graph) if not matrix.table]
    constants = stored(tmp_path / "q.onnx")
    table = model.get_input_embeddings().weight.detach().clone()
    # The library on the model itself, not on the Linears that we make of the graph.
    rounded = quantize(model, RTNConfig(bits=bits, group_size=16, use_layer_wise=False))
    for matrix in found:
        chosen = rounded.get_submodule(matrix.name).unpack()
        codes = chosen["int_weight"].numpy()
        packed = constants[f"{matrix.weight}.codes"]
        halves = (packed & 15, packed >> 4) if bits == 4 else (packed,)
        given = np.stack(halves, axis=-1).reshape(len(packed), -1)[:, : codes.shape[1]]
        assert np.array_equal(given, codes), matrix.name
        assert np.array_equal(constants[f"{matrix.weight}.scales.half"], chosen["scales"].numpy())
    sizes = [value.size for name, value in constants.items() if name.endswith(".codes")]
    assert sizes.count(table.numel() * bits // 8) == 1, "a tied table is there once"


def test_weight_only_tuning_stops_where_the_limit_holds_and_says_when_none_does(tmp_path: Path):
    source = export(make_model("bert"), tmp_path)
    tried: list[Path] = []

    def score(path: Path) -> float:
        tried.append(path)
        return 0.5 + 0.01 * len(tried)

    limit = backend.Limit(0.06, score, 0.60)  # absolute: a share of 0.6 would allow 0.036 only
    facts = backend.tune(WeightOnly(source, exact_settings(bits=4)), tmp_path / "q.onnx", limit)
    assert [entry["score"] for entry in facts["tried"]] == pytest.approx([0.51, 0.52, 0.53, 0.54])
    assert len(facts["exceptions"]) == 2
    bits = {dict((entry.name, entry.i) for entry in node.attribute)["bits"] for node in _blocks(tmp_path / "q.onnx")}
    assert bits == {4, 8}

    tried.clear()
    with pytest.raises(
        StageError, match=r"none of neural-compressor's 7 configurations loses at most 0.0.*0\.57.*0\.6"
    ):
        backend.tune(WeightOnly(source, exact_settings(bits=4)), tmp_path / "q.onnx", backend.Limit(0.0, score, 0.60))


def _blocks(path: Path) -> list[onnx.NodeProto]:
    return [node for node in onnx.load(str(path)).graph.node if node.domain == "com.microsoft"]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"scheme": "dynamic_int8"}, "not support dynamic_int8; it supports static_int8"),
        ({"scheme": "static_int8", "calibration": {"method": "percentile"}}, "it supports min_max, entropy"),
        ({"scheme": "static_int8", "reduce_range": True}, "its weights have 8 bits"),
    ],
)
def test_what_neural_compressor_has_not_is_refused(keys: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        QuantizeSpec.model_validate({"stage": "quantize", "backend": "neural_compressor", **keys})


def test_without_the_extra_the_recipe_is_refused_with_the_way_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write_recipe: Any
):
    from compressor.errors import RecipeError
    from compressor.recipe import resolve
    from compressor.stages import quantize

    monkeypatch.setattr(quantize, "installed", lambda library: False)
    stage = {"stage": "quantize", "scheme": "static_int8", "backend": "neural_compressor"}
    with pytest.raises(RecipeError, match=r"backend: neural_compressor needs neural-compressor, torchao.*pip install"):
        resolve.resolve(write_recipe(stages=[{"stage": "finetune"}, stage]))


def test_a_recipe_runs_it_and_its_version_counts(tmp_path: Path, classifier: Path, write_recipe: Any):
    stage = {"stage": "quantize", "scheme": "static_int8", "backend": "neural_compressor"}
    ships = {"stage": "export", "targets": ["onnx", "torchscript"]}
    report = passing(write_recipe, tmp_path, [{**stage, "calibration": {"samples": 16}}, ships], model=str(classifier))
    assert report["quantize"]["measurements"]["quantized_coverage"]["value"] == 1.0
    lock = (tmp_path / "artifacts/tiny/recipe.lock.yaml").read_text()
    assert "neural-compressor:" in lock
    assert not (tmp_path / "nc_workspace").exists()
