"""The files that `deploy.py` compares. Each is made from a checkpoint, those of this project by `compress run`."""

from __future__ import annotations

import inspect
import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import runs
from numpy.typing import NDArray

from compressor.files import file_digest
from compressor.measure.token_rows import INPUTS, TokenRows
from compressor.models import checkpoint, loading
from compressor.pipeline.log_capture import quiet
from compressor.runtimes import RUNTIMES, Inputs, Outputs, Session

VALIDATION_ROWS, CALIBRATION_ROWS, REFERENCES = "validation.npz", "calibration.npz", "references.npy"
OPSET, CALIBRATION, QAT_BATCH_SIZE = 17, 300, 32
LOG = "deploy.log"


class Missing(Exception):
    """A library that a contender needs is not installed."""


@dataclass(frozen=True)
class Given:
    """The inputs of all contenders.

    Attributes:
        checkpoint: The fine-tuned checkpoint.
        train: Training rows.
        validation: Validation rows.
        text: Column with the text.
        label: Column with the label.
        qat_steps: Optimizer steps of quantization-aware training.
        folder: Where everything is kept.
        rows: Folder with the rows as the checkpoint's tokenizer reads them.
    """

    checkpoint: Path
    train: Path
    validation: Path
    text: str
    label: str
    qat_steps: int
    folder: Path
    rows: Path


Make = Callable[[Given, Path, Path | None], Path]
"""Fills an empty folder, given the file that the contender is made of, and returns the file that runs."""


class Contender(NamedTuple):
    """A line of the table.

    Attributes:
        title: Its name in the table.
        make: Makes its file; None where the checkpoint runs as it is.
        source: The contender from whose file it is made; None for the checkpoint.
        runtime: The runtime that runs it.
        arithmetic: The contender whose graph has the same multiply-adds, if its own runtime does not report them.
        modules: Modules of this project that the file depends on.
        libraries: Libraries that the file depends on.
    """

    title: str
    make: Make | None
    source: str | None = None
    runtime: str = "onnxruntime"
    arithmetic: str | None = None
    modules: tuple[str, ...] = ()
    libraries: tuple[str, ...] = ("torch", "transformers", "onnxruntime")

    def inputs(self) -> dict[str, str]:
        """Everything that the file depends on besides the checkpoint, the rows and the source."""
        from compressor.host import versions
        from compressor.pipeline.code_digest import code_digest

        make = self.make.func if isinstance(self.make, partial) else self.make
        assert make is not None, "the checkpoint itself is not made"
        arguments = str(self.make.keywords) if isinstance(self.make, partial) else ""
        installed = versions(tuple(library for library in self.libraries if find_spec(library)))
        return {"make": inspect.getsource(make) + arguments, **installed, "code": code_digest(*self.modules)}


def prepare(given: Given, output: Path, work: Path) -> None:
    """Reads the rows and tokenizes them as the checkpoint's tokenizer does.

    Args:
        given: Names the rows.
        output: Gets the validation rows, their labels, and some training rows.
        work: For intermediate files.
    """
    from compressor.data import splits as data_rows
    from compressor.data import text_rows
    from compressor.data.spec import DataSpec
    from compressor.tasks import text_classification as task

    model = checkpoint.Checkpoint(given.checkpoint)
    spec = DataSpec(train=str(given.train), validation=str(given.validation), text=given.text, label=given.label)
    facts = data_rows.prepare(text_rows, spec, given.train, given.validation, task.columns(spec), 0, work, work)
    label_ids = task.label_ids(facts["labels"], model.labels)
    tokenizer = loading.load_tokenizer(given.checkpoint)
    for split, file in ((data_rows.VALIDATION, VALIDATION_ROWS), (data_rows.TRAIN, CALIBRATION_ROWS)):
        rows = data_rows.load(work / split)
        if split == data_rows.TRAIN:
            rows = rows.select(np.linspace(0, len(rows) - 1, min(CALIBRATION, len(rows))).astype(int))
        encoded = task.encode(rows, tokenizer, model.max_sequence_length(), label_ids, spec)
        names = [name for name in INPUTS if name in encoded.column_names]
        lists = [dict(zip(names, row, strict=True)) for row in zip(*(encoded[name] for name in names), strict=True)]
        TokenRows.of(lists, tokenizer.pad_token_id or 0).save(output / file)
        if split == data_rows.VALIDATION:
            np.save(output / REFERENCES, np.asarray(encoded["labels"], dtype=np.int64))


def ours(given: Given, output: Path, source: Path | None, *, runtime: str) -> Path:
    """A float format as the export stage writes it."""
    path = output / RUNTIMES[runtime].file.name
    RUNTIMES[runtime].export(given.checkpoint, path)
    return path


def quantized(given: Given, output: Path, source: Path | None, *, scheme: str) -> Path:
    """The file that `compress run` ships for a recipe with the single stage quantize; the run has its own cache."""
    training, rows = {}, {}
    if scheme == "qat_int8":
        training = {"max_steps": given.qat_steps, "batch_size": QAT_BATCH_SIZE}
        rows = {"max_train_samples": given.qat_steps * QAT_BATCH_SIZE}  # the teacher reads them all before
    recipe: dict[str, Any] = {
        "schema_version": 1,
        "name": scheme,
        "task": "text-classification",
        "model": str(given.checkpoint),
        "data": {"train": str(given.train), "validation": str(given.validation), "max_validation_samples": 64}
        | {"text": given.text, "label": given.label, **rows},
        "measure": {"sequence_length": 32, "runs": 1},  # measured here, not there
        "stages": [{"stage": "quantize", "scheme": scheme, "gates": {"quantized_coverage": {"min": 0}}, **training}],
    }
    runs.run(recipe, output, given.folder / "artifacts")
    model = given.folder / "artifacts" / scheme / "model"
    return checkpoint.Checkpoint(model).quantized or model


def plain(given: Given, output: Path, source: Path | None) -> Path:
    """`torch.onnx.export` without our rewrites, with the attention that ONNX Runtime can fuse."""
    import torch

    model = loading.load_model(given.checkpoint, attn_implementation="eager").eval()
    model.config.return_dict = False
    names = checkpoint.input_names(model.config.model_type)
    ids = torch.randint(5, model.config.vocab_size, (2, 16), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 8:] = 0
    free = {0: "batch_size", 1: "sequence_length"}
    path = output / "model.onnx"
    with torch.inference_mode():
        torch.onnx.export(
            model,
            (ids, mask, torch.zeros_like(ids))[: len(names)],
            str(path),
            input_names=list(names),
            output_names=["logits"],
            dynamic_axes={**dict.fromkeys(names, free), "logits": {0: "batch_size"}},
            opset_version=OPSET,
            dynamo=False,
        )
    return path


def fused(given: Given, output: Path, source: Path | None) -> Path:
    """The plain export with attention, GELU, LayerNorm and the embedding fused by ONNX Runtime's own optimizer."""
    from onnxruntime.transformers import optimizer

    model, path = checkpoint.Checkpoint(given.checkpoint), output / "model.onnx"
    optimizer.optimize_model(
        str(source), model_type="bert", num_heads=model.num_attention_heads, hidden_size=model.hidden_size
    ).save_model_to_file(str(path))
    return path


def plain_int8(given: Given, output: Path, source: Path | None) -> Path:
    """ONNX Runtime's dynamic quantization with its default settings: one scale per matrix."""
    from onnxruntime.quantization import quantize_dynamic

    path = output / "model.onnx"
    quantize_dynamic(source, path)
    return path


def transformers_int8(given: Given, output: Path, source: Path | None, *, fusions: str | None) -> Path:
    """Transformers' own exporter and quantizer, by the dynamo exporter."""
    if find_spec("onnxscript") is None or find_spec("transformers.exporters") is None:
        raise Missing("needs transformers 5.23 or later and `pip install onnxscript`")
    import onnx
    import torch
    from transformers.exporters import OnnxConfig, OnnxExporter, OnnxRuntimeDynamicConfig, OnnxRuntimeQuantizer

    model = loading.load_model(given.checkpoint, attn_implementation="eager").eval()
    ids = torch.randint(5, model.config.vocab_size, (2, 16), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 8:] = 0
    names = checkpoint.input_names(model.config.model_type)
    inputs = dict(zip(names, (ids, mask, torch.zeros_like(ids)), strict=False))
    quantizer = OnnxRuntimeQuantizer(OnnxRuntimeDynamicConfig())
    config = OnnxConfig(dynamic=True, ort_fusions=fusions, quantizer=quantizer)
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        OnnxExporter().export(model, inputs, config=config).save_pretrained(folder)
        # It keeps the weights in a file beside the graph, which a model of this size does not need.
        onnx.save(onnx.load(f"{folder}/model.onnx"), str(output / "model.onnx"))
    return output / "model.onnx"


def openvino_int8(given: Given, output: Path, source: Path | None) -> Path:
    """NNCF's int8 for transformers, calibrated on training rows of their own length."""
    if find_spec("openvino") is None or find_spec("nncf") is None:
        raise Missing("needs `pip install openvino nncf`")
    os.environ["NNCF_CI"] = "1"  # otherwise it sends usage reports
    import nncf
    import openvino

    model = openvino.Core().read_model(source)
    names = [name for entry in model.inputs for name in entry.names]
    rows = TokenRows.load(given.rows / CALIBRATION_ROWS)
    batches = [rows.batch([index]) for index in range(len(rows))]
    dataset = nncf.Dataset([{name: batch[name] for name in names} for batch in batches])
    small = nncf.quantize(model, dataset, model_type=nncf.ModelType.TRANSFORMER, subset_size=len(rows))
    openvino.save_model(small, output / "model.xml", compress_to_fp16=False)
    return output / "model.xml"


class OpenVino:
    """An OpenVINO model, with the settings recommended for latency; has the interface of `compressor.runtimes.Session`.

    Args:
        path: The .xml file.
        threads: Threads within an operator.
    """

    concurrent = False

    def __init__(self, path: Path, threads: int) -> None:
        import openvino

        how = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
        compiled = openvino.Core().compile_model(path, "CPU", how)
        self._request = compiled.create_infer_request()
        self._names = [entry.any_name for entry in compiled.inputs]

    def predict(self, inputs: Inputs) -> Outputs:
        """The logits."""
        self._request.infer({name: inputs[name] for name in self._names}, share_inputs=True)
        logits: NDArray[np.float32] = self._request.get_output_tensor(0).data.copy()
        return {"logits": logits}


def session(contender: Contender, path: Path) -> Session:
    """Loads a contender's file, for one thread."""
    return OpenVino(path, 1) if contender.runtime == "openvino" else RUNTIMES[contender.runtime].session(path, 1)


def parts(path: Path) -> list[Path]:
    """The file, and OpenVINO's weights beside it; of a folder, its weights."""
    if path.is_dir():
        return [path / checkpoint.WEIGHTS]
    return [path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path]


def make(name: str, given: Given, output: Path, source: Path | None) -> Path:
    """Makes a contender's file, in a process of its own: some libraries patch torch, and most print."""
    with quiet(given.folder / LOG):
        os.environ["HF_HUB_OFFLINE"] = "1"
        making = CONTENDERS[name].make
        assert making is not None, "the checkpoint itself is not made"
        return making(given, output, source)


PLAIN, FUSED, ONNX = "plain_onnx", "fused", "onnx"
_EXPORT = ("compressor.runtimes.onnxruntime",)
_OPENVINO = ("openvino", "nncf")
CONTENDERS: Mapping[str, Contender] = {
    "torch": Contender("torch eager", None, runtime="torch", arithmetic=FUSED),
    "torchscript": Contender(
        "TorchScript fp32",
        partial(ours, runtime="torchscript"),
        None,
        "torchscript",
        FUSED,
        ("compressor.runtimes.torchscript",),
    ),
    PLAIN: Contender("ONNX fp32, plain export", plain),
    FUSED: Contender("ONNX fp32, fused by ONNX Runtime's optimizer", fused, PLAIN),
    ONNX: Contender("ONNX fp32 (ours)", partial(ours, runtime="onnxruntime"), modules=_EXPORT),
    "dynamic_int8": Contender("dynamic_int8 (ours)", partial(quantized, scheme="dynamic_int8")),
    "static_int8": Contender("static_int8 (ours)", partial(quantized, scheme="static_int8")),
    "qat_int8": Contender("qat_int8 (ours)", partial(quantized, scheme="qat_int8")),
    "plain_int8": Contender("plain `quantize_dynamic`", plain_int8, PLAIN),
    "transformers_int8": Contender("transformers' own int8", partial(transformers_int8, fusions=None)),
    "transformers_fused_int8": Contender(
        "transformers' own int8, `ort_fusions`", partial(transformers_int8, fusions="cpu")
    ),
    "openvino_int8": Contender("OpenVINO + NNCF int8", openvino_int8, ONNX, "openvino", ONNX, libraries=_OPENVINO),
}
"""All lines of the table, by the name that `--only` takes."""


def is_cached_by_itself(contender: Contender) -> bool:
    """Whether its own cache rebuilds it only if something changed, as `compress run` does."""
    return isinstance(contender.make, partial) and contender.make.func is quantized


def key(given: Given, contender: Contender, source: str | None) -> dict[str, Any]:
    """Everything that a contender's file depends on, as digests and versions."""
    rows = {"rows": file_digest(given.rows / CALIBRATION_ROWS)} if contender.runtime == "openvino" else {}
    model = checkpoint.Checkpoint(given.checkpoint).digest()
    return {"checkpoint": model, "source": source, **contender.inputs(), **rows}
