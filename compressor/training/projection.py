"""Learned maps from a student's width to its teacher's: inside the student while it trains, and not saved."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional

from compressor.errors import StageError
from compressor.training import processes

if TYPE_CHECKING:
    from transformers import PreTrainedModel

STATES, VECTORS = "distillation_projection", "distillation_vector_projection"
"""Names of the maps inside a student: of hidden states, and of vectors of sentences."""
_WHAT = {STATES: ("hidden states", "alpha_cosine"), VECTORS: ("vectors", "alpha_soft")}


def add(student: PreTrainedModel, name: str, width: int, teacher: int) -> None:
    """Gives a student a learned projection, if its teacher is wider or narrower.

    Args:
        student: The student, changed in place.
        name: `STATES` or `VECTORS`.
        width: Numbers of what it has.
        teacher: Numbers of what its teacher has.

    Raises:
        StageError: Several processes train: they would not agree on a projection, which is outside of the student's
            own computation.

    Source: Jiao et al. 2020, "TinyBERT", eq. 8: one matrix for all layers. Of vectors, the same.
    """
    if width == teacher:
        return
    if processes.count() > 1:
        what, key = _WHAT[name]
        raise StageError(
            f"the student's {what} have {width} numbers and the teacher's {teacher}: {what} of another width are "
            f"learned in one process only; run without torchrun, or set {key}: 0"
        )
    student.add_module(name, torch.nn.Linear(width, teacher, bias=False))


def remove(student: PreTrainedModel) -> None:
    """Takes the projections off a student that is trained."""
    for name in _WHAT:
        if hasattr(student, name):
            delattr(student, name)


def there(model: torch.nn.Module, name: str) -> bool:
    """Whether a model, maybe wrapped, has a projection."""
    return hasattr(getattr(model, "module", model), name)


def project(model: torch.nn.Module, name: str, values: torch.Tensor) -> torch.Tensor:
    """States or vectors in the teacher's width, or as they are if that is their own. `(items, teacher's width)`.

    Args:
        model: The student, maybe wrapped.
        name: `STATES` or `VECTORS`.
        values: `(items, width)`; of fewer numbers than the student has, as its first ones.
    """
    projection = getattr(getattr(model, "module", model), name, None)
    return values if projection is None else functional.linear(values, projection.weight[:, : values.shape[-1]])
