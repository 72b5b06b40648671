"""Writes a .pte file: a checkpoint in one of four precisions, lowered to XNNPACK."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Literal

import torch
from torch import nn

from compressor.models.families import is_token_table
from compressor.runtimes import tracing
from compressor.runtimes.executorch import graph, modules

Weights = Literal["float32", "float16", "int8"]
Tables = Literal["float32", "float16", "int8", "int4"]

LONGEST = 1024
"""Tokens of a row, at most: a file asks for the memory of its longest row, which attention makes grow by the square."""


def write(source: Path, path: Path, weights: Weights, tables: Tables, keep_float: tuple[str, ...] = ()) -> None:
    """Lowers a checkpoint to XNNPACK; the length of the row stays free, up to `LONGEST`.

    Args:
        source: Checkpoint folder.
        path: The .pte file. Its method `forward` takes `ExecuTorch.INPUTS`, int64 `(1, sequence)` each, without token
            types where the model has none, and gives the model's outputs in the order of `ExecuTorch.OUTPUTS`, floats.
        weights: What the matrices of products are stored in. `int8` has a scale for each output channel, and products
            of integers: inputs are rounded token by token, each by its own range. `float16` computes in half precision.
        tables: What embedding tables are stored in; rows become floats as they are looked up. `int8` has a scale for
            each row. `int4` stores the tokens' table in blocks of a row with a scale each, and the others as `int8`.
        keep_float: Names or patterns of matrices and tables that stay in float32.
    """
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import ExecutorchBackendConfig, to_edge_transform_and_lower

    module = tracing.load(source, modules.ATTENTION)
    longest = min(module.longest, LONGEST)
    # No size of the example may be 1 but the batch's, or it would be taken for fixed.
    inputs = tuple(tensor[:1].clone() for tensor in tracing.example_inputs(module))
    modules.replace(module.model, (nn.LayerNorm,), modules.RowNorm)

    def stays(name: str) -> bool:
        return any(fnmatchcase(name, pattern) for pattern in keep_float)

    if weights == "float16":
        modules.to_half(module.model, stays, tables=tables == "float16")
    _quantize(module.model, weights, tables, stays)
    sequence = torch.export.Dim("sequence", min=1, max=longest)
    free = (tuple({1: sequence} for _ in inputs),)
    with torch.no_grad(), _quiet():
        program = torch.export.export(modules.InFloats(module), inputs, dynamic_shapes=free, strict=False)
        graph.tidy(program)
        lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
        # Tables in integers are looked up by operators that this option puts in.
        config = ExecutorchBackendConfig(do_quant_fusion_and_const_prop=tables in ("int8", "int4"))
        executable = lowered.to_executorch(config)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        executable.write_to_file(file)


def _quantize(model: nn.Module, weights: Weights, tables: Tables, stays: Callable[[str], bool]) -> None:
    """Rounds the matrices and tables that are to be integers, in place; tables first, or tied ones would be lost."""
    from torchao.quantization import Int8DynamicActivationIntxWeightConfig, IntxWeightOnlyConfig, quantize_
    from torchao.quantization.granularity import PerAxis

    found = [(name, part) for name, part in model.named_modules() if not stays(name)]
    bytes_ = IntxWeightOnlyConfig(torch.int8, PerAxis(0))
    if tables in ("int8", "int4"):
        for name, part in found:
            if not isinstance(part, nn.Embedding):
                continue
            # Tables of positions and of types are small, and every token gets the error of theirs.
            if tables == "int4" and is_token_table(name):
                model.set_submodule(name, modules.SmallTable(part))
                continue
            part.padding_idx = None  # the rows are only read, and the fused look-up has no such argument
            quantize_(part, bytes_, filter_fn=lambda *_: True)
    if weights == "int8":
        chosen = {part for _, part in found if isinstance(part, nn.Linear)}
        products = Int8DynamicActivationIntxWeightConfig(torch.int8, PerAxis(0))
        quantize_(model, products, filter_fn=lambda part, _: part in chosen)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings of libraries about each other."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
