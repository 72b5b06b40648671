"""Helpers of the training benchmarks: passes in turn, useful arithmetic, the machine's peak, and the table."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from transformers import PreTrainedModel

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
_PEAK_SIZE, _PEAK_TRIES = 1024, 20
_BACKWARD = 3  # forward and backward cost three forwards: two products for each one


@dataclass(frozen=True)
class Pass:
    """One pass of one variant over one round's rows.

    Attributes:
        seconds: How long it took.
        tokens: Real tokens of the rows, without padding.
        padding: Share of padding among the tokens computed; None if unknown.
        flops: Useful arithmetic, see `forward_flops`.
        precision: `fp32` or `bf16`.
    """

    seconds: float
    tokens: int
    padding: float | None
    flops: float
    precision: str

    @property
    def rate(self) -> float:
        """Tokens/s."""
        return self.tokens / self.seconds


Variant = Callable[[int], Pass]
"""Does one pass over the rows of a round."""


def forward_flops(model: PreTrainedModel, lengths: NDArray[np.int64], head_tokens: int) -> float:
    """Useful arithmetic of a forward pass: its matrix products, without padding, embeddings and anything elementwise.

    2 for each weight of the layers' matrices and real token, 2 for each weight of the head's and token that the head
    reads, and 4 * hidden * n for each layer and token of a row of n tokens: the two products of attention.

    Args:
        model: Any BERT or DistilBERT.
        lengths: Real tokens of each row. `(rows,)`
        head_tokens: Tokens that go through the head.
    """
    layers = head = 0
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear):
            layers += module.weight.numel() * (".layer." in name)
            head += module.weight.numel() * (".layer." not in name)
    attention = 4 * model.config.num_hidden_layers * model.config.hidden_size * int((lengths**2).sum())
    return 2.0 * (layers * int(lengths.sum()) + head * head_tokens) + attention


def training_flops(model: PreTrainedModel, lengths: NDArray[np.int64], head_tokens: int) -> float:
    """Useful arithmetic of a forward and a backward pass; see `forward_flops`."""
    return _BACKWARD * forward_flops(model, lengths, head_tokens)


def gemm_peak(precision: str) -> float:
    """The fastest of several products of square matrices, in FLOP/s, with torch's own number of threads."""
    generator = torch.Generator().manual_seed(0)
    left, right = (torch.randn(_PEAK_SIZE, _PEAK_SIZE, generator=generator).to(_DTYPES[precision]) for _ in range(2))
    fastest = float("inf")
    for _ in range(_PEAK_TRIES):
        start = time.perf_counter()
        torch.mm(left, right)
        fastest = min(fastest, time.perf_counter() - start)
    return float(2 * _PEAK_SIZE**3 / fastest)


def in_turn(
    first: dict[str, Variant], variants: dict[str, Variant], rounds: int
) -> tuple[dict[str, list[Pass]], dict[str, float]]:
    """Runs every variant once in each round, in alternating order.

    Args:
        first: Variants whose results the others read; they come first in every round.
        variants: The others.
        rounds: How many rounds are counted, from 1 on; round 0 is a warm-up and is not.

    Returns:
        The passes of each variant, and the machine's peak in each precision: the best of all rounds, in FLOP/s.
    """
    passes: dict[str, list[Pass]] = {name: [] for name in (*first, *variants)}
    peaks = dict.fromkeys(_DTYPES, 0.0)
    for index in range(rounds + 1):
        peaks = {precision: max(best, gemm_peak(precision)) for precision, best in peaks.items()}
        for name in (*first, *(variants if index % 2 else reversed(variants))):
            made = (first | variants)[name](index)
            if index:
                passes[name].append(made)
    return passes, peaks


def speed(mine: list[Pass], others: list[Pass]) -> float:
    """How many times as fast a variant is as another: the median of the rounds' ratios of tokens/s."""
    return median(one.rate / other.rate for one, other in zip(mine, others, strict=True))


def table(
    passes: Mapping[str, list[Pass]],
    peaks: Mapping[str, float],
    *,
    plain: str,
    alone: str,
    one_off: Mapping[str, object],
) -> str:
    """The passes as a Markdown table.

    Args:
        passes: Those of each variant.
        peaks: The machine's, in FLOP/s.
        plain: The variant that speed is compared with.
        alone: The variant that trains without a teacher.
        one_off: Variants that are not compared, since they are done once and not in every epoch.
    """
    lines = [
        "| variant | precision | tokens/s | padding | against the plain loop "
        "| time against no teacher | useful GFLOP/s | share of GEMM peak |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, made in passes.items():
        precision = made[0].precision
        rate = median(one.flops / one.seconds for one in made)
        padding = [one.padding for one in made if one.padding is not None]
        compared = ["–", "–"]
        if name not in one_off:
            compared = [f"{speed(made, passes[plain]):.2f}x", f"{speed(passes[alone], made):.2f}x"]
        cells = [
            name,
            precision,
            f"{median(one.rate for one in made):,.0f}",
            f"{1e2 * median(padding):.0f} %" if padding else "–",
            *compared,
            f"{rate / 1e9:.0f}",
            f"{1e2 * rate / peaks[precision]:.0f} %",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)
