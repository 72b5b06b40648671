"""Exported ONNX graphs: rewrites that keep their outputs, what they store, and how much of them runs as integers.

To add a rewrite: a function that changes a graph in place, and a call in `rewrite.simplify`.
"""
