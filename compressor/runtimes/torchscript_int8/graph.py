"""A graph's nodes, and ways from one to the next."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from compressor.runtimes.onnx.rewrite import Array
from compressor.runtimes.torchscript_int8.operators import Node


class NodeGraph:
    """Nodes in the order in which they run, and who makes and who reads what.

    Args:
        nodes: All of them.
        constants: Values by name.
        outputs: Names of the graph's outputs.

    Attributes:
        nodes: As they are now.
        constants: With those that fusions add.
    """

    def __init__(self, nodes: Sequence[Node], constants: dict[str, Array], outputs: Iterable[str]) -> None:
        self.constants, self._outputs = constants, frozenset(outputs)
        self.set(nodes)

    def set(self, nodes: Iterable[Node]) -> None:
        """Takes the nodes that lead to an output."""
        wanted, kept = set(self._outputs), []
        for node in reversed(list(nodes)):
            if wanted.intersection(node.outputs):
                kept.append(node)
                wanted.update(node.inputs)
        self.nodes = kept[::-1]
        self.maker = {name: node for node in self.nodes for name in node.outputs}
        self.readers: dict[str, list[Node]] = defaultdict(list)
        for node in self.nodes:
            for name in node.inputs:
                self.readers[name].append(node)

    def after(self, name: str, op: str) -> Node | None:
        """The only reader of a tensor, if it is of this kind."""
        readers = self.readers[name]
        alone = len(readers) == 1 and name not in self._outputs and readers[0].op == op
        return readers[0] if alone else None

    def other(self, node: Node, name: str) -> str:
        """The other input of a node with two."""
        first, second = node.inputs
        return second if first == name else first

    def number(self, name: str) -> float | None:
        """A constant with a single value."""
        value = self.constants.get(name)
        return float(value.reshape(-1)[0]) if value is not None and value.size == 1 else None

    def stored(self, name: str) -> tuple[str, bool] | None:
        """The constant that a tensor is a view of, and whether it is its transpose."""
        turned = False
        while name not in self.constants:
            node = self.maker.get(name)
            if node is None or node.op not in ("Transpose", "Reshape"):
                return None
            turned ^= node.op == "Transpose"
            name = node.inputs[0]
        return name, turned

    def size(self, name: str) -> tuple[str, int] | None:
        """The tensor and the axis whose size a tensor is, as a number or as a list of one."""
        node, index = self.maker.get(name), None
        while node is not None and node.op in ("Gather", "Squeeze", "Unsqueeze"):
            if node.op == "Gather":
                index = self.number(node.inputs[1])
            node = self.maker.get(node.inputs[0])
        if node is None or node.op != "Shape":
            return None
        first, last = node.attributes.get("start", 0), node.attributes.get("end")
        if index is None and last == first + 1:
            index = 0
        return None if index is None else (node.inputs[0], first + int(index))
