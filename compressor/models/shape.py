"""The shape of a checkpoint: its family, layers and widths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compressor.models.checkpoint import Checkpoint
from compressor.models.families import FAMILIES
from compressor.models.sentence_embedding import Unsupported


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
        dense: Numbers that a dense layer makes of a sentence's vector; None where there is none.
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
    dense: int | None

    @property
    def vector(self) -> int:
        """Numbers of a sentence's vector."""
        return self.dense or self.hidden

    @property
    def whole_layers(self) -> bool:
        """Whether nothing inside its layers can be changed."""
        return self.family in FAMILIES and FAMILIES[self.family].whole_layers

    def first_moves(self, layers: Sequence[int]) -> bool:
        """Whether a choice of layers, in their new order, would put a first layer that has to stay first elsewhere."""
        kept = self.family in FAMILIES and FAMILIES[self.family].keeps_first
        return kept and bool(layers) and (layers[0] != 0 or 0 in layers[1:])

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
            _dense(checkpoint),
        )


def _dense(checkpoint: Checkpoint) -> int | None:
    try:
        return checkpoint.embedding.dense
    except Unsupported:
        return None  # refused where sentences are embedded; nothing else asks
