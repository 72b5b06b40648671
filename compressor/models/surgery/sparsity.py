"""Matrices in which many weights are zero: which of them, and when."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from compressor.models.convert import layer_matrices

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def matrices(model: PreTrainedModel) -> list[torch.Tensor]:
    """The weights that may become zero: the matrices of the layers, each once; they are the model's own."""
    return [module.weight.data for module in layer_matrices(model) if isinstance(module, torch.nn.Linear)]


def scheduled(done: float, final: float) -> float:
    """The share of zeros after some of the time: fast at first, while there is much to choose from, and slow at last.

    Args:
        done: Share of the time in which zeros are made, in [0, 1].
        final: The share of zeros at its end.

    Source: Zhu & Gupta 2017, "To prune, or not to prune" (arXiv 1710.01878), eq. 1, from no zeros on.
    """
    return final * (1 - (1 - done) ** 3)


def largest(weights: Sequence[torch.Tensor], sparsity: float, scope: str) -> list[torch.Tensor]:
    """Masks that keep the weights of largest magnitude. True where a weight stays; of the weights' shapes.

    Args:
        weights: The matrices.
        sparsity: Share of zeros, in [0, 1).
        scope: `layer`: of each matrix; `global`: of all of them together.
    """
    sizes = [weight.abs() for weight in weights]
    pools = [torch.cat([size.flatten() for size in sizes])] if scope == "global" else [s.flatten() for s in sizes]
    limits = [_limit(pool, round(sparsity * pool.numel())) for pool in pools]
    limits = limits * len(sizes) if scope == "global" else limits
    return [size > limit for size, limit in zip(sizes, limits, strict=True)]


def _limit(sizes: torch.Tensor, zeros: int) -> float:
    """The largest magnitude of so many smallest ones; below all of them for none."""
    return float(sizes.kthvalue(zeros).values) if zeros else -1.0


def in_pattern(weights: Sequence[torch.Tensor], kept: int, of: int) -> list[torch.Tensor]:
    """Masks that keep so many of every few neighbouring weights. True where a weight stays; of the weights' shapes.

    Args:
        weights: The matrices, `(out, in)`; groups go along the inputs, the last may be smaller.
        kept: N, how many weights of largest magnitude stay in each group.
        of: M, weights of a group.

    Source: Mishra et al. 2021, "Accelerating Sparse Deep Neural Networks" (arXiv 2104.08378), sections 3 and 4: pruned
        once, then trained with fixed masks.
    """
    masks = []
    for weight in weights:
        groups = torch.nn.functional.pad(weight.abs(), (0, -weight.shape[1] % of), value=-1.0)
        groups = groups.reshape(len(weight), -1, of)
        mask = torch.zeros_like(groups, dtype=torch.bool)
        mask.scatter_(2, groups.topk(kept, dim=2).indices, True)
        masks.append(mask.reshape(len(weight), -1)[:, : weight.shape[1]])
    return masks
