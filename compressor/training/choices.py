"""What a model with a task's head chooses, as logits over choices: one form for the losses of every task.

A head gives logits for a row or for each of its tokens, `(batch, labels)` or `(batch, sequence, channels)`: so a
teacher's answers are kept. What is chosen among is, of a classifier, the labels; of tagged words, the tags, once for
each word; of questions, the tokens, once for the start and once for the end of the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

from compressor.models.outputs import END, LOGITS, START
from compressor.training import losses
from compressor.training.trainer import Batch

if TYPE_CHECKING:
    Outputs = Mapping[str, Any]

PER_TOKEN = ("token-classification", "question-answering")
"""Tasks whose heads give logits for each token: a teacher must split texts as its student does."""

_NO_LABEL = -100
_NEVER = -1e4
"""Logit of a token that is padding: its probability is 0, and gradients stay numbers."""


def given(outputs: Outputs) -> torch.Tensor:
    """A head's logits, `(batch, labels)` or `(batch, sequence, channels)`; of questions, start and end are channels."""
    if START in outputs:
        return torch.stack([outputs[START], outputs[END]], dim=-1)
    logits: torch.Tensor = outputs[LOGITS]
    return logits


def logits(task: str, head: torch.Tensor, batch: Batch) -> torch.Tensor:
    """What is chosen among. `(items, choices)`.

    Args:
        task: The task.
        head: What `given` gave, of the model or of its teacher.
        batch: The rows, with `labels` and `attention_mask`.
    """
    if task == "token-classification":
        return head[batch["labels"] != _NO_LABEL]
    if task == "question-answering":
        padding = batch["attention_mask"][:, None] == 0
        return head.transpose(1, 2).masked_fill(padding, _NEVER).flatten(0, 1)
    return head


def hard_loss(task: str, head: torch.Tensor, batch: Batch) -> torch.Tensor:
    """Cross-entropy with the right choices, or the squared error of a number; mean over items. A scalar."""
    if task == "text-regression":
        return functional.mse_loss(head[:, 0], batch["labels"].to(head.dtype))
    labels = batch["labels"].flatten()
    return losses.hard_label_loss(logits(task, head, batch), labels[labels != _NO_LABEL])


def soft_loss(task: str, head: torch.Tensor, batch: Batch, temperature: float) -> torch.Tensor:
    """How far the choices are from a teacher's, or the squared difference of two numbers; mean over items. A scalar.

    Args:
        task: The task.
        head: What `given` gave of the student.
        batch: The rows, with the teacher's `teacher_logits`, as `given` gave them.
        temperature: Softens both sides.
    """
    teacher = batch["teacher_logits"].to(head.dtype)
    return distance(task, logits(task, head, batch), logits(task, teacher, batch), temperature)


def distance(task: str, student: torch.Tensor, teacher: torch.Tensor, temperature: float = 1.0) -> torch.Tensor:
    """The softened divergence of choices `(items, choices)`, or the squared difference of numbers. A scalar."""
    if task == "text-regression":
        return functional.mse_loss(student, teacher)
    return losses.soft_target_loss(student, teacher, temperature)
