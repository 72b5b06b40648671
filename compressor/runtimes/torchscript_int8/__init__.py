"""Quantized ONNX graphs as TorchScript: `module` rebuilds the graph, `operators` computes its nodes in torch.

To add an operator: a function in `operators` and its name in one of the tables there.
"""
