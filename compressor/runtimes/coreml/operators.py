"""Evaluates an ML program as Core ML's documentation defines its operators, in half precision, without Apple's kernels.

What fits into half precision is rounded to it after every operator, so that what overflows there overflows here: a mask
of -inf, for instance, that becomes NaN where it is multiplied by zero. Sums within an operator are in fp32.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.nn import functional

from compressor.errors import StageError

Values = Mapping[str, Any]
"""Operands of an operator by their names: tensors, numbers, texts, lists of tensors."""


def evaluate(kind: str, values: Values) -> tuple[torch.Tensor, ...]:
    """The outputs of an operator, floats rounded to half precision.

    Args:
        kind: The operator's name in the program.
        values: Its operands.

    Raises:
        StageError: No such operator is known here.
    """
    if kind not in OPERATORS:
        raise StageError(
            f"coreml: the program has the operator {kind}, which this package does not know, so its answers cannot be "
            f"compared; known: {', '.join(sorted(OPERATORS))}"
        )
    wide = {name: _widened(value) for name, value in values.items()}
    given = OPERATORS[kind](wide)
    outputs = given if isinstance(given, tuple) else (given,)
    if kind == "cast":
        return outputs
    return tuple(output.half() if output.is_floating_point() else output for output in outputs)


def _widened(value: Any) -> Any:
    if isinstance(value, list):
        return [_widened(entry) for entry in value]
    return value.float() if isinstance(value, torch.Tensor) and value.dtype == torch.float16 else value


def _ints(value: torch.Tensor) -> list[int]:
    found: list[int] = [int(entry) for entry in torch.as_tensor(value).reshape(-1).tolist()]
    return found


def _cast(v: Values) -> torch.Tensor:
    kinds = {"fp16": torch.float16, "fp32": torch.float32, "int32": torch.int32, "int16": torch.int32}
    kinds |= {"uint16": torch.int32, "uint8": torch.int32, "int8": torch.int32, "bool": torch.bool}
    return torch.as_tensor(v["x"]).to(kinds[v["dtype"]])


def _gather(v: Values) -> torch.Tensor:
    table: torch.Tensor
    table, axis, indices = v["x"], int(v["axis"]), torch.as_tensor(v["indices"]).long()
    axis %= table.ndim
    indices = torch.where(indices < 0, indices + table.shape[axis], indices)
    rows = table.index_select(axis, indices.reshape(-1))
    return rows.reshape((*table.shape[:axis], *indices.shape, *table.shape[axis + 1 :]))


def _slice(v: Values) -> torch.Tensor:
    x: torch.Tensor = v["x"]
    rank = x.ndim
    begin, end = _ints(v["begin"]), _ints(v["end"])
    stride = _ints(v["stride"]) if v.get("stride") is not None else [1] * rank
    masks = {name: _ints(v[name]) if v.get(name) is not None else [0] * rank for name in _MASKS}
    index: list[Any] = []
    for axis in range(rank):
        if masks["squeeze_mask"][axis]:
            index.append(begin[axis])
            continue
        start = None if masks["begin_mask"][axis] else begin[axis]
        index.append(slice(start, None if masks["end_mask"][axis] else end[axis], stride[axis]))
    return x[tuple(index)]


_MASKS = ("begin_mask", "end_mask", "squeeze_mask")


def _matmul(v: Values) -> torch.Tensor:
    x: torch.Tensor
    y: torch.Tensor
    x, y = v["x"], v["y"]
    x = x.transpose(-1, -2) if v.get("transpose_x") else x
    y = y.transpose(-1, -2) if v.get("transpose_y") else y
    return torch.matmul(x, y)


def _layer_norm(v: Values) -> torch.Tensor:
    x, axes = v["x"], _ints(v["axes"])
    shape = [x.shape[axis] for axis in axes]
    return functional.layer_norm(x, shape, v.get("gamma"), v.get("beta"), float(v["epsilon"]))


def _gelu(v: Values) -> torch.Tensor:
    return functional.gelu(v["x"], approximate="none" if v.get("mode", "EXACT") == "EXACT" else "tanh")


def _expand_dims(v: Values) -> torch.Tensor:
    x: torch.Tensor = v["x"]
    for axis in sorted(axis % (x.ndim + len(_ints(v["axes"]))) for axis in _ints(v["axes"])):
        x = x.unsqueeze(axis)
    return x


def _squeeze(v: Values) -> torch.Tensor:
    x: torch.Tensor = v["x"]
    axes = _ints(v["axes"]) if v.get("axes") is not None else [a for a, size in enumerate(x.shape) if size == 1]
    return x.squeeze(tuple(axes))


def _reshape(v: Values) -> torch.Tensor:
    shape = [size or v["x"].shape[axis] for axis, size in enumerate(_ints(v["shape"]))]
    x: torch.Tensor = v["x"]
    return x.reshape(shape)


def _concat(v: Values) -> torch.Tensor:
    parts = [torch.as_tensor(entry) for entry in v["values"]]
    return torch.cat([part.reshape(1) if part.ndim == 0 else part for part in parts], dim=int(v["axis"]))


def _split(v: Values) -> tuple[torch.Tensor, ...]:
    x, axis = v["x"], int(v["axis"])
    if v.get("split_sizes") is not None:
        return tuple(x.split(_ints(v["split_sizes"]), dim=axis))
    return tuple(x.chunk(int(v["num_splits"]), dim=axis))


def _select(v: Values) -> torch.Tensor:
    return torch.where(torch.as_tensor(v["cond"]).bool(), torch.as_tensor(v["a"]), torch.as_tensor(v["b"]))


def _cumulated(v: Values) -> torch.Tensor:
    assert not v.get("exclusive") and not v.get("reverse"), "a plain sum of what came before, and of the element"
    x: torch.Tensor = v["x"]
    return torch.cumsum(x, dim=int(v["axis"]), dtype=x.dtype)


def _gather_along_axis(v: Values) -> torch.Tensor:
    x: torch.Tensor = v["x"]
    indices = torch.as_tensor(v["indices"]).long()
    axis = int(v["axis"])
    return torch.gather(x, axis, torch.where(indices < 0, indices + x.shape[axis], indices))


OPERATORS: dict[str, Callable[[Values], torch.Tensor | tuple[torch.Tensor, ...]]] = {
    "abs": lambda v: torch.abs(v["x"]),
    "add": lambda v: torch.as_tensor(v["x"]) + torch.as_tensor(v["y"]),
    "cast": _cast,
    "clip": lambda v: v["x"].clamp(float(v["alpha"]), float(v["beta"])),
    "concat": _concat,
    "cos": lambda v: torch.cos(v["x"]),
    "cumsum": _cumulated,
    "equal": lambda v: torch.as_tensor(v["x"]) == torch.as_tensor(v["y"]),
    "erf": lambda v: torch.erf(v["x"]),
    "expand_dims": _expand_dims,
    "gather": _gather,
    "gather_along_axis": _gather_along_axis,
    "gelu": _gelu,
    "greater": lambda v: torch.as_tensor(v["x"]) > torch.as_tensor(v["y"]),
    "identity": lambda v: v["x"],
    "layer_norm": _layer_norm,
    "leaky_relu": lambda v: functional.leaky_relu(v["x"], float(v["alpha"])),
    "linear": lambda v: functional.linear(v["x"], v["weight"], v.get("bias")),
    "logical_and": lambda v: torch.logical_and(v["x"], v["y"]),
    "logical_not": lambda v: torch.logical_not(v["x"]),
    "matmul": _matmul,
    "mul": lambda v: torch.as_tensor(v["x"]) * torch.as_tensor(v["y"]),
    "not_equal": lambda v: torch.as_tensor(v["x"]) != torch.as_tensor(v["y"]),
    "pow": lambda v: torch.pow(torch.as_tensor(v["x"]), torch.as_tensor(v["y"])),
    "real_div": lambda v: torch.as_tensor(v["x"]) / torch.as_tensor(v["y"]),
    "relu": lambda v: functional.relu(v["x"]),
    "reduce_max": lambda v: torch.amax(v["x"], _ints(v["axes"]), keepdim=bool(v.get("keep_dims", False))),
    "reduce_sum": lambda v: torch.sum(v["x"], _ints(v["axes"]), keepdim=bool(v.get("keep_dims", False))),
    "reshape": _reshape,
    "select": _select,
    "shape": lambda v: torch.tensor(v["x"].shape, dtype=torch.int32),
    "sigmoid": lambda v: torch.sigmoid(v["x"]),
    "sigmoid_hard": lambda v: (v["x"] * float(v["alpha"]) + float(v["beta"])).clamp(0, 1),
    "sin": lambda v: torch.sin(v["x"]),
    "silu": lambda v: functional.silu(v["x"]),
    "slice_by_index": _slice,
    "softmax": lambda v: torch.softmax(v["x"], dim=int(v["axis"])),
    "softplus": lambda v: functional.softplus(v["x"]),
    "split": _split,
    "sqrt": lambda v: torch.sqrt(v["x"]),
    "squeeze": _squeeze,
    "sub": lambda v: torch.as_tensor(v["x"]) - torch.as_tensor(v["y"]),
    "tanh": lambda v: torch.tanh(v["x"]),
    "thresholded_relu": lambda v: torch.where(v["x"] >= float(v["alpha"]), v["x"], 0.0),
    "transpose": lambda v: v["x"].permute(_ints(v["perm"])),
}
"""What each operator computes."""
