"""Fewer numbers in a sentence encoder's vectors: directions that are kept, folded into its last dense layer."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from compressor.errors import StageError
from compressor.models.sentence_embedding import KEY, SentenceEmbedding
from compressor.models.sentence_encoder import DENSE

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def principal_directions(vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """The directions along which vectors are longest, in order, and the share of their squared length along each.

    The mean of the vectors is not taken off first. Cosines are angles at the origin: with all directions they stay as
    they are, and another origin, which is that of the texts at hand, would change them.

    Args:
        vectors: Of length 1, `(texts, dimensions)`.

    Returns:
        Rows of length 1 at right angles to each other `(dimensions, dimensions)`, and shares `(dimensions,)`.

    Source: Jolliffe 2002, "Principal Component Analysis", section 14.2.3, uncentred; Hotelling 1933.
    """
    exact = vectors.double()
    values, columns = torch.linalg.eigh(exact.T @ exact / len(exact))
    rows = columns.flip(1).T
    # A direction is as good as its opposite: that of the largest number decides, on every machine.
    signs = rows.gather(1, rows.abs().argmax(dim=1, keepdim=True)).sign()
    shares = values.flip(0).clamp(min=0)
    return (rows * signs).float(), (shares / shares.sum()).float()


def first_directions(dimensions: int, count: int) -> torch.Tensor:
    """Those of the first numbers. `(count, dimensions)`."""
    return torch.eye(dimensions)[:count]


def reduce_vectors(model: PreTrainedModel, directions: torch.Tensor) -> PreTrainedModel:
    """Has a sentence encoder give what its vectors are along some directions, normalised again if they were.

    A dense layer `x -> Ax + c` becomes `x -> WAx + Wc`; where there is none, it is `W`.

    Args:
        model: The sentence encoder, changed in place.
        directions: W: rows of length 1 at right angles to each other. `(count, dimensions)`

    Raises:
        StageError: Behind the dense layer is a tanh, and W does not just choose numbers.
    """
    how: SentenceEmbedding = model.embedding
    chooses = bool(((directions == 0) | (directions == 1)).all())
    if how.dense is not None and how.activation != "identity" and not chooses:
        raise StageError("the dense layer ends in tanh, and a rotation behind it cannot be folded into it")
    width = int(model.config.hidden_size)
    dense: Any = torch.nn.Linear(width, len(directions))
    with torch.no_grad():
        old = getattr(model, DENSE) if how.dense is not None else None
        exact = directions.double()
        dense.weight.copy_(directions if old is None else exact @ old.weight.double())
        dense.bias.copy_(torch.zeros(len(directions)) if old is None else exact @ old.bias.double())
    setattr(model, DENSE, dense)
    model.embedding = replace(how, dense=len(directions))
    setattr(model.config, KEY, model.embedding.settings())
    return model
