"""Rewrites of an exported graph, before it is lowered: what torch.export writes in ways that XNNPACK does not take."""

from __future__ import annotations

from typing import Any

import torch
from torch.export import ExportedProgram
from torch.fx import Graph, Node

_aten = torch.ops.aten
_VIEWS = (_aten.view.default, _aten.reshape.default, _aten.unsqueeze.default)


def tidy(program: ExportedProgram) -> None:
    """Makes a graph of one row smaller, in place: the same values by operators that XNNPACK takes."""
    graph = program.graph_module.graph
    for node in list(graph.nodes):
        if node.op == "call_function":
            _name_one_size(graph, node)
            _drop_pair(node)
    graph.eliminate_dead_code()
    _share(graph, {*program.graph_signature.inputs_to_parameters, *program.graph_signature.inputs_to_buffers})
    graph.eliminate_dead_code()
    program.graph_module.recompile()


def _name_one_size(graph: Graph, node: Node) -> None:
    """A view whose only free size is an expression gets -1 for it, which XNNPACK infers; of views in a row the last."""
    sizes = list(node.meta["val"].shape) if node.target in _VIEWS else []
    free = [size for size in sizes if not isinstance(size, int)]
    if not sizes or len(free) > 1:
        return
    source = node.args[0]
    while isinstance(source, Node) and source.target is _aten.view.default:
        source = source.args[0]
    assert isinstance(source, Node)
    if not source.meta["val"].is_contiguous():
        with graph.inserting_before(node):
            copy = graph.call_function(_aten.clone.default, (source,), {"memory_format": torch.contiguous_format})
        copy.meta["val"] = source.meta["val"].contiguous()
        source = copy
    node.target = _aten.view.default
    node.args = (source, [size if isinstance(size, int) else -1 for size in sizes])


def _drop_pair(node: Node) -> None:
    """Two transpositions of the same axes are none."""
    source = node.args[0] if node.args else None
    if node.target is not _aten.transpose.int or not isinstance(source, Node) or source.target is not node.target:
        return
    original = source.args[0]
    if _axes(source) == _axes(node) and isinstance(original, Node):
        node.replace_all_uses_with(original)


def _axes(transpose: Node) -> set[int]:
    """The two axes that are exchanged, counted from the front."""
    count = transpose.meta["val"].dim()
    return {axis % count for axis in transpose.args[1:] if isinstance(axis, int)}


def _share(graph: Graph, constants: set[str]) -> None:
    """What is computed twice is computed once: an input that several products quantize is quantized for all.

    But not what is made of constants alone, such as the floats of a matrix of integers: all products that read one node
    become one part of XNNPACK, and where layers share a matrix, such a part would need its own results as inputs. The
    constants themselves are stored once.

    Args:
        graph: The graph.
        constants: Names of the nodes of parameters and buffers.
    """
    seen: dict[tuple[Any, str, str], Node] = {}
    made = set(constants)
    for node in graph.nodes:
        if (read := {source.name for source in node.all_input_nodes}) and read <= made:
            made.add(node.name)
        elif node.op == "call_function":
            first = seen.setdefault((node.target, repr(node.args), repr(node.kwargs)), node)
            if first is not node:
                node.replace_all_uses_with(first)
