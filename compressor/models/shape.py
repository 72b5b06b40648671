"""The shape of a checkpoint: its family, layers and widths."""

from __future__ import annotations

from dataclasses import dataclass

from compressor.models.checkpoint import Checkpoint


@dataclass(frozen=True)
class Shape:
    """The shape of a checkpoint, as far as it is known before the stages run.

    Attributes:
        family: Its `model_type`.
        layers: As called.
        hidden: Width of the layers.
        head_size: Channels of a head.
        heads: Of each layer; None where they differ or only the stage will know.
        neurons: Of each layer; None likewise.
        table: Rows of the position table.
        embedding: Width of the embeddings.
        words: Rows of the table of words; None if only the stage will know.
    """

    family: str
    layers: int
    hidden: int
    head_size: int
    heads: int | None
    neurons: int | None
    table: int
    embedding: int
    words: int | None

    @classmethod
    def of(cls, checkpoint: Checkpoint) -> Shape:
        """The shape of a checkpoint on disk."""
        heads, neurons = set(checkpoint.heads), set(checkpoint.neurons)
        return cls(
            checkpoint.family,
            checkpoint.num_hidden_layers,
            checkpoint.hidden_size,
            checkpoint.head_size,
            heads.pop() if len(heads) == 1 else None,
            neurons.pop() if len(neurons) == 1 else None,
            checkpoint.max_position_embeddings,
            checkpoint.embedding_size,
            int(checkpoint.config["vocab_size"]),
        )
