"""The files that `deploy.py` compares. Each is made from a checkpoint, those of this project by `compress run`."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import peers
import runs
from given import CALIBRATION_ROWS, Given

from compressor.files import file_digest
from compressor.models import checkpoint
from compressor.pipeline.log_capture import quiet
from compressor.runtimes import RUNTIMES, Session

QAT_BATCH_SIZE = 32
LOG = "deploy.log"


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
        from compressor.host.machine import versions
        from compressor.pipeline.code_digest import code_digest

        make = self.make.func if isinstance(self.make, partial) else self.make
        assert make is not None, "the checkpoint itself is not made"
        arguments = str(self.make.keywords) if isinstance(self.make, partial) else ""
        installed = versions(tuple(library for library in self.libraries if find_spec(library)))
        return {"make": inspect.getsource(make) + arguments, **installed, "code": code_digest(*self.modules)}


def ours(given: Given, output: Path, source: Path | None, *, runtime: str) -> Path:
    """A float format as the export stage writes it."""
    path = output / RUNTIMES[runtime].file.name
    RUNTIMES[runtime].export(given.checkpoint, path)
    return path


def quantized(given: Given, output: Path, source: Path | None, *, scheme: str, **keys: Any) -> Path:
    """The file that `compress run` ships for a recipe with the single stage quantize; the run has its own cache."""
    training, rows, name = {}, {}, "-".join([scheme, *map(str, keys.values())])
    if scheme == "qat_int8":
        training = {"max_steps": given.qat_steps, "batch_size": QAT_BATCH_SIZE}
        rows = {"max_train_samples": given.qat_steps * QAT_BATCH_SIZE}  # the teacher reads them all before
    recipe: dict[str, Any] = {
        "schema_version": 1,
        "name": name,
        "task": "text-classification",
        "model": str(given.checkpoint),
        "data": {"train": str(given.train), "validation": str(given.validation), "max_validation_samples": 64}
        | {"text": given.text, "label": given.label, **rows},
        "measure": {"sequence_length": 32, "runs": 1},  # measured here, not there
        "stages": [
            {"stage": "quantize", "scheme": scheme, "gates": {"quantized_coverage": {"min": 0}}, **training, **keys}
        ],
    }
    runs.run(recipe, output, given.folder / "artifacts")
    model = given.folder / "artifacts" / name / "model"
    return checkpoint.Checkpoint(model).quantized or model


def quantized_form(given: Given, output: Path, source: Path | None, *, runtime: str) -> Path:
    """Another format as the export stage writes it of a checkpoint with a quantized graph."""
    assert source is not None, "made of a quantized graph"
    return ours(replace(given, checkpoint=source.parents[1]), output, None, runtime=runtime)


def session(contender: Contender, path: Path) -> Session:
    """Loads a contender's file, for one thread."""
    return peers.OpenVino(path, 1) if contender.runtime == "openvino" else RUNTIMES[contender.runtime].session(path, 1)


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
_PTE, _EXECUTORCH = ("compressor.runtimes.executorch",), ("torch", "transformers", "executorch")
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
    PLAIN: Contender("ONNX fp32, plain export", peers.plain),
    FUSED: Contender("ONNX fp32, fused by ONNX Runtime's optimizer", peers.fused, PLAIN),
    ONNX: Contender("ONNX fp32 (ours)", partial(ours, runtime="onnxruntime"), modules=_EXPORT),
    "dynamic_int8": Contender("dynamic_int8 (ours)", partial(quantized, scheme="dynamic_int8")),
    "int4_table": Contender(
        "dynamic_int8, `embeddings: int4` (ours)", partial(quantized, scheme="dynamic_int8", embeddings="int4")
    ),
    "weight_only_int4": Contender("weight_only_int4 (ours)", partial(quantized, scheme="weight_only_int4")),
    "static_int8": Contender("static_int8 (ours)", partial(quantized, scheme="static_int8")),
    "qat_int8": Contender("qat_int8 (ours)", partial(quantized, scheme="qat_int8")),
    "plain_int8": Contender("plain `quantize_dynamic`", peers.plain_int8, PLAIN),
    "transformers_int8": Contender("transformers' own int8", partial(peers.transformers_int8, fusions=None)),
    "transformers_fused_int8": Contender(
        "transformers' own int8, `ort_fusions`", partial(peers.transformers_int8, fusions="cpu")
    ),
    "torchscript_int8": Contender(
        "TorchScript int8 (ours)",
        partial(quantized_form, runtime="torchscript"),
        "dynamic_int8",
        "torchscript",
        FUSED,
        ("compressor.runtimes.torchscript", "compressor.quantization.dynamic_int8"),
    ),
    "pte": Contender(
        ".pte fp32 (ours)", partial(ours, runtime="executorch"), None, "executorch", FUSED, _PTE, _EXECUTORCH
    ),
    **{
        name: Contender(
            title, partial(quantized_form, runtime="executorch"), source, "executorch", FUSED, _PTE, _EXECUTORCH
        )
        for name, title, source in (
            ("pte_int8", ".pte int8 (ours)", "dynamic_int8"),
            ("pte_int4_table", ".pte int8, `embeddings: int4` (ours)", "int4_table"),
        )
    },
    "transformers_pte": Contender(
        "transformers' own ExecuTorch exporter, fp32",
        peers.transformers_pte,
        None,
        "executorch",
        FUSED,
        libraries=_EXECUTORCH,
    ),
    "torch_int8": Contender("torch.ao `quantize_dynamic`, traced", peers.torch_int8, None, "torchscript", FUSED),
    "openvino_int8": Contender(
        "OpenVINO + NNCF int8", peers.openvino_int8, ONNX, "openvino", ONNX, libraries=_OPENVINO
    ),
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
