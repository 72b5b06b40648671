"""The cosine of two vectors of one text, by which answers that are vectors are compared."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def cosines(given: NDArray[Any], expected: NDArray[Any]) -> NDArray[np.float64]:
    """Cosine of each pair of vectors, `(…,)`; 1 of equal ones, even if all of their numbers are 0, and -1 of no number.

    Args:
        given: Vectors `(…, dimensions)`.
        expected: The vectors that they are compared with. `(…, dimensions)`
    """
    a, b = given.astype(np.float64), expected.astype(np.float64)
    same = (a == b).all(axis=-1).astype(np.float64)
    with np.errstate(invalid="ignore", over="ignore"):
        lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
        cosine = np.divide((a * b).sum(axis=-1), lengths, out=same, where=lengths != 0)
    return np.asarray(np.nan_to_num(cosine, nan=-1.0))
