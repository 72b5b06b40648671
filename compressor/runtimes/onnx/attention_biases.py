"""Biases that attention does without: the same outputs with two sums less in each layer."""

from __future__ import annotations

from collections import Counter

import onnx
from onnx import numpy_helper

from compressor.runtimes.onnx.rewrite import Array, remove_unused

_MOVES = frozenset({"Reshape", "Transpose", "Slice"})
_SCALES = frozenset({"Mul", "Div"})


def fold_biases(model: onnx.ModelProto) -> tuple[int, int]:
    """Drops the keys' bias and moves the values' into the output's, in place.

    A query's product with the keys' bias is the same for all keys, and softmax does not see what is added to all of its
    inputs. Its outputs sum to 1, so the values' bias passes through to the product with the output matrix whole:
    `softmax(q (k + b)' + m) (v + c) W + d  =  softmax(q k' + m) v W + (c W + d)`.

    Returns:
        How many biases of keys were dropped, and how many of values moved.
    """
    found = _Attention(model.graph).fold()
    remove_unused(model.graph)
    return found


class _Attention:
    """The attention blocks of a graph."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._producers = {name: node for node in graph.node for name in node.output}
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in dict.fromkeys(node.input):
                self._readers.setdefault(name, []).append(node)
        self._uses = Counter(name for node in graph.node for name in node.input)
        self._uses.update(value.name for value in graph.output)
        self._made: dict[tuple[str, str, str], str] = {}

    def fold(self) -> tuple[int, int]:
        """Folds the biases of all blocks; how many of keys and of values."""
        dropped = moved = 0
        for node in list(self._graph.node):
            if node.op_type != "Softmax":
                continue
            products = [reader for reader in self._readers.get(node.output[0], []) if reader.op_type == "MatMul"]
            scores = self._scores(node.input[0])
            if scores is not None and len(products) == 1 and products[0].input[0] == node.output[0]:
                dropped += self._drop(self._biased(scores.input[1], _MOVES | _SCALES))
                moved += self._move(self._biased(products[0].input[1], _MOVES), products[0])
        return dropped, moved

    def _scores(self, name: str) -> onnx.NodeProto | None:
        """The product of queries and keys, from what the softmax reads: scaled, and with the mask added."""
        node = self._producers.get(name)
        while node is not None and node.op_type in ("Add", *_SCALES):
            inner = [self._producers.get(entry) for entry in node.input]
            # Of the two inputs of the mask's sum, the mask's comes from no product.
            products = [entry for entry in inner if entry is not None and entry.op_type in ("MatMul", *_SCALES)]
            if node.op_type == "Add":
                products = [entry for entry in products if self._scores(entry.output[0]) is not None]
            if len(products) != 1:
                return None
            node = products[0]
        return node if node is not None and node.op_type == "MatMul" and not self._constant(node) else None

    def _constant(self, node: onnx.NodeProto) -> bool:
        return any(name in self._constants for name in node.input)

    def _biased(self, name: str, through: frozenset[str]) -> onnx.NodeProto | None:
        """The sum of a product and a constant that a tensor comes from, if nothing else reads it."""
        node = self._producers.get(name)
        while node is not None and self._uses[node.output[0]] == 1:
            if node.op_type == "Add" and self._bias(node) is not None:
                return node
            moved = [entry for entry in node.input if entry not in self._constants]
            if node.op_type not in through or len(moved) != 1:
                return None
            node = self._producers.get(moved[0])
        return None

    def _bias(self, node: onnx.NodeProto) -> str | None:
        """The constant vector of a sum with a product by a constant matrix."""
        biases = [name for name in node.input if name in self._constants and len(self._constants[name].dims) == 1]
        product = next((self._producers.get(name) for name in node.input if name not in self._constants), None)
        weighted = product is not None and product.op_type == "MatMul" and product.input[1] in self._constants
        return biases[0] if len(biases) == 1 and weighted else None

    def _drop(self, biased: onnx.NodeProto | None) -> bool:
        """Takes the sum out, if there is one."""
        if biased is None:
            return False
        product = next(name for name in biased.input if name not in self._constants)
        for reader in self._readers[biased.output[0]]:
            for index, name in enumerate(reader.input):
                if name == biased.output[0]:
                    reader.input[index] = product
        return True

    def _move(self, biased: onnx.NodeProto | None, product: onnx.NodeProto) -> bool:
        """Takes the sum out and adds what becomes of its constant to the output's, if there are both."""
        output = self._output(product)
        if biased is None or output is None:
            return False
        weight, total = output
        bias, own = self._bias(biased), self._bias(total)
        assert bias is not None and own is not None, "that is how they were found"
        values: list[Array] = [numpy_helper.to_array(self._constants[name]) for name in (bias, weight, own)]
        if values[0].shape[0] != values[1].shape[0]:
            return False
        name = self._made.get((own, weight, bias))
        if name is None:  # layers that share their weights share this too
            name = self._made[own, weight, bias] = f"{own}.with.{bias}.{len(self._made)}"
            value = (values[0].astype("float64") @ values[1] + values[2]).astype("float32")
            self._graph.initializer.append(numpy_helper.from_array(value, name))
        for index, entry in enumerate(total.input):
            if entry == own:
                total.input[index] = name
        return self._drop(biased)

    def _output(self, product: onnx.NodeProto) -> tuple[str, onnx.NodeProto] | None:
        """The output matrix that the product of attention and values goes through, and the sum with its bias."""
        node = product
        while True:
            readers = self._readers.get(node.output[0], [])
            if len(readers) != 1 or self._uses[node.output[0]] != 1:
                return None
            node = readers[0]
            if node.op_type == "MatMul" and node.input[1] in self._constants:
                break
            if node.op_type not in _MOVES:
                return None
        sums = [reader for reader in self._readers.get(node.output[0], []) if reader.op_type == "Add"]
        return (node.input[1], sums[0]) if len(sums) == 1 and self._bias(sums[0]) is not None else None
