"""The files of other tools that `deploy.py` compares with those of this project."""

from __future__ import annotations

import os
import shutil
import tempfile
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from given import CALIBRATION_ROWS, Given
from numpy.typing import NDArray

from compressor.measure.token_rows import TokenRows
from compressor.models import checkpoint, loading
from compressor.runtimes import Inputs, Outputs

OPSET = 17


class Missing(Exception):
    """A library that a contender needs is not installed."""


def plain(given: Given, output: Path, source: Path | None) -> Path:
    """`torch.onnx.export` without our rewrites, with the attention that ONNX Runtime can fuse."""
    import torch

    model = loading.load_model(given.checkpoint, attn_implementation="eager").eval()
    names = checkpoint.input_names(model.config.model_type)
    ids = torch.randint(5, model.config.vocab_size, (2, 16), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 8:] = 0

    class Logits(torch.nn.Module):
        """The logits alone: some classes give no tuples when they are asked for them."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
            return self.model(**dict(zip(names, inputs, strict=True))).logits

    free = {0: "batch_size", 1: "sequence_length"}
    path = output / "model.onnx"
    with torch.inference_mode():
        torch.onnx.export(
            Logits().eval(),
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


def transformers_pte(given: Given, output: Path, source: Path | None) -> Path:
    """Transformers' own ExecuTorch exporter, of free length up to the longest sequence."""
    if find_spec("executorch") is None or find_spec("transformers.exporters") is None:
        raise Missing("needs transformers 5.23 or later and the extra executorch")
    import torch
    from transformers.exporters.exporter_executorch import ExecutorchConfig, ExecutorchExporter

    model = loading.load_model(given.checkpoint).eval()
    longest = checkpoint.Checkpoint(given.checkpoint).max_sequence_length()
    inputs = {
        name: torch.ones(1, longest, dtype=torch.long) for name in checkpoint.input_names(model.config.model_type)
    }
    length = torch.export.Dim("sequence_length", min=2, max=longest)
    shapes = {name: {1: length} for name in inputs}
    with tempfile.TemporaryDirectory(dir=given.folder) as folder:
        exported = ExecutorchExporter().export(model, inputs, config=ExecutorchConfig(dynamic_shapes=shapes))
        exported.save_pretrained(folder)
        return Path(shutil.move(f"{folder}/model.pte", output / "model.pte"))


def torch_int8(given: Given, output: Path, source: Path | None) -> Path:
    """Torch's own dynamic quantization of every Linear, with a scale for each output, traced."""
    import torch
    from torch.ao.quantization import per_channel_dynamic_qconfig, quantize_dynamic

    model = loading.load_model(given.checkpoint).eval()
    small = quantize_dynamic(model, {torch.nn.Linear: per_channel_dynamic_qconfig})
    small.config.return_dict = False
    names, path = checkpoint.input_names(model.config.model_type), output / "model.pt"
    ids = torch.randint(5, model.config.vocab_size, (2, 16), generator=torch.Generator().manual_seed(0))
    inputs = (ids, torch.ones_like(ids), torch.zeros_like(ids))[: len(names)]
    with torch.inference_mode():
        traced = torch.jit.trace(small, inputs, strict=False, check_trace=False)
    # As `compressor.runtimes.torchscript` reads them: inputs are bound by position.
    order = {"input_names.txt": "\n".join(names), "output_names.txt": "logits"}
    torch.jit.save(traced, str(path), _extra_files=order)
    return path


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
