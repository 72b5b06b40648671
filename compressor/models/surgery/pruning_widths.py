"""How many heads and neurons a pruned model keeps: whole numbers, without torch, so that recipes can be checked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from compressor.errors import StageError

NEURON_GROUP = 8
"""Neurons are kept in groups of this size: kernels work on vectors, and other widths are slower."""


@dataclass(frozen=True)
class Widths:
    """Heads and neurons of each pool.

    A pool is what competes to be kept: the heads or the neurons of one block, or with the scope `global` of all.

    Attributes:
        heads: Of each pool.
        neurons: Of each pool.
    """

    heads: tuple[int, ...]
    neurons: tuple[int, ...]


def pools(blocks: Sequence[int], scope: str) -> tuple[int, ...]:
    """Sizes of the pools of blocks of some sizes, for a scope of `layer` or `global`."""
    return (sum(blocks),) if scope == "global" else tuple(blocks)


def kept(count: int, share: float, group: int) -> int:
    """How many of so many stay when a share of them is removed, in whole groups; 0 where not one group stays."""
    return count if share == 0 else min(count, group * round(count * (1 - share) / group))


def after(heads: Sequence[int], neurons: Sequence[int], shares: tuple[float, float], scope: str) -> Widths:
    """Widths of blocks after pruning.

    Args:
        heads: Of each attention block.
        neurons: Of each feed-forward block.
        shares: Of the heads and of the neurons, to be removed.
        scope: `layer` or `global`.

    Raises:
        StageError: A block would be left without a head, or without eight neurons.
    """
    return Widths(_after("heads", heads, shares[0], 1, scope), _after("ffn", neurons, shares[1], NEURON_GROUP, scope))


def _after(key: str, blocks: Sequence[int], share: float, group: int, scope: str) -> tuple[int, ...]:
    found = tuple(kept(count, share, group) for count in pools(blocks, scope))
    least = pools([min(group, count) for count in blocks], scope)
    for count, left, needed in zip(pools(blocks, scope), found, least, strict=True):
        if left < needed:
            raise StageError(f"{key} is {share:g}: {too_much(count, needed, group)}")
    return found


def towards(now: Widths, goal: Widths, steps: int) -> Widths:
    """Widths after the next of some equal steps to a goal; the goal itself after the last step."""

    def next_to(pools: Sequence[int], goals: Sequence[int], group: int) -> tuple[int, ...]:
        ahead = [(pool - end) * (steps - 1) // (steps * group) for pool, end in zip(pools, goals, strict=True)]
        return tuple(end + group * groups for end, groups in zip(goals, ahead, strict=True))

    return Widths(next_to(now.heads, goal.heads, 1), next_to(now.neurons, goal.neurons, NEURON_GROUP))


def too_much(count: int, needed: int, group: int) -> str:
    """Message: a share is too large, and the largest that is allowed."""
    what = "one head" if group == 1 else "eight neurons"
    return f"of {count} it would not leave {what} in each layer; at most {max(0, 1 - needed / count):g}"
