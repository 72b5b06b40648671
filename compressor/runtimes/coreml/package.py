"""The files of an .mlpackage. The only place that uses coremltools' private reader of programs."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class Operator:
    """An operator of a program.

    Attributes:
        kind: Its name in MIL.
        operands: By their names: the name of a value of the program, a list of such names, or a constant.
        outputs: Names of the values that it gives.
    """

    kind: str
    operands: dict[str, Any]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Program:
    """The program of a package.

    Attributes:
        inputs: Names of its inputs.
        outputs: Names of its outputs.
        longest: Most tokens of a row.
        constants: Constants by name; small weights as the floats that they stand for, halves in single precision.
        operators: In their order.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    longest: int
    constants: dict[str, Any]
    operators: tuple[Operator, ...]


def name_items(path: Path) -> None:
    """Names the items in a package's list by their places; coremltools names them at random, each time anew.

    Args:
        path: The package, a folder.
    """
    file = path / "Manifest.json"
    listed = json.loads(file.read_text(encoding="utf-8"))
    items = listed["itemInfoEntries"]
    names = {name: str(uuid.uuid5(uuid.NAMESPACE_URL, item["path"])) for name, item in items.items()}
    listed["itemInfoEntries"] = {names[name]: items[name] for name in sorted(items, key=lambda name: names[name])}
    listed["rootModelIdentifier"] = names[listed["rootModelIdentifier"]]
    file.write_text(json.dumps(listed, indent=4) + "\n", encoding="utf-8")


def read(path: Path) -> Program:
    """Reads the program and the weights of a package, as they are on the disk.

    Args:
        path: The package, a folder.
    """
    import coremltools as ct
    from coremltools.converters.mil.frontend.milproto.load import load

    model = ct.models.MLModel(str(path), skip_model_load=True)
    spec = model.get_spec()
    function = load(spec, spec.specificationVersion, model.weights_dir).functions["main"]
    constants: dict[str, Any] = {}
    operators = []
    for found in function.operations:
        outputs = tuple(output.name for output in found.outputs)
        if found.op_type == "const":
            constants[outputs[0]] = _constant(found.outputs[0].val)
        elif found.op_type.startswith("constexpr_"):
            constants[outputs[0]] = _constant(found.materialized_val_inference())
        else:
            operands = {name: _operand(value) for name, value in found.inputs.items() if value is not None}
            operators.append(Operator(found.op_type, operands, outputs))
    names = tuple(entry.name for entry in spec.description.input)
    lengths = spec.description.input[0].type.multiArrayType.shapeRange.sizeRanges[1]
    outputs = tuple(output.name for output in function.outputs)
    return Program(names, outputs, int(lengths.upperBound), constants, tuple(operators))


def _operand(value: Any) -> Any:
    return [entry.name for entry in value] if isinstance(value, list | tuple) else value.name


def _constant(value: Any) -> Any:
    if isinstance(value, str):
        return value
    array = np.array(value)  # a copy that torch may write to
    if array.dtype == np.float16:  # once, and not at every operator
        return torch.from_numpy(array).float()
    return torch.from_numpy(array) if array.dtype.kind in "fiub" and array.dtype != np.uint16 else array
