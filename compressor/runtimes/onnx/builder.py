"""Nodes and constants of an ONNX graph under construction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import onnx


class Graph:
    """Nodes and constants under construction.

    Args:
        name: What all names in it begin with.

    Attributes:
        nodes: In the order in which they run.
        constants: By name.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, onnx.TensorProto] = {}

    def add(self, operator: str, *inputs: str, outputs: int = 1, **attributes: Any) -> Any:
        """Adds a node; the name of its output, or a tuple of several names."""
        from onnx import helper

        name = f"{self._name}/{len(self.nodes)}.{operator}"
        names = [name if outputs == 1 else f"{name}.{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(operator, inputs, names, name=name, **attributes))
        return name if outputs == 1 else tuple(names)

    def strings(self, *values: str) -> str:
        """A vector of strings."""
        from onnx import TensorProto, helper

        encoded = [value.encode() for value in values]
        return self._constant(lambda name: helper.make_tensor(name, TensorProto.STRING, [len(values)], encoded))

    def integers(self, value: int | list[int]) -> str:
        """A scalar or a vector of int64."""
        import numpy as np
        from onnx import numpy_helper

        return self._constant(lambda name: numpy_helper.from_array(np.array(value, dtype=np.int64), name))

    def floats(self, values: list[float]) -> str:
        """A vector of float32."""
        import numpy as np
        from onnx import numpy_helper

        return self._constant(lambda name: numpy_helper.from_array(np.array(values, dtype=np.float32), name))

    def _constant(self, make: Any) -> str:
        name = f"{self._name}/constant.{len(self.constants)}"
        self.constants[name] = make(name)
        return name
