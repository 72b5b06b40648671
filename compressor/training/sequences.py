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
        masking: Which masking they are under, which decides how texts are cut into pairs.
    """

    path: Path
    chosen: Ints
    length: int
    pad_token_id: int
    masking: int = 0

    def __len__(self) -> int:
        return len(self.chosen)

    @property
    def pairs(self) -> bool:
        """Whether each is a pair of segments."""
        return sentence_pairs.order_file(self.path).is_file()

    def tokens(self, rows: Ints) -> Ints:
        """Token ids `(batch, length)`."""
        return self.segments(rows)[0] if self.pairs else self._of(self.path, rows)

    def under(self, masking: int) -> Sequences:
        """The sequences under a masking.

        Of pairs, maskings 2k and 2k + 1 cut each text at the same end of a sentence, and have it in both orders: what
        it is about then tells nothing of its order. The next two cut it elsewhere.
        """
        return replace(self, masking=self.masking + masking)

    def segments(self, rows: Ints) -> tuple[Ints, Ints, Ints]:
        """Pairs of segments.

        Returns:
            Token ids `(batch, length)`; where the second segment begins, `(batch,)`; and 0 if the segments are in order
            or 1 if they are swapped, `(batch,)`.
        """
        tokens, second = self._of(self.path, rows), self._of(sentence_pairs.second_file(self.path), rows)
        order = self._of(sentence_pairs.order_file(self.path), rows)
        draw, turned = divmod(self.masking, 2)
        if draw:
            ends = gather(sentence_pairs.ends_file(self.path), self.chosen[rows])
            tokens, second = sentence_pairs.redrawn(tokens, second, order, ends, self.pad_token_id, draw)
        if turned:
            tokens = sentence_pairs.turned(tokens, second, self.pad_token_id)
            # [CLS] A [SEP] B [SEP] has as many tokens as [CLS] B [SEP] A [SEP], and B begins where A's length says.
            second = (tokens != self.pad_token_id).sum(axis=1) - second + 1
            order = 1 - order
        return tokens, second, order

    def _of(self, path: Path, rows: Ints) -> Ints:
        return gather(path, self.chosen[rows]).astype(np.int64)
