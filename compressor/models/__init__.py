"""Checkpoints and models: reading, loading and converting them, and the model classes of this package.

`parts` and `convert` take a model of any class apart into named blocks; `surgery/` changes those blocks.
To add a way of changing models: a file in `surgery/`.
"""
