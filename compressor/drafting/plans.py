"""Plans: what the stages of a draft leave of a model, from the mildest to the smallest."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from math import ceil

from compressor.drafting.sizes import Geometry, most
from compressor.drafting.target import Budget

_MARGIN = 1.03
"""Times an estimate that a file may have."""
_FEW_LAYERS = 4
"""Fewer are not halved unless the target asks for it."""
_FEW_TOKENS = 8000
"""Fewer are kept only where nothing else meets the target."""
_FACTORIZED = 128
"""Width of factorized embeddings. Source: Lan et al. 2019, "ALBERT", table 3."""
_BEYOND = 4.0
"""Times a latency that an estimate may be above it: cores are that different."""


@dataclass(frozen=True)
class Reduction:
    """What is left of a model.

    Attributes:
        layers: Layers.
        half_neurons: Whether half of the feed-forward neurons go.
        share: Whether the layers share one set of weights.
        embedding: Width of the embeddings where they are factorized; None where not.
        keep: Tokens that stay; None for all.
        int4_table: Whether the table of tokens has 4 bits.
    """

    layers: int
    half_neurons: bool = False
    share: bool = False
    embedding: int | None = None
    keep: int | None = None
    int4_table: bool = False

    def geometry(self, given: Geometry) -> Geometry:
        """The sizes of what is left of a model of the given ones."""
        shared = min(given.blocks, self.layers)
        return replace(
            given,
            layers=self.layers,
            blocks=1 if self.share else shared,
            neurons=ceil(given.neurons / 2 / 8) * 8 if self.half_neurons else given.neurons,
            embedding=self.embedding or given.embedding,
            words=self.keep or given.words,
        )

    def size_bytes(self, given: Geometry) -> int:
        """Bytes of the int8 file, estimated, with what the estimate may be wrong by."""
        return int(self.geometry(given).int8_bytes(self.int4_table) * _MARGIN)

    def retention(self, whole: int) -> float:
        """Share of the teacher's quality that is reasonable to ask for.

        Args:
            whole: Layers of the teacher.
        """
        lost = 0.02 * (self.layers < whole) + 0.05 * (self.layers <= _quarter(whole) < whole)
        lost += 0.05 * self.half_neurons + 0.05 * (self.share or self.embedding is not None)
        return round(0.97 - lost, 2)


@dataclass(frozen=True)
class Limits:
    """What bounds the plans of a draft.

    Attributes:
        geometry: The sizes of the checkpoint.
        least_tokens: The fewest tokens that its tokenizer can be trimmed to; None where it cannot.
        tokens: Tokens of a row while it is timed.
    """

    geometry: Geometry
    least_tokens: int | None
    tokens: int


def ladder(limits: Limits, target: Budget) -> Iterator[Reduction]:
    """Plans that meet a target as far as can be estimated, those first that take least from the model.

    Those that would be slower, but not by more than cores differ, come last.

    Args:
        limits: The checkpoint's.
        target: The target; without limits, half of the layers in int8.
    """
    every = limits.geometry.layers
    half = max(1, every // 2)
    if target == Budget():
        yield Reduction(half if every >= _FEW_LAYERS else every)
        yield Reduction(every)
        return
    latencies = [target.latency_ms] if target.latency_ms is None else [target.latency_ms, _BEYOND * target.latency_ms]
    for plan, latency in ((plan, latency) for latency in latencies for plan in _steps(limits, target.size_bytes)):
        shallower = _fast_enough(plan, limits, latency)
        if shallower is not None and _small_enough(shallower, limits, target.size_bytes):
            yield shallower


def _steps(limits: Limits, size: int | None) -> Iterator[Reduction]:
    """Plans in the order in which they are tried, with as many tokens as the size allows."""
    given = limits.geometry
    every, half = given.layers, max(1, given.layers // 2)
    width = _FACTORIZED if given.embedding > _FACTORIZED else None
    shared = Reduction(every, share=given.blocks > 1, embedding=width)
    plain = _in_both_tables([Reduction(every), Reduction(half)], given)
    shallow = _in_both_tables([Reduction(half, half_neurons=True), shared, replace(shared, layers=half)], given)
    few = Reduction(_quarter(every))
    shallowest = _in_both_tables([few, replace(few, half_neurons=True)], given) if few.layers < half else []
    for plans, least in (
        *((plain, _FEW_TOKENS), (shallow, _FEW_TOKENS), (plain[::-1], 0), (shallow[::-1], 0)),
        *((shallowest, _FEW_TOKENS), (shallowest[::-1], 0)),
    ):
        if least:
            yield from plans
        if size is not None:
            small = (plan for plan in plans if plan.int4_table)  # 4 bits cost less than missing tokens
            yield from filter(None, (_trimmed(plan, limits, size, least) for plan in small))


def _in_both_tables(plans: Sequence[Reduction], given: Geometry) -> list[Reduction]:
    """Each plan with a table of 8 bits, then of 4 where the head does not use it."""
    return [replace(plan, int4_table=int4) for plan in plans for int4 in ((False,) if given.tied else (False, True))]


def _trimmed(plan: Reduction, limits: Limits, size: int, least: int) -> Reduction | None:
    """The plan with the tokens for which there is room, at least so many; None where that is not fewer or too few."""
    given = limits.geometry
    if limits.least_tokens is None:
        return None
    low = max(limits.least_tokens, min(least, given.words))
    if low >= given.words:
        return None
    kept = most(lambda count: replace(plan, keep=count).size_bytes(given) <= size, low, given.words)
    return None if kept is None or kept == given.words else replace(plan, keep=kept)


def _depths(layers: int) -> Iterator[int]:
    yield from range(layers, _quarter(layers) - 1, -1)


def _quarter(layers: int) -> int:
    """The fewest layers that a plan leaves."""
    return max(1, layers // 4)


def _fast_enough(plan: Reduction, limits: Limits, latency: float | None) -> Reduction | None:
    """The plan with as many layers as a latency allows; None if a quarter of them are too many."""
    for layers in _depths(plan.layers):
        shallower = replace(plan, layers=layers)
        if latency is None or shallower.geometry(limits.geometry).latency_ms(limits.tokens) <= latency:
            return shallower
    return None


def _small_enough(plan: Reduction, limits: Limits, size: int | None) -> bool:
    return size is None or plan.size_bytes(limits.geometry) <= size


def smallest(limits: Limits, fast: bool) -> list[Reduction]:
    """Every plan, with as few tokens as there can be, the smallest file first.

    Args:
        limits: The checkpoint's.
        fast: With as few layers as there can be, the fastest first.
    """
    given = limits.geometry
    found = [replace(plan, layers=min(_depths(plan.layers)) if fast else plan.layers) for plan in _steps(limits, None)]
    if limits.least_tokens is not None:
        found += [replace(plan, keep=limits.least_tokens) for plan in found if plan.int4_table]
    if fast:
        return sorted(found, key=lambda plan: plan.geometry(given).latency_ms(limits.tokens))
    return sorted(found, key=lambda plan: plan.size_bytes(given))
