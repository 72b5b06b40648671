"""Losses: pure functions of tensors."""

from __future__ import annotations

import torch
from torch.nn import functional

_LEAST_MASS = 1e-6  # below it, float32 cannot tell what is left of a probability of 1


def soft_target_loss(student: torch.Tensor, teacher: torch.Tensor, temperature: float) -> torch.Tensor:
    """KL divergence from the teacher's to the student's distribution, both softened, times T squared.

    The factor keeps the gradient's size independent of the temperature. Mean over the batch.

    Args:
        student: Logits `(batch, labels)`.
        teacher: Logits `(batch, labels)`.
        temperature: Divides both logits; above 1 shows more of the small probabilities.

    Returns:
        A scalar, 0 when both distributions are equal.

    Source: Hinton, Vinyals & Dean 2015, "Distilling the Knowledge in a Neural Network", section 2.
    """
    log_student = functional.log_softmax(student / temperature, dim=-1)
    log_teacher = functional.log_softmax(teacher / temperature, dim=-1)
    divergence = functional.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
    return divergence * temperature**2


def top_k_targets(teacher: torch.Tensor, k: int, temperature: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A softened distribution as its k largest log-probabilities and the log of what the others sum up to.

    Args:
        teacher: Logits `(…, vocabulary)`.
        k: How many to keep; at most the vocabulary's size.
        temperature: Divides the logits.

    Returns:
        Indices and log-probabilities `(…, k)`, largest first, and the rest's log-probability `(…)`.
    """
    logits = teacher / temperature
    total = torch.logsumexp(logits, dim=-1)
    largest, indices = logits.topk(k, dim=-1)
    log_probabilities = largest - total[..., None]
    rest = _log_rest(torch.logsumexp(log_probabilities, dim=-1))
    if k == teacher.shape[-1]:
        rest = torch.full_like(rest, -torch.inf)
    return indices, log_probabilities, rest


def top_k_soft_target_loss(
    student: torch.Tensor,
    indices: torch.Tensor,
    log_probabilities: torch.Tensor,
    log_rest: torch.Tensor,
    temperature: float,
) -> torch.Tensor:
    """`soft_target_loss` with the teacher's tail summed up: a divergence over k tokens and "any other".

    A lower bound of the full divergence (merging outcomes never adds information), equal to it for k = vocabulary.

    Args:
        student: Logits `(tokens, vocabulary)`.
        indices: The teacher's k likeliest tokens `(tokens, k)`.
        log_probabilities: Their softened log-probabilities `(tokens, k)`.
        log_rest: The others' `(tokens,)`; minus infinity where there are none.
        temperature: As for the teacher.

    Returns:
        A scalar, mean over the tokens.

    Source: Sanh et al. 2019, "DistilBERT", section 2 (L_ce); Hinton, Vinyals & Dean 2015, section 2 (T squared).
    """
    logits = student / temperature
    total = torch.logsumexp(logits, dim=-1, keepdim=True)
    log_student = logits.gather(-1, indices) - total
    student_rest = _log_rest(torch.logsumexp(log_student, dim=-1))
    divergence = (log_probabilities.exp() * (log_probabilities - log_student)).sum(dim=-1)
    rest = log_rest.exp() * (log_rest.clamp(min=-1e4) - student_rest)
    return (divergence + rest).mean() * temperature**2


def _log_rest(log_mass: torch.Tensor) -> torch.Tensor:
    """Log of 1 minus the mass."""
    return torch.log1p(-log_mass.exp().clamp(max=1 - _LEAST_MASS))


def hard_label_loss(student: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy with the labels, the hidden tokens of a masked text or the order of segments; mean over the batch.

    Args:
        student: Logits `(batch, labels)`.
        labels: Indices `(batch,)`.

    Source: Hinton, Vinyals & Dean 2015, section 2 (the second term of the weighted sum); as L_mlm, Devlin et al. 2019,
        section 3.1, task 1.
    """
    return functional.cross_entropy(student, labels)


def cosine_loss(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """1 - cosine of the angle between hidden states, mean over the tokens: 0 when they point the same way, 2 opposite.

    Args:
        student: Hidden states `(tokens, hidden)`.
        teacher: Hidden states `(tokens, hidden)`.

    Source: Sanh et al. 2019, section 2 (L_cos); over several layers, up to a factor the loss of Sun et al. 2019,
        "Patient Knowledge Distillation", eq. 7: half the squared distance of normalised states is 1 - cosine.
    """
    return (1 - functional.cosine_similarity(student, teacher, dim=-1)).mean()


def margin_loss(student: torch.Tensor, teacher: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    """Mean squared difference between the student's and the teacher's margins, over all pairs of rows of one query.

    The margin of two rows is the difference of their numbers: a number that is added to all rows of a query costs
    nothing. Over the pairs of n rows, the squared differences of d sum up to n times the squared deviations of d from
    its mean.

    Args:
        student: Numbers `(batch,)`.
        teacher: Numbers `(batch,)`.
        query: A number for each row, equal for the rows of one query. `(batch,)`.

    Returns:
        A scalar, 0 where no two rows are of one query.

    Source: Hofstätter et al. 2020, "Improving efficient neural ranking models with cross-architecture knowledge
        distillation", eq. 8, there for one relevant and one irrelevant row.
    """
    _, index, sizes = torch.unique(query, return_inverse=True, return_counts=True)
    difference = student - teacher
    means = torch.zeros(len(sizes)).to(difference).index_add(0, index, difference) / sizes
    total: torch.Tensor = (sizes[index] * (difference - means[index]) ** 2).sum()
    return total / margins(query).clamp(min=1)


def margins(query: torch.Tensor) -> torch.Tensor:
    """Pairs of rows of one query. A scalar.

    Args:
        query: A number for each row. `(batch,)`.
    """
    sizes: torch.Tensor = torch.unique(query, return_counts=True)[1]
    return (sizes * (sizes - 1)).sum() // 2


def attention_loss(student: torch.Tensor, teacher: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """KL divergence between attention distributions, mean over heads and tokens that are not padding.

    Args:
        student: Attention probabilities `(batch, heads, sequence, sequence)`.
        teacher: Attention probabilities, same shape.
        mask: 1 for tokens, 0 for padding. `(batch, sequence)`.

    Returns:
        A scalar, 0 when both attend alike.

    Source: Wang et al. 2020, "MiniLM", eq. 6, here for every mapped layer.
    """
    tiny = torch.finfo(student.dtype).tiny
    # The teacher's come rounded from the cache: as distributions, they sum up to 1 again.
    given = teacher / teacher.sum(dim=-1, keepdim=True).clamp(min=tiny)
    divergence = (given * (given.clamp(min=1e-9).log() - student.clamp(min=1e-9).log())).sum(dim=-1)
    rows = mask[:, None, :].expand_as(divergence).bool()
    return divergence[rows].mean()
