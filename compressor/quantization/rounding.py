"""How floats become 8-bit integers: the one rule that files, and training that gets used to it, go by."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]


LARGEST_BIAS = 1 << 30
"""Of a bias in int32, so that the sum that it is added to has room."""


def weight_limit(reduce_range: bool) -> int:
    """The largest integer of a weight: 127, or 63 where the products of 8 bits could saturate."""
    return 63 if reduce_range else 127


def weights(values: Floats, axis: int | None, reduce_range: bool = False) -> tuple[NDArray[np.int8], Floats]:
    """Symmetric int8: `values` is about `integers * scale`.

    Args:
        values: A matrix.
        axis: The axis that has a scale for each of its entries; None for one scale.
        reduce_range: 7 bits.

    Returns:
        The integers, and the scales: `(entries of the axis,)`, or `()`.

    Source: Wu et al. 2020, "Integer quantization for deep learning inference", section 3.1.2 (scale quantization).
    """
    limit = weight_limit(reduce_range)
    others = None if axis is None else tuple(other for other in range(values.ndim) if other != axis % values.ndim)
    largest = np.abs(values).max(axis=others, keepdims=axis is not None)
    scale = np.where(largest > 0, largest / np.float32(limit), np.float32(1)).astype(np.float32)
    integers = np.clip(np.rint(values / scale), -limit, limit).astype(np.int8)
    return integers, scale.reshape(()) if axis is None else scale.reshape(-1)


def activation(low: float, high: float) -> tuple[np.float32, np.uint8]:
    """Scale and zero point of uint8 values between two bounds; 0 is one of them exactly, since padding is 0.

    Source: Jacob et al. 2018, "Quantization and training of neural networks", sections 2.1 and 3.1.
    """
    low, high = min(low, 0.0), max(high, 0.0)
    scale = np.float32((high - low) / 255) if high > low else np.float32(1)
    return scale, np.uint8(np.clip(np.rint(-low / scale), 0, 255))
