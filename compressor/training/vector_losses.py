"""Losses on vectors of sentences: of pairs that belong together, of pairs with a score, and of a teacher's vectors."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch.nn import functional

from compressor.data.queries import QUERY
from compressor.data.retrieval import DOCUMENT, TEXT
from compressor.training.trainer import Batch

_SCALE = 20.0
"""Cosines are multiplied by it before their softmax: sentence-transformers' default, a temperature of 0.05."""
_NEVER = -1e4


def at_dimensions(
    loss: Callable[..., torch.Tensor], vectors: Sequence[torch.Tensor], dimensions: Sequence[int] | None
) -> torch.Tensor:
    """The mean of a loss over the first numbers of vectors, for each of some counts. A scalar.

    Args:
        loss: Takes the vectors, cut.
        vectors: `(batch, dimensions)` each.
        dimensions: How many numbers; None for all.

    Source: Kusupati et al. 2022, "Matryoshka Representation Learning", eq. 1, with equal weights.
    """
    if dimensions is None:
        return loss(*vectors)
    return torch.stack([loss(*(each[:, :count] for each in vectors)) for count in dimensions]).mean()


def distance(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """1 - the cosine of each text's two vectors; mean over texts. A scalar.

    Of vectors of length 1 it is half of their squared distance.

    Source: Reimers & Gurevych 2020, "Making Monolingual Sentence Embeddings Multilingual using Knowledge Distillation",
    eq. 1, for a student in the teacher's language.
    """
    return (1 - functional.cosine_similarity(student, teacher)).mean()


def relations(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """How far the texts of a batch are alike otherwise than for the teacher. A scalar, 0 of one text alone.

    For each text, the divergence of the softmax of its cosines with all others from the teacher's.

    Source: Wang et al. 2021, "MiniLMv2", section 3.1, with vectors of sentences in place of those of a head.
    """
    if len(student) < 2:
        return student.sum() * 0
    ours, theirs = (_apart(functional.normalize(each, dim=-1)) for each in (student, teacher))
    return functional.kl_div(ours.log_softmax(-1), theirs.log_softmax(-1), reduction="batchmean", log_target=True)


def _apart(vectors: torch.Tensor) -> torch.Tensor:
    """Scaled cosines of each vector with all others. `(batch, batch - 1)`."""
    count = len(vectors)
    cosines = vectors @ vectors.T * _SCALE
    return cosines[~torch.eye(count, dtype=torch.bool, device=vectors.device)].view(count, count - 1)


def hard(vectors: torch.Tensor, batch: Batch) -> torch.Tensor:
    """What pairs say: `scored` where they have a score, else `contrastive`. A scalar."""
    return scored(vectors, batch) if bool(batch["labels"][:, 2].any()) else contrastive(vectors, batch)


def pairs_of(batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """The first and the second texts of the pairs that a batch has both of, by their places in it. `(pairs,)` each."""
    sides, query = batch["labels"][:, 0], batch[QUERY]
    first, second = ((sides == side).nonzero()[:, 0] for side in (TEXT, DOCUMENT))
    same = query[first][:, None] == query[second][None, :]
    row, column = same.nonzero(as_tuple=True)
    return first[row], second[column]


def contrastive(vectors: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Cross-entropy of finding each first text's second among all seconds and negatives of the batch. A scalar.

    What belongs to the first text as well, or reads like its second, is no negative.

    Source: Henderson et al. 2017, "Efficient Natural Language Response Suggestion for Smart Reply", section 4.4.
    """
    first, second = pairs_of(batch)
    if not len(first):
        return vectors.sum() * 0
    found = functional.normalize(vectors, dim=-1)
    candidates = (batch["labels"][:, 0] != TEXT).nonzero()[:, 0]
    cosines = found[first] @ found[candidates].T * _SCALE
    query = batch[QUERY]
    belongs = (query[first][:, None] == query[candidates][None, :]) & (batch["labels"][candidates, 0] == DOCUMENT)
    texts, own = batch["input_ids"], candidates[None, :] == second[:, None]
    belongs |= (texts[second][:, None] == texts[candidates][None, :]).all(dim=-1)
    return functional.cross_entropy(cosines.masked_fill(belongs & ~own, _NEVER), own.float().argmax(dim=1))


def scored(vectors: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Squared error of the cosines of pairs; mean over pairs. A scalar.

    Source: Reimers & Gurevych 2019, "Sentence-BERT", section 3, the regression objective.
    """
    first, second = pairs_of(batch)
    if not len(first):
        return vectors.sum() * 0
    cosines = functional.cosine_similarity(vectors[first], vectors[second])
    return functional.mse_loss(cosines, batch["labels"][first, 1].to(cosines.dtype))
