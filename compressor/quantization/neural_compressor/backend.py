"""neural-compressor, an extra, as the library that quantizes.

Its algorithms choose the integers, the scales and the ranges; they are written into the graph that every other backend
starts from, so that there is one way to export and one to store. `autotune` is its own too: it goes through
configurations until one costs no more than the recipe allows, and scores the very files that would ship.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from compressor.errors import StageError
from compressor.host.machine import DISTRIBUTION
from compressor.training.context import Context, Facts

if TYPE_CHECKING:
    import torch

    from compressor.quantization.sensitivity import GraphQuantizer


LIBRARIES = ("neural-compressor", "torchao")
"""Distributions that it needs: its observers are torchao's."""

INSTALL = f"pip install '{DISTRIBUTION}[neural-compressor]'"

_SLACK = 1e-9
"""Scores are sums of floats: a loss that is the limit itself counts as held."""


@dataclass(frozen=True)
class Rung:
    """A configuration to try.

    Attributes:
        what: What it is, in words, for the report.
        config: One of neural-compressor's.
    """

    what: str
    config: Any


class Algorithm(Protocol):
    """One of neural-compressor's algorithms, prepared for a graph."""

    model: torch.nn.Module
    """The module that neural-compressor quantizes; a copy."""
    example_inputs: tuple[torch.Tensor, ...] | None
    """Example inputs for tracing."""

    def calibrate(self, model: torch.nn.Module) -> None:
        """Runs the training rows through a model with observers."""

    def first(self) -> Rung:
        """The settings of the recipe."""

    def others(self) -> list[Rung]:
        """Further settings to try, the fastest first."""

    def write(self, model: torch.nn.Module, target: Path) -> list[str]:
        """Writes the weights and scales of a quantized model as an .onnx file.

        Returns:
            Names of the matrices that stay as they were, or get more bits.
        """


Make = Callable[["GraphQuantizer", Context], tuple[Algorithm, Facts]]
"""Prepares an algorithm for a graph; returns it with the facts for the report."""


@dataclass(frozen=True)
class Limit:
    """An accuracy budget.

    Attributes:
        max_drop: Most that the score may lose.
        score: Scores an .onnx file on the rows that choose; more is better.
        whole: The score of the float file.
    """

    max_drop: float
    score: Callable[[Path], float]
    whole: float


def check_installed() -> None:
    """Refuses to go on without the library.

    Raises:
        StageError: It is not installed, or not wholly.
    """
    try:
        import neural_compressor.torch.quantization  # noqa: F401 -- to see that it can be
    except ImportError as error:
        what = f"backend: neural_compressor needs neural-compressor, and it cannot be imported ({error})"
        raise StageError(f"{what}; {INSTALL}, or use backend: onnxruntime") from error


def write(algorithm: Algorithm, target: Path) -> Facts:
    """Quantizes as the recipe asks.

    Args:
        algorithm: The algorithm.
        target: The quantized .onnx file.
    """
    from neural_compressor.torch.quantization import quantize

    rung = algorithm.first()
    model = quantize(
        algorithm.model, rung.config, run_fn=algorithm.calibrate, example_inputs=algorithm.example_inputs, inplace=True
    )
    algorithm.write(model, target)
    return {"algorithm": rung.what}


def tune(algorithm: Algorithm, target: Path, limit: Limit) -> Facts:
    """Quantizes with the first configuration that costs no more than the limit.

    Args:
        algorithm: The algorithm.
        target: The quantized .onnx file.
        limit: What it may cost.

    Raises:
        StageError: All of them cost more.
    """
    from neural_compressor.torch.quantization import TuningConfig, autotune

    ladder = [algorithm.first(), *algorithm.others()]
    scores: list[float] = []

    def evaluate(model: torch.nn.Module) -> float:
        # Its loss is a share of the float model's score; with that at 1, the share is the difference.
        if not getattr(model, "is_quantized", False):
            return 1.0
        algorithm.write(model, target)
        scores.append(limit.score(target))
        return 1.0 + scores[-1] - limit.whole

    tuning = TuningConfig([rung.config for rung in ladder], tolerable_loss=limit.max_drop + _SLACK)
    model = autotune(
        algorithm.model, tuning, evaluate, run_fn=algorithm.calibrate, example_inputs=algorithm.example_inputs
    )
    tried = [{"what": rung.what, "score": score} for rung, score in zip(ladder, scores, strict=False)]
    if max(scores) < limit.whole - limit.max_drop - _SLACK:
        what = f"accuracy: none of neural-compressor's {len(scores)} configurations loses at most {limit.max_drop}"
        best = f"the best scores {max(scores):.4f}, the float model {limit.whole:.4f}"
        raise StageError(f"{what}: {best}; allow a larger max_drop, or use backend: onnxruntime")
    exceptions = algorithm.write(model, target)
    return {"algorithm": tried[-1]["what"], "float_score": limit.whole, "tried": tried, "exceptions": exceptions}


def with_exceptions(config: Any, names: Sequence[str], exception: Any) -> Any:
    """A configuration of neural-compressor's, and another one for some matrices."""
    config = copy.deepcopy(config)
    for name in names:
        config.set_local(name, exception)
    return config


SHARES = (1 / 16, 1 / 8, 1 / 4, 1 / 2)
"""Of the matrices, how many get an exception, one try after the other."""


def worst(degradation: dict[str, float], share: float) -> list[str]:
    """The names with the greatest degradation, at least one."""
    ranked = sorted(degradation, key=lambda name: (-degradation[name], name))
    return ranked[: max(1, round(share * len(ranked)))]
