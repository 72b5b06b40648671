"""Static int8 by neural-compressor: torch.export, its observers on training rows, its integers (its PT2E way)."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compressor.quantization.base import Settings
from compressor.quantization.neural_compressor.backend import SHARES, Rung, with_exceptions, worst
from compressor.quantization.static_int8 import Bounds, Rounded
from compressor.runtimes import Inputs
from compressor.training.context import Context, Facts

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from compressor.quantization.sensitivity import GraphQuantizer

OBSERVERS = {"min_max": "minmax", "entropy": "kl"}
"""neural-compressor's names of its ways to find ranges, by ours."""

_PREFIX = "model."
"""Prefix of module names in a traced model."""


class Static:
    """neural-compressor's static quantization of a checkpoint.

    Args:
        checkpoint: The checkpoint's folder.
        exported: Its float .onnx file.
        settings: How.
        method: How ranges are found: one of `OBSERVERS`.
        sample: Training rows.

    Attributes:
        model: The exported program that is quantized.
        example_inputs: What it was traced with.
    """

    def __init__(
        self, checkpoint: Path, exported: Path, settings: Settings, method: str, sample: Sequence[Inputs]
    ) -> None:
        import torch
        from neural_compressor.torch.export import export

        from compressor.quantization import weight_matrices
        from compressor.runtimes import tracing

        self._exported, self._settings, self._method = exported, settings, method
        self._traceable = tracing.load(checkpoint, "eager")
        biases = weight_matrices.biases(weight_matrices.read(exported)[0])
        _move_value_biases(self._traceable.model, {name for name, bias in biases.items() if bias == "none"})
        names = self._traceable.input_names
        self._sample = [tuple(torch.from_numpy(inputs[name]) for name in names) for inputs in sample]
        self.example_inputs: tuple[torch.Tensor, ...] | None = tracing.example_inputs(self._traceable)
        free = torch.export.Dim.DYNAMIC
        self.model: torch.nn.Module = export(
            self._traceable, self.example_inputs, dynamic_shapes=(tuple({0: free, 1: free} for _ in names),)
        )

    def calibrate(self, model: torch.nn.Module) -> None:
        """Runs the training rows through a model with observers."""
        import torch

        with torch.no_grad():
            for inputs in self._sample:
                model(*inputs)

    def first(self) -> Rung:
        """The settings of the recipe."""
        return Rung(f"static, {OBSERVERS[self._method]}", self._config(self._method, []))

    def others(self) -> list[Rung]:
        """The other observer, then more and more matrices in float, those first whose inputs int8 holds worst."""
        other = next(method for method in OBSERVERS if method != self._method)
        rungs = [Rung(f"static, {OBSERVERS[other]}", self._config(other, []))]
        degradation = self._coarseness()
        for share in SHARES:
            kept = worst(degradation, share)
            what = f"static, {OBSERVERS[self._method]}, {len(kept)} matrices in float"
            rungs.append(Rung(what, self._config(self._method, kept)))
        return rungs

    def write(self, model: torch.nn.Module, target: Path) -> list[str]:
        """Writes the weights and scales of a quantized model as QDQ; returns the names of the matrices in float."""
        import onnx

        from compressor.quantization import small_tables, static_int8, weight_matrices
        from compressor.runtimes.onnx import constants

        graph, _ = weight_matrices.read(self._exported)
        constants.fold_products(graph)
        every = small_tables.place(graph, self._settings)
        products = _products(model)
        bounds: Bounds = {}
        rounded: dict[str, Rounded] = {}
        chosen, kept, calls = [], [], Counter[str]()
        for matrix in every:
            modules = [weight_matrices.called(weight_matrices.module(node), products) for node in matrix.nodes]
            if self._settings.stays_float(matrix.name) or not (matrix.table or set(modules) <= set(products)):
                kept.append(matrix.name)
                continue
            chosen.append(matrix)
            for module, tensor in zip(modules, matrix.activations, strict=False):
                product = products[module][calls[module]]
                calls[module] += 1
                low, high = bounds.get(tensor, (0.0, 0.0))
                bounds[tensor] = min(low, product.low), max(high, product.high)
                rounded[matrix.weight] = product.weight
        static_int8.place(graph, self._settings, chosen, bounds, rounded)
        target.parent.mkdir(parents=True, exist_ok=True)
        onnx.save(graph, str(target))
        return kept

    def _config(self, method: str, kept: Sequence[str]) -> Any:
        from neural_compressor.torch.quantization import INT8StaticQuantConfig

        granularity = "per_channel" if self._settings.per_channel else "per_tensor"
        config = INT8StaticQuantConfig(w_granularity=granularity, act_algo=OBSERVERS[method])
        kept = [*kept, *(name for name in self._linears() if self._settings.stays_float(name.removeprefix(_PREFIX)))]
        return with_exceptions(config, kept, INT8StaticQuantConfig(w_dtype="fp32", act_dtype="fp32"))

    def _linears(self) -> dict[str, torch.nn.Module]:
        import torch

        modules = self._traceable.named_modules()
        return {name: module for name, module in modules if isinstance(module, torch.nn.Linear)}

    def _coarseness(self) -> dict[str, float]:
        """For each matrix, the range of its input divided by the input's root mean square: int8's relative error."""
        import torch

        linears = self._linears()
        seen: dict[str, list[tuple[float, float, float]]] = {name: [] for name in linears}
        with _observed(linears, seen), torch.no_grad():
            for inputs in self._sample:
                self._traceable(*inputs)
        degradation = {}
        for name, found in seen.items():
            low, high, square = np.array(found).T
            degradation[name] = float((high.max() - low.min()) / max(np.sqrt(square.mean()), 1e-12))
        return degradation


def make(quantizer: GraphQuantizer, context: Context) -> tuple[Static, Facts]:
    """Static quantization of a checkpoint, with training rows for its observers."""
    from compressor.quantization import calibration

    spec = quantizer.spec
    sample = calibration.rows(quantizer.checkpoint, spec, context)
    facts: Facts = {"calibration": {**spec.calibration.model_dump(), "samples": len(sample)}}
    return Static(quantizer.checkpoint, quantizer.graph, quantizer.settings, spec.calibration.method, sample), facts


def _move_value_biases(model: PreTrainedModel, moved: Collection[str]) -> None:
    """Moves the bias of attention's values into the output's, in place, as our export did: the same inputs are seen.

    See `compressor.runtimes.onnx.attention_biases.fold_biases`.

    Args:
        model: Changed in place.
        moved: Names of the matrices whose bias the graph does not add to their products.
    """
    import torch

    from compressor.models.convert import modules

    without = {module for name, module in model.named_modules() if name in moved}
    with torch.no_grad():
        for value, output in zip(modules(model, "value"), modules(model, "attention_output"), strict=True):
            if value not in without:
                continue
            assert isinstance(value, torch.nn.Linear) and isinstance(output, torch.nn.Linear)
            output.bias.add_(output.weight @ value.bias)
            value.bias.zero_()


@contextmanager
def _observed(
    linears: Mapping[str, torch.nn.Module], seen: dict[str, list[tuple[float, float, float]]]
) -> Iterator[None]:
    """Notes the least and the greatest value and the mean square of what modules get."""
    hooks = []
    for name, module in linears.items():

        def note(_: Any, inputs: tuple[torch.Tensor, ...], name: str = name) -> None:
            values = inputs[0]
            seen[name].append((float(values.min()), float(values.max()), float(values.square().mean())))

        hooks.append(module.register_forward_pre_hook(note))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


@dataclass(frozen=True)
class _Product:
    """The integers and ranges chosen for a product with a weight matrix.

    Attributes:
        low: Least value that the matrix is multiplied with.
        high: Greatest value that the matrix is multiplied with.
        weight: The matrix.
    """

    low: float
    high: float
    weight: Rounded


def _products(model: torch.nn.Module) -> dict[str, list[_Product]]:
    """The quantized products of a converted program, call by call, by the name of the module they come from."""
    import torch

    assert isinstance(model, torch.fx.GraphModule)
    found: dict[str, list[_Product]] = {}
    for node in model.graph.nodes:
        if node.target is not torch.ops.aten.linear.default or not _is_dequantized(node.args[1]):
            continue
        path, _ = list(node.meta["nn_module_stack"].values())[-1]
        _, scale, zero_point, least, greatest, _ = node.args[0].args
        low, high = (least - zero_point) * scale, (greatest - zero_point) * scale
        product = _Product(low, high, _weight(model, node.args[1].args[0]))
        found.setdefault(path.removeprefix(_PREFIX), []).append(product)
    return found


def _is_dequantized(node: torch.fx.Node) -> bool:
    return str(node.target).startswith("quantized_decomposed.dequantize")


def _weight(model: torch.nn.Module, node: torch.fx.Node) -> Rounded:
    """Result of a node on a weight: the operator runs here and is not written to the file."""
    import torch

    values = [
        operator.attrgetter(str(value.target))(model) if isinstance(value, torch.fx.Node) else value
        for value in node.args
    ]
    with torch.no_grad():
        integers = node.target(*values)  # type: ignore[operator]  # an operator of torch
    scales = np.asarray(values[1], dtype=np.float32)
    return np.ascontiguousarray(integers.numpy().T), scales
