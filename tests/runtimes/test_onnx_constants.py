"""Products of constants are computed once, and nothing else is."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from compressor.runtimes.onnx.constants import fold_products


def test_a_product_of_constants_becomes_its_result():
    table = np.array([[1, 2], [3, 4]], dtype=np.float32)
    weight = np.array([[0, 1], [1, 0]], dtype=np.float32)
    nodes = [
        helper.make_node("Transpose", ["table"], ["turned"], perm=[1, 0]),  # read by what stays, and no product
        helper.make_node("MatMul", ["turned", "weight"], ["product"]),
        helper.make_node("Neg", ["product"], ["result"]),
        helper.make_node("MatMul", ["x", "result"], ["first"]),
        helper.make_node("MatMul", ["first", "turned"], ["y"]),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2]) for name in ("x", "y")]
    constants = [numpy_helper.from_array(table, "table"), numpy_helper.from_array(weight, "weight")]
    model = helper.make_model(
        helper.make_graph(nodes, "graph", values[:1], values[1:], constants),
        opset_imports=[helper.make_opsetid("", 17)],
        ir_version=8,
    )
    x = np.array([[1, 10]], dtype=np.float32)

    def run() -> np.ndarray:
        return onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})[0]

    before = run()
    assert fold_products(model) == 1
    onnx.checker.check_model(model)
    assert [node.op_type for node in model.graph.node] == ["Transpose", "MatMul", "MatMul"]
    stored = {tensor.name: numpy_helper.to_array(tensor).tolist() for tensor in model.graph.initializer}
    assert stored == {"table": table.tolist(), "result": [[-3, -1], [-4, -2]]}
    assert run().tolist() == before.tolist()
    assert fold_products(model) == 0
