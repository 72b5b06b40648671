"""Token embeddings as the product of a narrow table and one matrix."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import torch

from compressor.errors import StageError
from compressor.models.convert import from_parts, parts_inside
from compressor.models.families import albert
from compressor.models.parts import ModelParts, State

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def factorize(model: PreTrainedModel, embedding_size: int, token_counts: torch.Tensor) -> tuple[PreTrainedModel, float]:
    """Builds a model with narrower embeddings, which a matrix maps to the width of its layers.

    A BERT adds up the embeddings of token, position and type, and normalises the sum, u, over its H channels:
    `gain * (u - mean u) / std u + bias`. An ALBERT normalises over E channels, and only then maps to H. Both are the
    same if the E coordinates of u have mean 0 and the standard deviation of u. So u is centred, E - 1 directions are
    kept, and turned into the E coordinates whose sum is 0; gain and bias move into the mapping. The directions are
    those that keep most of u's second moment over the tokens as they occur, so that nothing is lost once E reaches the
    rank of what is embedded, and always at E = H.

    A masked language model's head is projected on the same directions; since its activation is between, that holds only
    roughly until it is trained.

    Args:
        model: The model, with any head; not changed.
        embedding_size: E, at most the width of its embeddings; at that width the model is rebuilt as it is.
        token_counts: How often each token occurs in the training data. `(vocabulary,)`

    Returns:
        An ALBERT where it can hold the rest, else a compact BERT; and the error: the share of the second moment of the
        tokens' centred embeddings, as they occur, that is lost.

    Raises:
        StageError: A width above the embeddings'.

    Source: Lan et al. 2019, "ALBERT" (arXiv 1909.11942), section 3.1, "Factorized embedding parameterization".
    """
    whole = parts_inside(model)
    if embedding_size > whole.embedding_size:
        raise StageError(f"embedding_size is {embedding_size}, but the embeddings are {whole.embedding_size} wide")
    error = 0.0
    if embedding_size < whole.embedding_size:
        whole, error = _narrowed(whole, embedding_size, token_counts)
    return from_parts(whole, albert.NAME if albert.fits(whole) else None), error


def _narrowed(whole: ModelParts, size: int, token_counts: torch.Tensor) -> tuple[ModelParts, float]:
    old = {name: tensor.double() for name, tensor in whole.outside.items()}
    width = whole.embedding_size
    frequency = (token_counts.double() + 1) / (token_counts + 1).sum()  # none is so rare that it may be lost
    centred = {
        part: old[f"{part}.weight"] - old[f"{part}.weight"].mean(dim=1, keepdim=True)
        for part in ("word", "position", "token_type")
        if f"{part}.weight" in old
    }
    directions = _directions(centred, frequency, size - 1)
    spread = _sum_to_zero(size) * (size / width) ** 0.5  # (E, E - 1): as large over E channels as over all
    new: State = dict(whole.outside)
    for part, table in centred.items():
        new[f"{part}.weight"] = table @ directions @ spread.T
    gain, bias = old["embedding_norm.weight"], old["embedding_norm.bias"]
    back = gain[:, None] * directions @ spread.T * (width / size)  # (old width, E), undoes the spread
    mapping, offset = back, bias
    if "mapping.weight" in old:
        mapping, offset = old["mapping.weight"] @ back, old["mapping.weight"] @ bias + old["mapping.bias"]
    new |= {"mapping.weight": mapping, "mapping.bias": offset}
    new |= {"embedding_norm.weight": torch.ones(size), "embedding_norm.bias": torch.zeros(size)}
    if "transform.weight" in old:
        new |= _head(old, new["word.weight"], directions, spread, tied=bool(whole.config.tie_word_embeddings))
    lost = centred["word"] - centred["word"] @ directions @ directions.T
    weighted = [float((frequency * table.square().sum(dim=1)).sum()) for table in (lost, centred["word"])]
    dtype = whole.outside["word.weight"].dtype
    outside = {name: tensor.to(dtype) for name, tensor in new.items()}
    return replace(whole, outside=outside), float(f"{weighted[0] / max(weighted[1], 1e-30):.6g}")


def _directions(centred: State, frequency: torch.Tensor, count: int) -> torch.Tensor:
    """The directions that keep most of the second moment of the sum of the embeddings. `(width, count)`.

    Token, position and type are independent: the second moment of their sum is the sum of their covariances and the
    second moment of the sum of their means. Positions occur equally often, and so do, roughly, types.
    """
    total: torch.Tensor | None = None
    mean = torch.zeros(centred["word"].shape[1], dtype=torch.float64)
    for part, table in centred.items():
        weights = frequency if part == "word" else torch.full((len(table),), 1 / len(table), dtype=torch.float64)
        own = weights @ table
        moment = (table - own).T @ (weights[:, None] * (table - own))
        mean, total = mean + own, moment if total is None else total + moment
    assert total is not None, "there are token embeddings"
    vectors: torch.Tensor = torch.linalg.eigh(total + mean[:, None] * mean)[1]
    return vectors[:, -count:]


def _sum_to_zero(size: int) -> torch.Tensor:
    """An orthonormal basis of the vectors whose coordinates sum up to 0. `(size, size - 1)`."""
    ones = torch.ones(size, 1, dtype=torch.float64)
    basis: torch.Tensor = torch.linalg.qr(torch.cat([ones, torch.eye(size, size - 1, dtype=torch.float64)], dim=1))[0]
    return basis[:, 1:]


def _head(old: State, words: torch.Tensor, directions: torch.Tensor, spread: torch.Tensor, *, tied: bool) -> State:
    """A masked language model's head of the embeddings' new width."""
    size = len(spread)
    down = spread @ directions.T * (old["transform.weight"].shape[0] / size)  # (E, old width)
    new: State = {
        "transform.weight": down @ old["transform.weight"],
        "transform.bias": down @ old["transform.bias"],
        "transform_norm.weight": torch.ones(size),
        "transform_norm.bias": torch.zeros(size),
    }
    new["decoder.weight"] = words if tied else old["decoder.weight"] @ directions @ spread.T
    return new
