"""What a checkpoint or an exported file holds: parameters stored and called, bytes by part, types, operators."""

from __future__ import annotations

import json
import math
import re
import struct
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressor.errors import Problem, RecipeError
from compressor.models.checkpoint import Checkpoint, check

if TYPE_CHECKING:
    import onnx

_FORMATS = (".safetensors", ".onnx", ".pt", ".ort")

_PARTS = (
    ("token embeddings", r"word_embeddings|vocab_projector|decoder"),
    ("other embeddings", r"embeddings|embedding_hidden_mapping"),
    ("attention", r"attention|q_lin|k_lin|v_lin|out_lin|sa_layer_norm"),
    ("feed-forward", r"intermediate|ffn|feed_forward|lin1|lin2|full_layer|layer\.\d+[./]output|output_layer"),
)
"""Parts by what the name of a tensor, or of the operator that reads it, contains; the first that fits counts."""
_REST = "head"

_SAFETENSORS_BITS = {"F64": 64, "F32": 32, "F16": 16, "BF16": 16, "I64": 64, "I32": 32, "I16": 16, "I8": 8, "U8": 8}
_SAFETENSORS_TYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16", "I8": "int8"}


@dataclass(frozen=True)
class Weight:
    """A tensor that is stored.

    Attributes:
        name: In the file.
        part: What it belongs to.
        type: Such as `float32` or `int8`.
        shape: Its shape.
        size_bytes: What it takes, of packed integers with their scales.
        uses: How many layers or operators read it.
    """

    name: str
    part: str
    type: str
    shape: tuple[int, ...]
    size_bytes: int
    uses: int

    @property
    def parameters(self) -> int:
        """Its elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Inspection:
    """What a file holds.

    Attributes:
        path: The file.
        size_bytes: The file's size.
        weights: Every tensor that is stored.
        operators: How often each kind of operator occurs; empty for a checkpoint, which is no graph.
        quantized_coverage: Share of weight matrices that run as integers; None where that is not known.
    """

    path: str
    size_bytes: int
    weights: tuple[Weight, ...]
    operators: Mapping[str, int]
    quantized_coverage: float | None = None

    @property
    def stored(self) -> int:
        """Parameters in the file."""
        return sum(weight.parameters for weight in self.weights)

    @property
    def called(self) -> int:
        """Parameters as they are used: those of a layer that is called six times count six times."""
        return sum(weight.parameters * weight.uses for weight in self.weights)

    def by_part(self) -> dict[str, dict[str, int]]:
        """`parameters`, `called` and `size_bytes` of each part, largest first."""
        return _sums(self.weights, "part")

    def by_type(self) -> dict[str, dict[str, int]]:
        """`parameters`, `called` and `size_bytes` of each type, largest first."""
        return _sums(self.weights, "type")

    def to_json(self) -> dict[str, object]:
        """For programs."""
        return {
            "path": self.path,
            "size_bytes": self.size_bytes,
            "parameters_stored": self.stored,
            "parameters_called": self.called,
            "quantized_coverage": self.quantized_coverage,
            "parts": self.by_part(),
            "types": self.by_type(),
            "operators": dict(self.operators),
            "weights": [
                {"name": w.name, "part": w.part, "type": w.type, "shape": list(w.shape), "uses": w.uses}
                for w in self.weights
            ],
        }


def _sums(weights: Iterable[Weight], by: str) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for weight in weights:
        entry = found.setdefault(getattr(weight, by), {"parameters": 0, "called": 0, "size_bytes": 0})
        entry["parameters"] += weight.parameters
        entry["called"] += weight.parameters * weight.uses
        entry["size_bytes"] += weight.size_bytes
    return dict(sorted(found.items(), key=lambda item: -item[1]["size_bytes"]))


def inspect(path: Path) -> list[Inspection]:
    """Looks into a checkpoint folder and its exported files, or into one file.

    Args:
        path: A checkpoint folder, or a .safetensors, .onnx, .pt or .ort file.

    Raises:
        RecipeError: It is none of these, or cannot be read.
    """
    if path.is_dir():
        check(path, str(path))
        return [_inspect_file(file) for file in sorted(path.rglob("*")) if file.suffix in _FORMATS]
    if not path.is_file():
        raise RecipeError([Problem(str(path), "no such file or folder")])
    if path.suffix not in _FORMATS:
        raise RecipeError([Problem(str(path), "cannot be looked into", f"allowed: folders, {', '.join(_FORMATS)}")])
    return [_inspect_file(path)]


def _inspect_file(path: Path) -> Inspection:
    looks = {".safetensors": _safetensors, ".onnx": _onnx, ".pt": _torchscript, ".ort": _ort}
    try:
        return looks[path.suffix](path)
    except Exception as error:  # each library has errors of its own for a file that is damaged
        raise RecipeError([Problem(str(path), f"cannot be read: {error}", "save or export it again")]) from None


def _part(name: str) -> str:
    return next((part for part, pattern in _PARTS if re.search(pattern, name)), _REST)


def _safetensors(path: Path) -> Inspection:
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    header.pop("__metadata__", None)
    layers = _layers_of_blocks(Checkpoint(path.parent)) if (path.parent / "config.json").is_file() else {}
    weights = []
    for name, entry in header.items():
        block = re.match(r"(.*\.(?:albert_layer_groups|attentions|feed_forwards)\.\d+)\.", name)
        kind, shape = entry["dtype"], tuple(entry["shape"])
        size = math.prod(shape) * _SAFETENSORS_BITS.get(kind, 8) // 8
        uses = layers.get(block[1], 1) if block else 1
        weights.append(Weight(name, _part(name), _SAFETENSORS_TYPES.get(kind, kind), shape, size, uses))
    return Inspection(str(path), path.stat().st_size, tuple(weights), {})


def _layers_of_blocks(checkpoint: Checkpoint) -> dict[str, int]:
    """How many layers use each block that several may use."""
    config, layers = checkpoint.config, checkpoint.num_hidden_layers
    stack = "albert.encoder."
    if checkpoint.family == "albert":
        groups = config["num_hidden_groups"]
        used = Counter(int(layer / (layers / groups)) for layer in range(layers))
        return {f"{stack}albert_layer_groups.{group}": count for group, count in used.items()}
    found: dict[str, int] = {}
    for module, key in (("attentions", "attention_of_layer"), ("feed_forwards", "feed_forward_of_layer")):
        found |= {f"{stack}{module}.{block}": count for block, count in Counter(config.get(key, ())).items()}
    return found


def _onnx(path: Path) -> Inspection:
    import onnx

    from compressor.runtimes.baked_tokenizer.wordpiece import DOMAIN
    from compressor.runtimes.onnx.coverage import quantized_coverage

    graph = onnx.load(str(path)).graph
    # With a tokenizer in it, it takes texts; the graph inside is the one beside it.
    baked = any(node.domain == DOMAIN for node in graph.node)
    return _graph(path, graph, None if baked else quantized_coverage(path))


def _ort(path: Path) -> Inspection:
    from compressor.runtimes.ort.runtime import graph_of

    return _graph(path, graph_of(path), None)


def _graph(path: Path, graph: onnx.GraphProto, coverage: float | None) -> Inspection:
    import onnx

    from compressor.runtimes.onnx.coverage import forms_of_constants
    from compressor.runtimes.onnx.packed import packed

    forms = forms_of_constants(graph)
    small = packed(graph, forms)
    sizes = {tensor.name: len(tensor.raw_data) or tensor.ByteSize() for tensor in graph.initializer}
    scales = {name for weight in small.values() for name in weight.scales}
    readers: dict[str, list[str]] = {}
    for node in graph.node:
        changes_form = any(name in forms for name in node.output)
        for name in node.input[changes_form:]:
            readers.setdefault(forms.get(name, name), []).append(node.name)
    weights = []
    for tensor in graph.initializer:
        shape, read_by = tuple(tensor.dims), readers.get(tensor.name, [])
        constant = math.prod(shape) == 1 or tensor.data_type == onnx.TensorProto.INT64
        if constant or tensor.name in scales:
            continue  # of the graph, no parameter, or counted with its weight
        kind = onnx.TensorProto.DataType.Name(tensor.data_type).lower()
        kind = {"float": "float32", "double": "float64"}.get(kind, kind)
        size = sizes[tensor.name]
        if (weight := small.get(tensor.name)) is not None:
            kind, shape = f"int{weight.bits}", weight.shape
            size += sum(sizes.pop(name, 0) for name in weight.scales)
        part = _part(" ".join([tensor.name, *read_by[:1]]))
        weights.append(Weight(tensor.name, part, kind, shape, size, len(read_by)))
    operators = Counter(node.op_type for node in graph.node)
    return Inspection(str(path), path.stat().st_size, tuple(weights), dict(operators.most_common()), coverage)


def _torchscript(path: Path) -> Inspection:
    import torch

    module = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]  # torch.jit is untyped
    seen: dict[int, Weight] = {}
    for name, tensor in [*module.named_parameters(), *module.named_buffers()]:
        kind, size = str(tensor.dtype).removeprefix("torch."), tensor.untyped_storage().nbytes()
        if tensor.numel() > 1 and (tensor.is_floating_point() or kind in ("int8", "uint8")):
            seen.setdefault(tensor.data_ptr(), Weight(name, _part(name), kind, tuple(tensor.shape), size, 1))
    graph = module.inlined_graph
    operators = Counter(node.kind() for node in graph.nodes() if not node.kind().startswith("prim::"))
    uses: Counter[str] = Counter()
    for node in graph.findAllNodes("prim::GetAttr"):
        uses[_attribute_path(node)] += len(node.output().uses())
    weights = tuple(replace(weight, uses=max(1, uses[weight.name])) for weight in seen.values())
    return Inspection(str(path), path.stat().st_size, weights, dict(operators.most_common()))


def _attribute_path(node: Any) -> str:
    """The dotted name that a TorchScript node reads: each module is an attribute of the one before."""
    names: list[str] = []
    while node.kind() == "prim::GetAttr":
        names.append(node.s("name"))
        node = node.input().node()
    return ".".join(reversed(names))
