"""4 bits for the table of token embeddings, in a graph whose other weights become int8."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import onnx

    from compressor.quantization.weight_matrices import Matrix

from compressor.models.block_rounding import round_rows
from compressor.models.families import is_token_table
from compressor.quantization.base import Settings

BLOCK_SIZE = 128
"""Neighbours that share a scale. In blocks of 64, MiniLM's logits on SST-2 differ from its float form's by 0.074 on
average and not by 0.082, with no more labels the same, in a file that is larger by 1 %."""


def place(model: onnx.ModelProto, settings: Settings) -> list[Matrix]:
    """Stores the tokens' table in 4 bits where that is asked, in place.

    A table that a language model's output embedding is tied to stays as it is: it gets that one's integers of 8 bits,
    so that both are stored once. Tables of positions and of types stay too: they are small, and every token gets their
    error: in 4 bits those two changed more of MiniLM's labels than the tokens' did.

    Args:
        model: A float graph that `onnx_sharing.merge` has been through.
        settings: How: `embeddings`, `keep_float`.

    Returns:
        The graph's other matrices.
    """
    from compressor.quantization import weight_matrices, weight_only

    if settings.embeddings == "int4":
        every, _ = weight_only.rows(model, settings)
        tables = [matrix.weight for matrix in weight_matrices.find(model) if is_token_table(matrix.name)]
        rounded = {name: round_rows(every[name], 4, BLOCK_SIZE) for name in tables if name in every}
        if rounded:
            weight_only.place(model, rounded, {})
    return weight_matrices.find(model)
