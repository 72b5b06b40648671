"""Losses: pure functions of tensors."""

from __future__ import annotations

import torch
from torch.nn import functional


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


def hard_label_loss(student: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Cross-entropy with the labels, mean over the batch.

    Args:
        student: Logits `(batch, labels)`.
        labels: Indices `(batch,)`.

    Source: Hinton, Vinyals & Dean 2015, section 2 (the second term of the weighted sum).
    """
    return functional.cross_entropy(student, labels)
