"""TorchScript: export by tracing, run by torch.jit. Deprecated in torch since 2.11, so it all lives in this file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressor.device import worker
from compressor.models.checkpoint import Checkpoint
from compressor.runtimes.base import Runtime
from compressor.runtimes.inspection import Inspection, Weight, part_of

if TYPE_CHECKING:
    from torch import Tensor

    from compressor.runtimes.torchscript_int8.module import GraphModule
    from compressor.runtimes.tracing import Traceable

Session = worker.TorchScript

RUNTIME = Runtime(
    name="torchscript",
    module=__name__,
    file=Path("torchscript") / "model.pt",
    usage="`torch.jit.load`; inputs by position: {inputs}",
    target="torchscript",
    follows_quantized=True,
    quantizes=True,
    measured=True,
    inspectable=True,
)


def export(source: Path, path: Path) -> None:
    """Traces a checkpoint; batch and length stay free.

    Where the checkpoint has a quantized graph, that is what is traced: the file holds its integers, and torch's kernels
    multiply them as it does. Weights that the graph expands before it multiplies are expanded when the file is loaded.

    The order of the inputs and of the outputs is stored in the file, as the extra files `input_names.txt` and
    `output_names.txt`.

    Args:
        source: Checkpoint folder.
        path: The .pt file.

    Raises:
        StageError: The quantized graph has operators that torch has no kernel for.
    """
    import torch

    graph = Checkpoint(source).quantized
    module, inputs = _float(source) if graph is None else _quantized(graph)
    with torch.inference_mode():
        traced = torch.jit.trace(module, inputs, strict=False, check_trace=False)  # type: ignore[no-untyped-call]  # torch.jit is untyped
    path.parent.mkdir(parents=True, exist_ok=True)
    names = ("\n".join(given) for given in (module.input_names, module.output_names))
    torch.jit.save(traced, str(path), _extra_files=dict(zip(Session.NAMES, names, strict=True)))


def _float(source: Path) -> tuple[Traceable, tuple[Tensor, ...]]:
    from compressor.runtimes import tracing

    module = tracing.load(source, "sdpa")
    return module, tracing.example_inputs(module)


def _quantized(graph: Path) -> tuple[GraphModule, tuple[Tensor, ...]]:
    import torch

    from compressor.runtimes.torchscript_int8.module import GraphModule

    module = GraphModule(graph).eval()
    # Zeros where ones need not be: a table of token types may have a single row.
    kinds = {"token_type_ids": torch.zeros}
    return module, tuple(kinds.get(name, torch.ones)((2, 3), dtype=torch.int64) for name in module.input_names)


def inspect(path: Path) -> Inspection:
    """The weights and operators of a TorchScript file."""
    import torch

    module = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]  # torch.jit is untyped
    graph = module.inlined_graph
    operators = Counter(node.kind() for node in graph.nodes() if not node.kind().startswith("prim::"))
    uses: Counter[str] = Counter()
    for node in graph.findAllNodes("prim::GetAttr"):
        uses[_attribute_path(node)] += len(node.output().uses())
    seen: dict[int, Weight] = {}
    for name, reader, tensor in list(_stored(module)):
        kind, size = str(tensor.dtype).removeprefix("torch."), tensor.untyped_storage().nbytes()
        if tensor.numel() > 1 and (tensor.is_floating_point() or kind in ("int8", "uint8")):
            new = Weight(name, part_of(name), kind, tuple(tensor.shape), size, 0)
            known = seen.get(tensor.data_ptr(), new)
            seen[tensor.data_ptr()] = replace(known, uses=known.uses + uses[reader])
    weights = tuple(replace(weight, uses=max(1, weight.uses)) for weight in seen.values())
    return Inspection(str(path), path.stat().st_size, weights, dict(operators.most_common()))


def _stored(module: Any) -> Iterator[tuple[str, str, Tensor]]:
    """The tensors of a loaded file as it stores them, each with its name and the name that the graph reads it by.

    Modules that hold small weights say themselves what is stored of them.
    """
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        yield name, name, tensor
    for name, holder in module.named_modules():
        if holder._c._has_method("__getstate__"):
            leaf = "packed" if hasattr(holder, "packed") else "weight"
            for index, value in enumerate(holder._c._get_method("__getstate__")()):
                if hasattr(value, "data_ptr"):
                    yield f"{name}.{index}" if index else name, f"{name}.{leaf}", value


def _attribute_path(node: Any) -> str:
    """The dotted name that a TorchScript node reads: each module is an attribute of the one before."""
    names: list[str] = []
    while node.kind() == "prim::GetAttr":
        names.append(node.s("name"))
        node = node.input().node()
    return ".".join(reversed(names))
