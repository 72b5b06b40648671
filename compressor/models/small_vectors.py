"""Smaller forms of vectors, for an index: their first numbers, normalised again, as 8-bit integers or as bits.

A form has a name, which metrics have in brackets: `128`, `int8`, `binary`, `128,int8`, `128,binary`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Precision = Literal["int8", "binary"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

LARGEST_INTEGER = 127
BITS = 8
"""Numbers that a byte of `binary` holds, the first in its highest bit, as `numpy.packbits` puts them."""
_REACH = 8.0
"""What integers reach to, in root mean squares of the numbers of a vector. Numbers of trained encoders' vectors are
near a normal distribution, and hardly any is beyond; the step between two integers is then 1/16 of the root mean
square, and the cosine with the float vector 0.9998."""


@dataclass(frozen=True)
class SmallerForm:
    """A smaller form of vectors.

    Attributes:
        dimensions: How many of the first numbers; None for all.
        precision: What they become; None where they stay floats.
    """

    dimensions: int | None = None
    precision: Precision | None = None

    @property
    def name(self) -> str:
        """The name in brackets of metrics."""
        return ",".join(str(part) for part in (self.dimensions, self.precision) if part is not None)

    def of(self, vectors: Floats) -> Floats:
        """Vectors in this form, whose products put pairs in the order of their similarity. `(rows, numbers)`.

        Of integers the product times `int8_scale` squared is the cosine. Of bits, which are 1 and -1 here, it is the
        number of equal bits minus that of others: the order of Hamming distances. Rows that are not numbers stay so.

        Args:
            vectors: `(rows, dimensions)`.
        """
        found = normalised(vectors[:, : self.dimensions])
        if self.precision == "int8":
            return integers(found)
        if self.precision == "binary":
            return np.where(np.isnan(found), np.float32(np.nan), np.where(found > 0, np.float32(1), np.float32(-1)))
        return found


def forms(dimensions: Sequence[int], precisions: Sequence[Precision]) -> tuple[SmallerForm, ...]:
    """Every form with one of these numbers of dimensions, or all, and one of these precisions, or float."""
    every = [SmallerForm(count, kind) for count in (None, *dimensions) for kind in (None, *precisions)]
    return tuple(form for form in every if form.name)


def named(name: str) -> SmallerForm | None:
    """The form of a name; None if there is none."""
    first, comma, last = name.partition(",")
    for count, kind in ((first, last), (first, None), (None, first)):
        if bool(comma) != (count is not None and kind is not None):
            continue
        if (count is None or (count.isascii() and count.isdigit() and int(count) > 0)) and kind in (None, *PRECISIONS):
            return SmallerForm(None if count is None else int(count), next((p for p in PRECISIONS if p == kind), None))
    return None


def normalised(vectors: Floats) -> Floats:
    """Vectors of length 1; zeros stay zeros. `(rows, dimensions)`."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    found: Floats = np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths != 0)
    return found


def int8_scale(dimensions: int) -> float:
    """What an integer counts for in vectors of length 1: the same for all numbers and all texts.

    A vector of length 1 tells the root mean square of its numbers, 1/sqrt(dimensions), so that no texts are needed to
    find a scale: models of one number of dimensions share it, and an index outlives a model that is trained again.

    Source: symmetric uniform quantization, Jacob et al. 2018, section 2.1, with a zero point of 0.
    """
    return min(1.0, _REACH / math.sqrt(dimensions)) / LARGEST_INTEGER


def integers(vectors: Floats) -> Floats:
    """Vectors of length 1 as whole numbers from -127 to 127, still of a float type. `(rows, dimensions)`."""
    scale = np.float32(int8_scale(vectors.shape[1]))
    found: Floats = np.clip(np.rint(vectors / scale), -LARGEST_INTEGER, LARGEST_INTEGER)
    return found
