"""Weight-only int8 and int4 by neural-compressor: its round-to-nearest (RTN) chooses integers and scales.

Its other algorithms have no place in such a file: HQQ makes groups of every n-th number across rows, which no runtime's
format has, and AWQ and TEQ scale what weights are multiplied with.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compressor.models.block_rounding import Blocks
from compressor.quantization.base import Settings
from compressor.quantization.neural_compressor.backend import SHARES, Rung, with_exceptions, worst
from compressor.training.context import Context, Facts

if TYPE_CHECKING:
    import torch

    from compressor.quantization.sensitivity import GraphQuantizer


class WeightOnly:
    """neural-compressor's round-to-nearest of all matrices and tables of a graph, each as a Linear of its own.

    So a weight that layers share is rounded once, and embeddings are rounded as products are.

    Args:
        exported: A float .onnx file.
        settings: How.

    Attributes:
        model: The Linears.
        example_inputs: None: only weights are looked at.
    """

    example_inputs: tuple[torch.Tensor, ...] | None = None

    def __init__(self, exported: Path, settings: Settings) -> None:
        import torch

        from compressor.quantization import weight_matrices, weight_only

        self._settings = settings
        self._graph, every = weight_matrices.read(exported)
        self._names = {matrix.weight: matrix.name for matrix in every}
        self._rows, self._tied = weight_only.rows(self._graph, settings)
        self.model: torch.nn.Module = torch.nn.ModuleDict()
        for index, values in enumerate(self._rows.values()):
            linear = torch.nn.Linear(values.shape[1], values.shape[0], bias=False, device="meta")
            linear.weight = torch.nn.Parameter(torch.from_numpy(values.copy()), requires_grad=False)
            self.model.add_module(str(index), linear)

    def calibrate(self, model: torch.nn.Module) -> None:
        """Nothing: only weights are looked at."""

    def first(self) -> Rung:
        """The settings of the recipe."""
        bits = self._settings.bits
        return Rung(f"RTN, {bits} bits", self._config(bits))

    def others(self) -> list[Rung]:
        """Closer fits of the blocks' scales; then more bits for those matrices that lose most: 8, or all in float."""
        bits = self._settings.bits
        rungs = [
            Rung(f"RTN, {bits} bits, full range", self._config(bits, use_full_range=True)),
            Rung(f"RTN, {bits} bits, clip search", self._config(bits, use_mse_search=True)),
        ]
        degradation = self._errors()
        exception = self._config(8) if bits == 4 else self._config(bits, dtype="fp32")
        for share in SHARES:
            names = worst(degradation, share)
            what = f"{len(names)} matrices {'in 8 bits' if bits == 4 else 'in float'}"
            config = with_exceptions(self._config(bits), [f"{name}$" for name in names], exception)
            rungs.append(Rung(f"RTN, {bits} bits, {what}", config))
        return rungs

    def write(self, model: torch.nn.Module, target: Path) -> list[str]:
        """Writes the weights and scales of a quantized model; returns the names of the matrices with more bits."""
        import onnx

        from compressor.quantization import weight_only

        graph, rounded = copy.deepcopy(self._graph), self._blocks(model)
        weight_only.place(graph, rounded, self._tied)
        target.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(graph, str(target))
        usual = {name for name, blocks in rounded.items() if blocks.bits == self._settings.bits}
        return [name for weight, name in self._names.items() if self._tied.get(weight, weight) not in usual]

    def _config(self, bits: int, **options: Any) -> Any:
        from neural_compressor.torch.quantization import RTNConfig

        return RTNConfig(bits=bits, group_size=self._settings.block_size, use_layer_wise=False, **options)

    def _blocks(self, model: torch.nn.Module) -> dict[str, Blocks]:
        """The integers and scales of a quantized model, by the constant's name."""
        found = {}
        module: Any  # the library's own, or a Linear
        for name, module in zip(self._rows, model.children(), strict=True):
            if not hasattr(module, "unpack"):
                continue  # stays in float
            chosen = module.unpack()
            integers = chosen["int_weight"].numpy().astype(np.int16) - (1 << (module.bits - 1))
            scales = chosen["scales"].numpy().astype(np.float16)
            found[name] = Blocks.of(integers, scales, module.bits, self._settings.block_size)
        return found

    def _errors(self) -> dict[str, float]:
        """How much of each matrix rounding loses, as a share of its norm, by the Linear's name."""
        from neural_compressor.torch.quantization import quantize

        model = quantize(copy.deepcopy(self.model), self.first().config)
        errors: dict[str, float] = {}
        module: Any
        for index, (values, module) in enumerate(zip(self._rows.values(), model.children(), strict=True)):
            lost = module.recover().float().numpy() - values
            errors[str(index)] = float(np.linalg.norm(lost) / max(float(np.linalg.norm(values)), 1e-12))
        return errors


def make(quantizer: GraphQuantizer, context: Context) -> tuple[WeightOnly, Facts]:
    """Round-to-nearest of a graph; it needs no rows."""
    return WeightOnly(quantizer.graph, quantizer.settings), {}
