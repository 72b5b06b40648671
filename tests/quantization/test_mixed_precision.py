"""Accuracy-aware quantization: what breaks stays in float, and nothing else."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from conftest import exact_settings, make_tokenizer, sentences
from datasets import Dataset
from in_process import InProcess
from kinds import make_model
from rich.console import Console

from compressor import quantization
from compressor.data.spec import DataSpec
from compressor.errors import StageError
from compressor.measure.spec import MeasureSpec
from compressor.measure.token_rows import TokenRows
from compressor.measure.trial import DeploymentTrial
from compressor.models import checkpoint, loading
from compressor.pipeline.entry import key_of
from compressor.progress import Progress
from compressor.quantization import calibration, weight_matrices
from compressor.quantization.sensitivity import GraphQuantizer, _Sample, divergences
from compressor.runtimes import onnxruntime as onnx_runtime
from compressor.runtimes.onnx import coverage
from compressor.stages import quantize
from compressor.stages.quantize import QuantizeSpec
from compressor.tasks import text_classification
from compressor.training.context import Context

LABELS = ("negative", "positive")


BROKEN = [f"bert.encoder.layer.{layer}.attention.output.dense" for layer in range(4)]
"""Matrices whose inputs get an outlier."""


LIMIT = {"accuracy": {"max_drop": 0.02}}


def answers_of(folder: Path, texts: list[str]) -> np.ndarray:
    model = loading.load_model(folder).eval()
    with torch.no_grad():
        return model(**make_tokenizer()(texts, padding=True, return_tensors="pt")).logits.numpy()


@pytest.fixture(scope="module")
def trained(classifier: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier that has learned which words decide: the first token has to attend to them."""
    torch.manual_seed(0)
    model = loading.load_model(classifier).train()
    optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
    rows = sentences(64 * 32, seed=1)
    for start in range(0, len(rows), 32):
        texts, labels = zip(*rows[start : start + 32], strict=True)
        batch = make_tokenizer()(list(texts), padding=True, return_tensors="pt")
        model(**batch, labels=torch.tensor([LABELS.index(label) for label in labels])).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    folder = tmp_path_factory.mktemp("trained")
    loading.save(folder, model.eval(), make_tokenizer())
    return folder


def add_outliers(model: Any) -> None:
    """One channel of the attention's values becomes 2^14 times as large, and what reads it as much smaller.

    Without a nonlinearity between the two, and by a power of two, the model's answers stay the same to the last bit.
    """
    with torch.no_grad():
        for layer in model.base_model.encoder.layer:
            layer.attention.self.value.weight[3] *= 2**14
            layer.attention.self.value.bias[3] *= 2**14
            layer.attention.output.dense.weight[:, 3] /= 2**14


@pytest.fixture(scope="module")
def outliers(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("outliers")
    model = loading.load_model(trained)
    add_outliers(model)
    loading.save(folder, model, make_tokenizer())
    return folder


def test_the_outliers_change_nothing_in_float(trained: Path, outliers: Path):
    texts = [text for text, _ in sentences(50, seed=2)]
    np.testing.assert_array_equal(answers_of(trained, texts), answers_of(outliers, texts))


class Bench:
    """What a run gives the stage, without the run."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.measured, self.tried = folder, list[str](), 0
        texts, labels = zip(*sentences(200, seed=2), strict=True)
        self._rows = Dataset.from_dict({"text": list(texts), "label": list(labels)})

    def _encoded(self, length: int) -> Dataset:
        return text_classification.encode(
            self._rows, make_tokenizer(), length, dict(zip(LABELS, (0, 1), strict=True)), DataSpec()
        )

    def _validation(self, _: Path) -> tuple[Path, dict[str, np.ndarray]]:
        self.tried += 1
        path, encoded = self.folder / "rows.npz", self._encoded(48)
        TokenRows.of([{"input_ids": ids} for ids in encoded["input_ids"]], 0).save(path)
        return path, {"labels": np.asarray(encoded["labels"])}

    def _memo(self, maker: str, inputs: Mapping[str, Any], build: Callable[[Path], Any]) -> Path:
        folder = self.folder / key_of({**inputs, "maker": maker})
        if not folder.is_dir():
            self.measured.append(inputs["matrix"])
            folder.mkdir()
            build(folder)
        return folder

    def context(self, work: str, progress: Progress) -> Context:
        (self.folder / work).mkdir(exist_ok=True)
        return Context(
            recipe="tiny",
            stage="quantize",
            key="0" * 24,
            task="text-classification",
            pairs=False,
            teacher=self.folder,
            student=None,
            teacher_layers=(),
            labels=LABELS,
            seed=0,
            tokenized=lambda _, __, length: self._encoded(length),
            packed=pytest.fail,
            texts=None,
            trial=DeploymentTrial(MeasureSpec(), "text-classification", self._validation, LABELS, InProcess()),
            memo=self._memo,
            work=self.folder / work,
            progress=progress,
        )

    def run(self, source: Path, name: str, work: str = "work", **keys: Any) -> tuple[Path, dict[str, Any]]:
        """The quantized file, and what the stage tells."""
        output = self.folder / name
        output.mkdir()
        with Progress(Console(file=io.StringIO())) as progress:
            spec = QuantizeSpec.model_validate({"stage": "quantize", **keys})
            facts = quantize.run(source, output, spec, self.context(work, progress))
        graph = checkpoint.Checkpoint(output).quantized
        assert graph is not None
        return graph, facts


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(tmp_path_factory.mktemp("bench"))


@pytest.fixture(scope="module")
def found(bench: Bench, outliers: Path) -> tuple[Path, dict[str, Any]]:
    return bench.run(outliers, "aware", **LIMIT)


def test_it_holds_its_limit_where_plain_int8_breaks(found):
    path, facts = found
    told = facts["selection"]
    assert told["float"] > 0.95, "it has learned"
    assert told["quantized"] < told["float"] - 0.2, "an outlier takes all 8 bits of its tensor"
    assert told["chosen"] >= told["float"] - 0.02
    assert sorted(entry["name"] for entry in told["matrices"][:4]) == BROKEN, "the dearest are those that were broken"
    tried = {entry["kept"]: entry["score"] for entry in told["tried"]}
    assert 1 <= told["kept"] <= 4 and tried[told["kept"] - 1] < told["float"] - 0.02, "one less is not enough"
    assert coverage.quantized_coverage(path) == pytest.approx(1 - told["kept"] / len(told["matrices"]))
    floats = [tensor for tensor in onnx.load(path).graph.initializer if tensor.data_type == onnx.TensorProto.FLOAT]
    assert [list(tensor.dims) for tensor in floats if len(tensor.dims) == 2] == [[32, 32]] * told["kept"]


def test_the_record_beside_the_file_says_what_was_chosen(found, bench: Bench, outliers: Path):
    path, facts = found
    told = facts["selection"]
    (entry,) = checkpoint.Checkpoint(path.parents[1]).quantizations
    assert path == path.parents[1] / entry.file
    assert entry.keep_float == tuple(matrix["name"] for matrix in told["matrices"][: told["kept"]])
    assert (entry.scheme, entry.precision, entry.integer_products) == ("dynamic_int8", "int8", True)
    assert (entry.embeddings, entry.per_channel, entry.block_size) == (8, True, None)
    blocks, _ = bench.run(outliers, "blocks", work="blocks", scheme="weight_only_int4", keep_float=("classifier",))
    (entry,) = checkpoint.Checkpoint(blocks.parents[1]).quantizations
    assert (entry.precision, entry.integer_products, entry.embeddings, entry.block_size) == ("int4", False, 4, 32)
    assert entry.keep_float == ("classifier",)
    small, _ = bench.run(outliers, "small", work="small", embeddings="int4")
    (entry,) = checkpoint.Checkpoint(small.parents[1]).quantizations
    assert (small.name, entry.precision, entry.embeddings) == ("model_quantized.onnx", "int8", 4)
    assert checkpoint.Checkpoint(outliers).quantizations == ()


def test_dearest_first_and_shares_are_of_the_whole(found):
    told = found[1]["selection"]
    prices = [entry["divergence"] / (entry["multiply_adds"] + entry["size"]) for entry in told["matrices"]]
    assert prices == sorted(prices, reverse=True)
    for share in ("multiply_adds", "size"):
        assert sum(entry[share] for entry in told["matrices"]) == pytest.approx(1, abs=1e-4)
    assert all(entry["divergence"] >= 0 for entry in told["matrices"])
    tables = [entry for entry in told["matrices"] if "embeddings" in entry["name"]]
    assert len(tables) == 3 and not any(entry["multiply_adds"] for entry in tables)


def test_the_same_again_and_nothing_is_measured_twice(bench: Bench, outliers: Path, found):
    measured, tried = len(bench.measured), bench.tried
    assert measured == len(set(bench.measured)) == len(found[1]["selection"]["matrices"])
    path, facts = bench.run(outliers, "again", **LIMIT)
    assert path.read_bytes() == found[0].read_bytes()
    assert facts == found[1]
    assert (len(bench.measured), bench.tried) == (measured, tried), "as after a kill: all of it is known"
    path, facts = bench.run(outliers, "afresh", work="afresh", **LIMIT)
    assert path.read_bytes() == found[0].read_bytes() and facts == found[1]
    assert bench.tried > tried, "nothing was known of this one's tries"
    _, facts = bench.run(outliers, "stricter", work="stricter", accuracy={"max_drop": 0.0}, keep_float=("classifier",))
    assert len(bench.measured) == measured, "what a matrix loses depends neither on the limit nor on the others"
    assert facts["selection"]["chosen"] >= facts["selection"]["float"]
    assert facts["selection"]["kept"] >= found[1]["selection"]["kept"]
    assert "classifier" not in [entry["name"] for entry in facts["selection"]["matrices"]]


def test_what_need_not_stay_in_float_is_as_without_the_limit(bench: Bench, trained: Path):
    plain, _ = bench.run(trained, "plain")
    aware, facts = bench.run(trained, "unbroken", work="unbroken", **LIMIT)
    assert (facts["selection"]["kept"], len(facts["selection"]["tried"])) == (0, 1)
    assert aware.read_bytes() == plain.read_bytes()
    assert facts["selection"]["chosen"] == facts["selection"]["quantized"]


SCHEMES = ["dynamic_int8", "static_int8", "weight_only_int8", "weight_only_int4", "fp16"]


@pytest.mark.parametrize(("scheme", "tables"), [*((scheme, True) for scheme in SCHEMES), ("dynamic_int8", "int4")])
def test_one_quantized_alone_answers_as_the_file_in_which_all_others_are_kept(
    bench: Bench, outliers: Path, scheme, tables
):
    graph = bench.folder / f"{scheme}.onnx"
    onnx_runtime.export(outliers, graph)
    spec = QuantizeSpec(stage="quantize", scheme=scheme)
    _, every = weight_matrices.read(graph)
    with Progress(Console(file=io.StringIO())) as progress:
        context = bench.context(f"{scheme} {tables}", progress)
        rows = calibration.rows(outliers, spec, context)
        ranges = calibration.ranges(graph, rows, spec.calibration) if scheme == "static_int8" else None
        settings = exact_settings(bits=4 if scheme.endswith("4") else 8, embeddings=tables)
        quantizer = GraphQuantizer(graph, outliers, spec, settings, ranges)
        sample = _Sample(quantizer, context)
        for matrix in (every[0], every[6], every[-1]):
            quantizer.write(bench.folder / "whole.onnx", [other.name for other in every if other is not matrix])
            whole = onnx_runtime.Session(bench.folder / "whole.onnx", 1)
            with sample.skeleton.quantized(matrix) as path:
                alone = onnx_runtime.Session(path, 1)
            np.testing.assert_array_equal(alone.predict(rows[0])["logits"], whole.predict(rows[0])["logits"])
            assert divergences(quantizer, [matrix], context)[matrix.name] == sample.divergence(whole) > 0
        assert sample.divergence(onnx_runtime.Session(graph, 1)) == 0


def test_tables_that_are_not_quantized_are_not_measured(bench: Bench, classifier: Path):
    _, facts = bench.run(classifier, "bare", work="bare", embeddings=False, **LIMIT)
    assert not [entry for entry in facts["selection"]["matrices"] if "embeddings" in entry["name"]]


def test_what_is_to_stay_in_float_does(bench: Bench, classifier: Path):
    names = ("bert.pooler.dense", "classifier", "*layer.1.attention.self.query", "*position_embeddings")
    path, _ = bench.run(classifier, "named", keep_float=names)
    assert coverage.quantized_coverage(path) == pytest.approx(1 - len(names) / 29), "Gemms and tables too"


@pytest.mark.parametrize("scheme", SCHEMES)
def test_tied_embeddings_that_stay_in_float_are_stored_once(tmp_path: Path, scheme):
    graph, words = tmp_path / "float.onnx", len(make_tokenizer())
    loading.save(tmp_path / "source", make_model("bert", "MaskedLM"), make_tokenizer())
    onnx_runtime.export(tmp_path / "source", graph)
    ranges = {matrix.name: (-1.0, 1.0) for matrix in weight_matrices.read(graph)[1]}
    settings = exact_settings(keep_float=("*.word_embeddings", "*.decoder"))
    quantization.SCHEMES[scheme].write(graph, tmp_path / "small.onnx", settings, ranges)
    stored = [tensor for tensor in onnx.load(tmp_path / "small.onnx").graph.initializer if words in tensor.dims]
    assert [list(tensor.dims) for tensor in stored if len(tensor.dims) == 2] == [[words, 32]]
    assert stored[0].data_type == onnx.TensorProto.FLOAT


def test_patterns_that_mean_nothing_are_refused(bench: Bench, classifier: Path):
    with pytest.raises(StageError, match=r"'encoder.layer.0.\*' matches no matrix; did you mean '\*encoder.layer.0"):
        bench.run(classifier, "wrong", keep_float=("bert.pooler.dense", "encoder.layer.0.*"))
    with pytest.raises(StageError, match=r"of 29 the closest are bert.pooler.dense, "):
        bench.run(classifier, "typo", keep_float=("bert.poler.dense",))


def test_static_int8_holds_its_limit_too(bench: Bench, outliers: Path):
    _, facts = bench.run(outliers, "static", work="static", scheme="static_int8", **LIMIT)
    told = facts["selection"]
    assert told["quantized"] < told["float"] - 0.2
    assert told["chosen"] >= told["float"] - 0.02 and 1 <= told["kept"] <= 4
    assert sorted(entry["name"] for entry in told["matrices"][:4]) == BROKEN
