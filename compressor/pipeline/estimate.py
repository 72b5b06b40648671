"""Estimates how long a plan will run: the arithmetic that is left to do, at this machine's speed."""

from __future__ import annotations

import time
from collections.abc import Collection
from functools import cache

import numpy as np

from compressor.data import splits as data_rows
from compressor.data.columns import numbers
from compressor.models.checkpoint import Checkpoint
from compressor.models.loading import load_tokenizer
from compressor.models.shape import Shape
from compressor.pipeline.cache_state import state
from compressor.pipeline.plan import Plan
from compressor.pipeline.store import Store
from compressor.pipeline.task_rows import PreparedRows
from compressor.progress import Progress
from compressor.tasks import MASKED_LM
from compressor.training.spec import DistillationSpec, TrainingSpec

_EFFICIENCY = 0.6
"""Share of the speed of large products that training and scoring reach: they also have small products and copies."""
_PASSES = 3
"""Forward, and twice as much backward."""
_SCORINGS = 2
"""Cost of measuring a stage, in passes over the validation rows: one on a single core, and its export."""


def seconds(plan: Plan, store: Store, progress: Progress, among: Collection[str]) -> float | None:
    """Estimates how long the stages take that are not in the store.

    Reads and tokenizes the rows, which the run needs anyway.

    Args:
        plan: The plan.
        store: The store.
        progress: Shows progress.
        among: Keys of the stages to count; in a study, other recipes may share the rest.

    Returns:
        Seconds, right within a factor of about two; None if a stage learns from raw text.
    """
    todo = [stage.key for stage in plan.stages if stage.key in among and state(stage, store, None).state != "cached"]
    if not todo:
        return 0.0
    if plan.model is None or any(stage.task == MASKED_LM for stage in plan.stages):
        return None
    prepared = PreparedRows(plan, store, progress)
    shapes = _shapes(plan, Shape.of(Checkpoint(plan.model)))
    teacher = shapes[next((index for index, stage in enumerate(plan.stages) if stage.spec.makes_teacher), 0)]
    validation = _tokens(plan, prepared, None) * prepared.counts[data_rows.VALIDATION]
    work = 0.0
    for stage, shape in zip(plan.stages, shapes, strict=True):
        if stage.key not in todo:
            continue
        work += _SCORINGS * _work(shape) * validation * (not stage.defers_training)
        if isinstance(stage.spec, TrainingSpec) and stage.spec.trains and not store.get(stage.key):
            rows = prepared.counts[data_rows.TRAIN]
            tokens = _tokens(plan, prepared, stage.spec)
            work += _rows_trained(stage.spec, rows) * tokens * _PASSES * _work(shape)
            work += rows * tokens * _work(teacher) * isinstance(stage.spec, DistillationSpec)
    return work / (_EFFICIENCY * _speed())


def _shapes(plan: Plan, shape: Shape) -> list[Shape]:
    """The shape of each stage's checkpoint."""
    found: list[Shape] = []
    teacher = shape
    for stage in plan.stages:
        shape = stage.spec.leaves(shape, teacher, None, lambda *_: None)
        found.append(shape)
    return found


def _work(shape: Shape) -> float:
    """Floating point operations for a token, of the products with weight matrices."""
    neurons = shape.neurons or 4 * shape.hidden
    heads = shape.head_size * (shape.heads or shape.hidden // shape.head_size)
    return 2.0 * shape.layers * shape.hidden * (4 * heads + 2 * neurons)


def _rows_trained(spec: TrainingSpec, rows: int) -> float:
    if spec.max_steps is None:
        return spec.epochs * rows
    return float(spec.max_steps * spec.batch_size * spec.gradient_accumulation_steps)


def _tokens(plan: Plan, prepared: PreparedRows, spec: TrainingSpec | None) -> float:
    """Tokens of a training row as a stage reads it; of a validation row, for None, as the first that trains."""
    from compressor.training.train_stage import max_sequence_length

    assert plan.model is not None, "checked before"
    spec = spec or next((stage.spec for stage in plan.stages if isinstance(stage.spec, TrainingSpec)), None)
    if spec is None:
        return 0.0
    length = max_sequence_length(plan.model, spec, plan.resolved.recipe.task)
    rows = prepared.tokenized(load_tokenizer(plan.model), plan.model, length)
    return float(numbers(rows, "length", np.int64).sum()) / prepared.counts[data_rows.TRAIN]


@cache
def _speed() -> float:
    """Floating point operations of this machine in a second, in large products."""
    import torch

    a = torch.rand(1024, 1024)
    a @ a
    start, rounds = time.perf_counter(), 0
    while time.perf_counter() - start < 0.5:
        a @ a
        rounds += 1
    return 2.0 * 1024**3 * rounds / (time.perf_counter() - start)
