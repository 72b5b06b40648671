"""Chains of a quantized graph's nodes that torch has one kernel for."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from compressor.runtimes.torchscript_int8.graph import NodeGraph
from compressor.runtimes.torchscript_int8.operators import Node
from compressor.runtimes.torchscript_int8.products import fuse_products


def fuse(graph: NodeGraph) -> None:
    """Applies every fusion."""
    fuse_products(graph)
    _expand_constants(graph)
    _fuse_gelu(graph)
    _fuse_attention(graph)
    _read_sizes(graph)
    graph.set(_prepared(graph, node) for node in graph.nodes)


def _expand_constants(graph: NodeGraph) -> None:
    """Matrices of blocks and of halves become floats once; products of blocks become plain ones."""
    nodes: list[Node] = []
    for node in graph.nodes:
        if node.op == "Cast" and (stored := graph.stored(node.inputs[0])) is not None:
            name, turned = stored
            whole = f"{node.outputs[0]}.turned" if turned else node.outputs[0]
            nodes.append(Node("Halves", (), (whole,), {"stored": (name,)}))
            if turned:
                nodes.append(Node("Transpose", (whole,), node.outputs, {"perm": [1, 0]}))
        elif node.op == "MatMulNBits":
            x, *packed = node.inputs[:3]
            codes, scales = (_packed(graph, name) for name in packed)
            whole = f"{codes}.floats"
            if whole not in {name for made in nodes for name in made.outputs}:
                nodes.append(Node("Blocks", (), (whole,), {**node.attributes, "stored": (codes, scales)}))
            nodes.append(Node("MatMul", (x, whole), node.outputs))
        else:
            nodes.append(node)
    graph.set(nodes)


def _packed(graph: NodeGraph, name: str) -> str:
    """The constant behind a node that only shapes or casts it."""
    while name not in graph.constants:
        name = graph.maker[name].inputs[0]
    return name


def _fuse_gelu(graph: NodeGraph) -> None:
    """`x * (erf(x / sqrt(2)) + 1) * 0.5`."""
    fused: dict[Node, Node] = {}
    for node in graph.nodes:
        divided = graph.maker.get(node.inputs[0]) if node.op == "Erf" else None
        if divided is None or divided.op != "Div" or graph.number(divided.inputs[1]) is None:
            continue
        x, root = divided.inputs[0], graph.number(divided.inputs[1])
        plus = graph.after(node.outputs[0], "Add")
        times = graph.after(plus.outputs[0], "Mul") if plus else None
        half = graph.after(times.outputs[0], "Mul") if times else None
        if plus and times and half and root is not None and abs(root - np.sqrt(2)) < 1e-6:
            one = graph.number(graph.other(plus, node.outputs[0]))
            value = graph.number(graph.other(half, times.outputs[0]))
            if one == 1 and value == 0.5 and graph.other(times, plus.outputs[0]) == x:
                fused[half] = Node("ErfGelu", (x,), half.outputs)
    graph.set(fused.get(node, node) for node in graph.nodes)


def _fuse_attention(graph: NodeGraph) -> None:
    """`softmax(q @ k * scale + mask) @ v`."""
    fused: dict[Node, Node] = {}
    for node in graph.nodes:
        scores = graph.maker.get(node.inputs[0]) if node.op == "Softmax" else None
        scaled = graph.maker.get(scores.inputs[0]) if scores and scores.op == "Add" else None
        product = graph.maker.get(scaled.inputs[0]) if scaled and scaled.op == "Mul" else None
        mixed = graph.after(node.outputs[0], "MatMul")
        if not (scores and scaled and product and mixed) or product.op != "MatMul":
            continue
        scale = graph.number(scaled.inputs[1])
        if scale is None or mixed.inputs[0] != node.outputs[0]:
            continue
        inputs = (*product.inputs, mixed.inputs[1], scores.inputs[1])
        fused[mixed] = Node("ScaledDotProductAttention", inputs, mixed.outputs, {"scale": scale})
    graph.set(fused.get(node, node) for node in graph.nodes)


def _read_sizes(graph: NodeGraph) -> None:
    """Sizes that shapes and slices are made of are numbers, without a tensor of all sizes."""
    read: dict[Node, Node] = {}
    for node in graph.nodes:
        found = graph.size(node.outputs[0])
        users = [user.op for one in graph.readers[node.outputs[0]] for user in (one, *_reshaped(graph, one))]
        if found is not None and {*users} <= {"Slice", "Concat", "Reshape"}:
            read[node] = Node("Size", (found[0],), node.outputs, {"axis": found[1]})
    graph.set(read.get(node, node) for node in graph.nodes)


def _reshaped(graph: NodeGraph, node: Node) -> list[Node]:
    """What reads a list of sizes."""
    return graph.readers[node.outputs[0]] if node.op == "Concat" else []


def _prepared(graph: NodeGraph, node: Node) -> Node:
    """A node for which nothing is computed twice."""
    if node.op == "LayerNormalization":
        return replace(node, attributes={**node.attributes, "shape": graph.constants[node.inputs[1]].shape})
    if node.op == "DequantizeLinear" and len(node.inputs) > 2:
        x, scale, zero_point = node.inputs
        graph.constants[f"{zero_point}.float"] = graph.constants[zero_point].astype(np.float32)
        return replace(node, inputs=(x, scale, f"{zero_point}.float"))
    sizes = graph.maker.get(node.inputs[1]) if node.op == "Reshape" else None
    if sizes is not None and sizes.op == "Concat":
        known = [graph.constants[name].tolist() if name in graph.constants else [None] for name in sizes.inputs]
        computed = [name for name in sizes.inputs if name not in graph.constants]
        shape = [size for part in known for size in part]
        return replace(node, inputs=(node.inputs[0], *computed), attributes={"sizes": shape})
    return node
