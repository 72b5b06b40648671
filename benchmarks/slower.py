"""Makes a copy of an ONNX file that is slower by a known share: same answers, with extra work."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import numpy as np

_WIDTH, _PRODUCTS = 64, 4
_NOTHING = 1e-30
"""Weight of the extra work in the answers: too small to change them, but not zero, so that it is not optimised away."""
_FIRST_GUESSES, _REFINED = (32, 64), 3


def write(source: Path, target: Path, rows: int) -> None:
    """Writes an .onnx file whose first output waits for products of matrices that depend on the input.

    Args:
        source: The .onnx file.
        target: The slower one.
        rows: Of the matrix that is multiplied: the more, the slower.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(str(source))
    graph, answer = model.graph, model.graph.output[0].name
    (maker,) = (node for node in graph.node if answer in node.output)
    maker.output[list(maker.output).index(answer)] = "extra.before"
    # A rotation: what it multiplies stays finite, however often.
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(_WIDTH, _WIDTH)))[0]
    constants = {
        "extra.ones": np.ones((rows, _WIDTH), np.float32),
        "extra.rotation": rotation.astype(np.float32),
        "extra.nothing": np.array(_NOTHING, np.float32),
    }
    graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in constants.items())
    names = [f"extra.{index}" for index in range(_PRODUCTS + 1)]
    graph.node.extend(
        [
            helper.make_node("Cast", [graph.input[0].name], ["extra.ids"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMax", ["extra.ids"], ["extra.seed"], keepdims=0),
            helper.make_node("Add", ["extra.ones", "extra.seed"], [names[0]]),
            *(helper.make_node("MatMul", [given, "extra.rotation"], [made]) for given, made in pairwise(names)),
            helper.make_node("ReduceMax", [names[-1]], ["extra.largest"], keepdims=0),
            helper.make_node("Mul", ["extra.largest", "extra.nothing"], ["extra.weighed"]),
            helper.make_node("Add", ["extra.before", "extra.weighed"], [answer]),
        ]
    )
    onnx.save(model, str(target))


def calibrate(source: Path, target: Path, wanted: float, compared: Callable[[Path], float]) -> None:
    """Writes a file that takes so many times as long as another.

    Args:
        source: The .onnx file.
        target: The slower one.
        wanted: Such as 1.1.
        compared: How many times as long a file takes as the source.
    """
    tried: list[tuple[int, float]] = []
    for guess in range(len(_FIRST_GUESSES) + _REFINED):
        rows = _FIRST_GUESSES[guess] if guess < len(_FIRST_GUESSES) else _solved(tried, wanted)
        write(source, target, rows)
        tried.append((rows, compared(target)))
    write(source, target, _solved(tried, wanted))


def _solved(tried: list[tuple[int, float]], wanted: float) -> int:
    """Rows for a ratio, from a line through the ratios that were found, the last ones weighing most."""
    rows, ratios = (np.array(values, dtype=np.float64) for values in zip(*tried, strict=True))
    slope, offset = np.polyfit(rows, ratios, 1, w=1 / (1e-3 + np.abs(ratios - wanted)))
    return max(1, round((wanted - offset) / slope)) if slope > 0 else int(2 * rows.max())
