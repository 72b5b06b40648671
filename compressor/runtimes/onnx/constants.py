"""Products of constants with constants, computed once."""

from __future__ import annotations

import onnx
from onnx import helper, numpy_helper

from compressor.runtimes.onnx.rewrite import constants_of, remove_unused

_PRODUCTS = ("MatMul", "Gemm")


def fold_products(model: onnx.ModelProto) -> int:
    """Puts the results of products that no input goes into in the place of them, in place.

    Such are a DeBERTa's keys and queries of distances. ONNX Runtime computes them when it loads a file, but not behind
    QuantizeLinear and DequantizeLinear: a static graph would compute them in floats for every text.

    Returns:
        How many results there were.
    """
    graph = model.graph
    known, products = set(constants_of(graph)), set[str]()
    inside: list[onnx.NodeProto] = []
    for node in graph.node:
        if node.op_type != "Constant" and node.input and known.issuperset(filter(None, node.input)):
            inside.append(node)
            known.update(node.output)
            if node.op_type in _PRODUCTS or not products.isdisjoint(node.input):
                products.update(node.output)
    ends = [output.name for output in graph.output]
    read = {name for node in graph.node if not known.issuperset(node.output) for name in node.input} | set(ends)
    results = sorted(products & read)
    if results:
        values = _computed(model, inside, results)
        gone = {id(node) for node in inside if not products.isdisjoint(node.output)}
        kept = [node for node in graph.node if id(node) not in gone]
        del graph.node[:]
        graph.node.extend(kept)
        graph.initializer.extend(values)
        remove_unused(graph)
    return len(results)


def _computed(model: onnx.ModelProto, nodes: list[onnx.NodeProto], results: list[str]) -> list[onnx.TensorProto]:
    """The values of tensors that some nodes compute of a graph's constants."""
    import onnxruntime

    from compressor.device.worker import onnx_options

    constants = [node for node in model.graph.node if node.op_type == "Constant"]
    outputs = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in results]
    graph = helper.make_graph([*constants, *nodes], "constants", [], outputs, list(model.graph.initializer))
    remove_unused(graph)
    part = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    session = onnxruntime.InferenceSession(
        part.SerializeToString(), onnx_options(1), providers=["CPUExecutionProvider"]
    )
    return [numpy_helper.from_array(value, name) for name, value in zip(results, session.run(results, {}), strict=True)]
