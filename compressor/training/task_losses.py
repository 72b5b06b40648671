"""Losses on a task's own choices: labels of rows, tags of words, tokens where an answer starts and ends, numbers."""

from __future__ import annotations

import torch
from torch.nn import functional

from compressor.models.outputs import NO_LABEL
from compressor.tasks.base import Task
from compressor.training import losses, vector_losses
from compressor.training.trainer import Batch


def items(task: Task, batch: Batch) -> torch.Tensor:
    """How many items the hard loss is a mean of: rows, words, starts and ends of answers, or pairs. A scalar.

    Args:
        task: The task.
        batch: The rows, with `labels`.
    """
    if task.HEAD.vectors:
        return torch.tensor(len(vector_losses.pairs_of(batch)[0]))
    if task.REGRESSION:
        return torch.tensor(len(batch["labels"]))
    return (batch["labels"] != NO_LABEL).sum()


def hard_loss(task: Task, head: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Cross-entropy with the labels, the squared error of a number, or what pairs say; mean over items. A scalar.

    Args:
        task: The task.
        head: Its `head_logits` of the model.
        batch: The rows, with `labels`.
    """
    if task.HEAD.vectors:
        return vector_losses.hard(head, batch)
    if task.REGRESSION:
        return functional.mse_loss(head[:, 0], batch["labels"].to(head.dtype))
    labels = batch["labels"].flatten()
    return losses.hard_label_loss(task.choices(head, batch), labels[labels != NO_LABEL])


def soft_items(task: Task, batch: Batch) -> torch.Tensor:
    """How many items the soft loss is a mean of: as the hard one, or texts. A scalar."""
    return torch.tensor(len(batch["labels"])) if task.HEAD.vectors else items(task, batch)


def soft_loss(task: Task, head: torch.Tensor, batch: Batch, temperature: float) -> torch.Tensor:
    """Divergence of the student's choices from its teacher's; mean over items. A scalar.

    Args:
        task: The task.
        head: Its `head_logits` of the student.
        batch: The rows, with the teacher's `teacher_logits`.
        temperature: Softens both sides.
    """
    teacher = batch["teacher_logits"].to(head.dtype)
    return distance(task, task.choices(head, batch), task.choices(teacher, batch), temperature)


def distance(task: Task, student: torch.Tensor, teacher: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """The softened divergence of choices `(items, choices)`, or the distance of numbers or of vectors. A scalar."""
    if task.HEAD.vectors:
        return vector_losses.distance(student, teacher)
    if task.REGRESSION:
        return functional.mse_loss(student, teacher)
    return losses.soft_target_loss(student, teacher, temperature)
