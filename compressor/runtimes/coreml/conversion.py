"""Converts a checkpoint to an ML program and saves it as an .mlpackage, with weights in fp16, int8 or a palette."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from compressor.errors import StageError
from compressor.host import DISTRIBUTION, installed
from compressor.runtimes import tracing

Weights = Literal["float16", "int8", "palette"]
_MASKED = -1e4
"""Added to attention scores of padding. The smallest float32 would be -inf in fp16, and -inf times 0 is NaN."""
_PALETTE_BITS, _PALETTE_CHANNELS = 4, 16
"""Bits of an index, and rows of a matrix, at most, that share a palette: one for a whole matrix loses most labels."""
_SMALLEST = 2048
"""Elements from which a tensor is made small; below, its scales would take as much."""


class _InHalf(torch.nn.Module):
    """The model with a mask that half precision holds."""

    def __init__(self, module: tracing.Traceable) -> None:
        super().__init__()
        self.module = module

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor, ...]:
        from compressor.models import outputs

        model = self.module.model
        named = dict(zip(self.module.input_names, inputs, strict=True))
        named["attention_mask"] = (1 - named["attention_mask"][:, None, None, :].to(torch.float32)) * _MASKED
        given = tuple(outputs.outputs_by_name(model, model(**named)).values())
        return given[0] if len(given) == 1 else given


def write(source: Path, path: Path, weights: Weights) -> None:
    """Converts a checkpoint; rows are taken one at a time, of any length that the model takes.

    Args:
        source: Checkpoint folder.
        path: The package, a folder; one that is there is replaced.
        weights: How weights are stored. Products are in fp16 in any case.

    Raises:
        StageError: The extra is not installed, or the converter does not know an operator of the model.
    """
    if not installed("coremltools"):
        raise StageError(f"coreml needs coremltools, not installed: pip install '{DISTRIBUTION}[coreml]'")
    import coremltools as ct

    module = tracing.load(source, "eager")
    config: Any = module.model.config
    example = tuple(tensor[:1].to(torch.int32) for tensor in tracing.example_inputs(module))
    length = ct.RangeDim(1, int(config.max_position_embeddings), default=min(64, int(config.max_position_embeddings)))
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trace: Any = torch.jit.trace
        traced = trace(_InHalf(module).eval(), example, check_trace=False)
        try:
            model = ct.convert(
                traced,
                inputs=[ct.TensorType(name, shape=(1, length), dtype=np.int32) for name in module.input_names],
                outputs=[ct.TensorType(name, dtype=np.float32) for name in module.output_names],
                convert_to="mlprogram",
                compute_precision=ct.precision.FLOAT16,
                # A palette for each group of rows came with iOS 18.
                minimum_deployment_target=ct.target.iOS18 if weights == "palette" else ct.target.iOS16,
                skip_model_load=True,
            )
            model = _smaller(model, weights)
        except (NotImplementedError, ValueError, RuntimeError) as error:
            reason = str(error).strip().splitlines()
            raise StageError(f"export to coreml: {reason[-1] if reason else type(error).__name__}") from error
    shutil.rmtree(path, ignore_errors=True)
    path.parent.mkdir(parents=True, exist_ok=True)
    model.save(str(path))


def _smaller(model: Any, weights: Weights) -> Any:
    import coremltools.optimize.coreml as cto

    if weights == "float16":
        return model
    if weights == "int8":
        per_row = cto.OpLinearQuantizerConfig(mode="linear_symmetric", dtype="int8", weight_threshold=_SMALLEST)
        return cto.linear_quantize_weights(model, cto.OptimizationConfig(global_config=per_row))
    # The converter leaves a matrix in fp16, with a warning only, whose rows do not divide into the groups.
    palettes = {
        name: cto.OpPalettizerConfig(
            mode="kmeans",
            nbits=_PALETTE_BITS,
            granularity="per_grouped_channel",
            group_size=next(size for size in range(_PALETTE_CHANNELS, 0, -1) if len(found.val) % size == 0),
            weight_threshold=_SMALLEST,
        )
        for name, found in cto.get_weights_metadata(model, weight_threshold=_SMALLEST).items()
        if found.val.ndim > 1
    }
    return cto.palettize_weights(model, cto.OptimizationConfig(op_name_configs=palettes))
