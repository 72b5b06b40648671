"""Sequences of a corpus: those that are trained on, and pairs of segments in either order."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compressor.data.corpus import sentence_pairs
from compressor.files import gather

Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Sequences:
    """Packed sequences of a corpus, and those of them that are trained on.

    Attributes:
        path: The .npy file `(all, length)`.
        chosen: Which rows. `(rows,)`
        length: Tokens of a sequence.
        pad_token_id: Fills up pairs, and the only sequence of a tiny corpus.
        turned: Whether pairs are the other way round: those in order swapped, and swapped ones in order.
    """

    path: Path
    chosen: Ints
    length: int
    pad_token_id: int
    turned: bool = False

    def __len__(self) -> int:
        return len(self.chosen)

    @property
    def pairs(self) -> bool:
        """Whether each is a pair of segments."""
        return sentence_pairs.order_file(self.path).is_file()

    def tokens(self, rows: Ints) -> Ints:
        """Token ids `(batch, length)`."""
        tokens = gather(self.path, self.chosen[rows]).astype(np.int64)
        return sentence_pairs.turned(tokens, self._second(rows), self.pad_token_id) if self.turned else tokens

    def under(self, masking: int) -> Sequences:
        """The sequences under a masking: pairs are the other way round under every other one.

        A text then comes in both orders, and tells nothing of its order by what it is about.
        """
        return replace(self, turned=self.turned != bool(masking % 2)) if self.pairs else self

    def order(self, rows: Ints) -> Ints:
        """Of pairs, 0 if the segments are in order and 1 if they are swapped. `(batch,)`."""
        order = gather(sentence_pairs.order_file(self.path), self.chosen[rows]).astype(np.int64)
        return 1 - order if self.turned else order

    def second(self, rows: Ints) -> Ints:
        """Of pairs, where the second segment begins. `(batch,)`."""
        if not self.turned:
            return self._second(rows)
        # [CLS] A [SEP] B [SEP] has as many tokens as [CLS] B [SEP] A [SEP], and B begins where A's length says.
        used: Ints = (gather(self.path, self.chosen[rows]) != self.pad_token_id).sum(axis=1)
        return used - self._second(rows) + 1

    def _second(self, rows: Ints) -> Ints:
        return gather(sentence_pairs.second_file(self.path), self.chosen[rows]).astype(np.int64)
