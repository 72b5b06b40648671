"""Estimates of the bytes and of the time of the int8 file that a plan ships, from shapes alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from compressor.models.checkpoint import Checkpoint
from compressor.models.heads import HEADS, MASKED_LM

OPERATIONS_PER_S = 200e9
"""Int8 operations that a core is taken to do in a second. Cores differ tenfold: a gate has the last word."""

_GRAPH_BYTES, _LAYER_BYTES, _SHARED_BYTES = 20_000, 18_500, 4_500
"""Of the nodes and names of a graph: beside its layers, of each of them, and more where weights are shared."""
_BLOCK = 128
"""Numbers of a 4-bit table that share a scale of two bytes."""
INT4_BYTES = 0.5 + 2 / _BLOCK
"""Bytes of a number in a 4-bit table."""


@dataclass(frozen=True)
class Geometry:
    """The sizes that decide how large a model's file is.

    Attributes:
        words: Tokens of the table.
        embedding: Width of the table.
        hidden: Width of the layers.
        layers: As called.
        blocks: As stored; fewer where layers share.
        neurons: Of a feed-forward network.
        others: Parameters of all other parts: positions, head, pooler.
        tied: Whether a language model's head uses the table too, which then has 8 bits at least.
    """

    words: int
    embedding: int
    hidden: int
    layers: int
    blocks: int
    neurons: int
    others: int
    tied: bool

    @classmethod
    def of(cls, checkpoint: Checkpoint, new_head: int | None, masked: bool) -> Geometry:
        """The sizes of a checkpoint.

        Args:
            checkpoint: The checkpoint.
            new_head: Outputs of the head that is made for the task; None where its own is used.
            masked: Whether the task is masked-lm.
        """
        widths = checkpoint.block_widths
        plain = cls(
            words=checkpoint.vocab_size,
            embedding=checkpoint.embedding_size,
            hidden=checkpoint.hidden_size,
            layers=checkpoint.num_hidden_layers,
            blocks=max(map(len, widths)),
            neurons=max(widths[1]),
            others=0,
            tied=masked,
        )
        others = max(0, checkpoint.num_parameters - plain.parameters)
        if new_head is not None and not any(checkpoint.has_head(head) for head in HEADS if head is not MASKED_LM):
            others += plain.hidden * (plain.hidden + new_head)
        return replace(plain, others=others)

    @property
    def _table(self) -> int:
        return self.words * self.embedding

    @property
    def _block_parameters(self) -> int:
        vectors = 9 * self.hidden + self.neurons
        return 4 * self.hidden**2 + 2 * self.hidden * self.neurons + vectors

    @property
    def parameters(self) -> int:
        """Parameters that are stored."""
        mapping = (self.embedding + 1) * self.hidden if self.embedding != self.hidden else 0
        return self._table + mapping + self.blocks * self._block_parameters + self.others

    def int8_bytes(self, int4_table: bool) -> int:
        """Bytes of the int8 file; measured files of eight geometries are within 3 % of it.

        Args:
            int4_table: Whether the table of tokens has 4 bits.
        """
        vectors, channels = 9 * self.hidden + self.neurons, 5 * self.hidden + self.neurons
        # Biases and norms stay in float, and each channel has a scale.
        nodes = _LAYER_BYTES + _SHARED_BYTES * (self.blocks < self.layers)
        layers = self.blocks * (3 * vectors + 4 * channels) + self.layers * nodes
        head = 8 * self.words if self.tied else 0
        saved = int((1 - INT4_BYTES) * self._table) if int4_table and not self.tied else 0
        return self.parameters + layers + head + _GRAPH_BYTES - saved

    def latency_ms(self, tokens: int) -> float:
        """Milliseconds of one row on one core, as far as that can be said without one.

        Args:
            tokens: Tokens of the row.
        """
        products = 2 * (4 * self.hidden**2 + 2 * self.hidden * self.neurons) + 4 * tokens * self.hidden
        return 1e3 * self.layers * tokens * products / OPERATIONS_PER_S


def most(fits: Callable[[int], bool], low: int, high: int) -> int | None:
    """The largest whole number of a range that fits; None if none does. All below one that fits do."""
    if not fits(low):
        return None
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low
