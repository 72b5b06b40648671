"""Checkpoints and models: reading, loading and converting them, their families and heads, and our own classes.

`parts` and `convert` take a model of any class apart into named blocks; `surgery/` changes those blocks.
To add a family: see `families/`. To add a head of a new kind: a constant in `heads`, and its part in `parts`. To add a
way of changing models: a file in `surgery/`. `register()` makes `AutoModel…` of transformers know `compact_bert`.
"""

from __future__ import annotations

from compressor.models.families import register

__all__ = ["register"]
