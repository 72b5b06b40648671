"""Scores candidates for the layers of a student: their distance from the whole model on a sample of training rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch

from compressor.models.checkpoint import input_names
from compressor.models.outputs import LOGITS, outputs_by_name
from compressor.progress import Step
from compressor.tasks import MASKED_LM, learned_from_rows
from compressor.training import devices, task_losses
from compressor.training.batches import MaskedBatches, RowBatches
from compressor.training.losses import cosine_loss, soft_target_loss
from compressor.training.objectives import head_at
from compressor.training.trainer import Batch

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_ROWS, _SEQUENCES, _ROWS_AT_ONCE = 512, 64, 32
_DISTANCE_BATCHES = 4


def samples(batches: RowBatches | MaskedBatches) -> list[Batch]:
    """A fixed, evenly spread sample of the training rows: enough to tell layers apart, read in seconds."""
    count = _SEQUENCES if isinstance(batches, MaskedBatches) else _ROWS
    rows = list(range(0, len(batches), max(1, len(batches) // count)))[:count]
    return [batches.batch(rows[start : start + _ROWS_AT_ONCE]) for start in range(0, len(rows), _ROWS_AT_ONCE)]


def degradation(
    model: PreTrainedModel, sample: Sequence[Batch], task: str | None, step: Step
) -> Callable[[PreTrainedModel], float]:
    """How far a model with fewer layers is from the whole one.

    Args:
        model: The whole model.
        sample: Batches of training rows.
        task: What its head is trained for: then its answers are compared (KL divergence); None where it is not, and
            its last hidden states are (1 - cosine).
        step: Progress, in models.
    """
    names = input_names(model.config.model_type)

    def outputs(of: PreTrainedModel, batch: Batch) -> torch.Tensor:
        inputs = {name: batch[name] for name in names if name in batch}
        if task is None:
            hidden: torch.Tensor = of.base_model(**inputs).last_hidden_state[batch["attention_mask"].bool()]
            return hidden
        if "column" not in batch:
            rows_task = learned_from_rows(task)
            return rows_task.choices(rows_task.head_logits(of(**inputs)), batch)
        with head_at(of, batch["row"], batch["column"]):
            return outputs_by_name(of, of(**inputs))[LOGITS][0]

    model.eval()
    with torch.no_grad(), devices.moved(model) as device:
        sample = devices.batches_on(device, sample)
        whole = [outputs(model, batch) for batch in sample]

    def distance(changed: PreTrainedModel) -> float:
        step.update(step.done + 1)
        with devices.moved(changed):
            pairs = [(outputs(changed, batch), before) for batch, before in zip(sample, whole, strict=True)]
            found = [_distance(task, *pair) for pair in pairs]
        return float(torch.stack(found).mean())

    return distance


def _distance(task: str | None, student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    """Of hidden states 1 - cosine, of answers the divergence of the task's choices. A scalar."""
    if task is None:
        return cosine_loss(student, teacher)
    if task == MASKED_LM:
        return soft_target_loss(student, teacher, 1.0)
    return task_losses.distance(learned_from_rows(task), student, teacher)


def hidden_state_distance(
    model: PreTrainedModel, sample: Sequence[Batch], step: Step
) -> Callable[[PreTrainedModel], float]:
    """How far a model's hidden states are from another's, layer by layer: 1 - cosine, mean over layers and tokens.

    Where layers are to share weights, this says more than the answers do: until it is trained, a model of one layer
    called again and again answers at random, and of those it is chance which comes nearest.

    Args:
        model: The whole model. Layers of a deeper or shallower one are held against its own at the same share of depth.
        sample: Batches of training rows; the first few are used, since all layers' states are kept.
        step: Progress, in models.
    """
    names = input_names(model.config.model_type)
    sample = sample[:_DISTANCE_BATCHES]

    def states(of: PreTrainedModel, batch: Batch) -> list[torch.Tensor]:
        inputs = {name: batch[name] for name in names if name in batch}
        found = of.base_model(**inputs, output_hidden_states=True).hidden_states[1:]
        return [state[batch["attention_mask"].bool()] for state in found]

    model.eval()
    with torch.no_grad(), devices.moved(model) as device:
        sample = devices.batches_on(device, sample)
        whole = [states(model, batch) for batch in sample]

    def distance(changed: PreTrainedModel) -> float:
        step.update(step.done + 1)
        distances = []
        with devices.moved(changed):
            found = [states(changed, batch) for batch in sample]
        for after, before in zip(found, whole, strict=True):
            places = [(layer + 1) * len(before) // len(after) - 1 for layer in range(len(after))]
            distances += [cosine_loss(state, before[max(0, place)]) for state, place in zip(after, places, strict=True)]
        return float(torch.stack(distances).mean())

    return distance
