"""The ORT format: the graph as ONNX Runtime has optimised it, and the process that converts it.

To add another such format: a folder like this one, with its own `RUNTIME` (see `compressor.runtimes`).
"""
