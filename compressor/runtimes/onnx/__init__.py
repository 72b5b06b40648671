"""Exported ONNX graphs: rewrites that keep their outputs, their contents, and the share of them that runs as integers.

To add a rewrite: a function that changes a graph in place, and a call in `rewrite.simplify`.
"""
