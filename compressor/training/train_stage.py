"""The frame of every training stage: rows in, trained checkpoint out."""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from compressor import tasks
from compressor.data.spec import DEFAULT_MAX_SEQUENCE_LENGTH
from compressor.files import differences, file_entries, sync_tree, write_atomic
from compressor.models import checkpoint, loading
from compressor.tasks import MASKED_LM
from compressor.training import devices, label_thresholds, processes, projection
from compressor.training.batches import Answers, MaskedBatches, RowBatches
from compressor.training.context import Context, Facts
from compressor.training.spec import TrainingSpec
from compressor.training.trainer import Objective, Schedule, train

if TYPE_CHECKING:
    from transformers import PreTrainedModel, TrainerCallback


def max_sequence_length(source: Path, spec: TrainingSpec, task: str) -> int:
    """Tokens a training row is cut to: the stage's key, or the task's default if tokenizer and table allow it."""
    incoming = checkpoint.Checkpoint(source)
    if spec.max_sequence_length is not None:
        return spec.max_sequence_length
    usual = DEFAULT_MAX_SEQUENCE_LENGTH if task == MASKED_LM else tasks.learned_from_rows(task).MAX_SEQUENCE_LENGTH
    return min(usual, incoming.max_sequence_length())


def row_batches(
    source: Path,
    spec: TrainingSpec,
    context: Context,
    answers: Answers | None = None,
    *,
    by_query: bool = False,
    held_out: bool = False,
) -> RowBatches:
    """The task's training rows.

    Args:
        source: Checkpoint whose tokenizer is used.
        spec: The stage's keys.
        context: The rows.
        answers: A teacher's answers.
        by_query: Whether rows of one query come together.
        held_out: Those that no stage trains on, instead.
    """
    tokenizer = loading.load_tokenizer(source)
    read = context.held_out if held_out else context.tokenized
    assert read is not None, "asked for where rows are held out"
    rows = read(tokenizer, source, max_sequence_length(source, spec, context.task))
    names = checkpoint.input_names(checkpoint.Checkpoint(source).family)
    token_labels = tasks.learned_from_rows(context.task).LABELS_PER_TOKEN
    return RowBatches(rows, tokenizer, names, answers, token_labels=token_labels, by_query=by_query)


def train_stage(
    model: PreTrainedModel,
    source: Path,
    output: Path,
    spec: TrainingSpec,
    context: Context,
    batches: RowBatches | MaskedBatches,
    objective: Objective,
    callbacks: Sequence[TrainerCallback] = (),
) -> Facts:
    """Trains a model and saves it with its tokenizer.

    Args:
        model: The model, changed in place.
        source: Checkpoint whose tokenizer is used.
        output: Where the trained checkpoint goes.
        spec: Schedule.
        context: Seed, work folder, progress.
        batches: The rows.
        objective: What is minimised.
        callbacks: Do something to the model as it is trained.
    """
    maskings = batches.maskings
    schedule = Schedule(
        epochs=spec.epochs / maskings,  # a row is there once for each masking
        max_steps=spec.max_steps,
        batch_size=spec.batch_size,
        gradient_accumulation_steps=spec.gradient_accumulation_steps,
        learning_rate=spec.learning_rate,
        warmup_ratio=spec.warmup_ratio,
        weight_decay=spec.weight_decay,
        dropout=spec.dropout,
        precision=spec.precision,
        head_learning_rate=spec.head_learning_rate,
    )
    rows = len(batches) // maskings
    if (unused := devices.count() - processes.count()) > 0 and processes.count() == 1:
        how = f"torchrun --nproc-per-node {devices.count()} -m compressor run"
        context.progress.say(f"  {context.stage}: one of {unused + 1} {devices.kind()} devices is used; {how} uses all")
    with context.progress.step(f"{context.stage}: training on {rows} rows") as step:
        seed, work = context.seed, context.work
        facts = train(model, batches, objective, schedule, seed=seed, work=work, step=step, callbacks=callbacks)
    projection.remove(model)
    model = model.float().cpu()
    chosen: Facts = {}
    if context.held_out is not None:
        held_out = row_batches(source, spec, context, held_out=True)
        chosen = label_thresholds.choose(model, held_out, context.labels)
    saved = save(model, source, output, spec, context.task)
    return {"rows": rows, **saved, "padding": round(batches.padding, 4), **facts, **chosen}


def save(model: PreTrainedModel, source: Path, output: Path, spec: TrainingSpec, task: str) -> Facts:
    """Saves a model with the tokenizer that it learns with, which cuts texts where training does.

    Args:
        model: The model.
        source: Checkpoint whose tokenizer is used.
        output: Where the checkpoint goes.
        spec: The stage's keys.
        task: What the model does.
    """
    tokenizer = loading.load_tokenizer(source)
    tokenizer.model_max_length = max_sequence_length(source, spec, task)
    loading.save(output, model, tokenizer)
    return {"max_sequence_length": tokenizer.model_max_length}


def build_once(folder: Path, build: Callable[[Path], Facts]) -> Facts:
    """Builds an intermediate result in the work folder once; after a kill, finds it there, unless it is damaged.

    Of processes that train together all take part in making it, and the first writes it: transformers saves models in
    no other.

    Args:
        folder: Where it is to be. Beside it, a record of the same name holds the facts and digests of its files.
        build: Fills the folder that it is given and returns facts.

    Returns:
        The facts.
    """
    record = folder.with_name(f"{folder.name}.json")
    if processes.decided(f"{processes.place(folder)} is there", lambda: _is_whole(folder, record)):
        pass
    elif processes.rank() > 0:
        with tempfile.TemporaryDirectory(prefix="compress-") as scratch:
            build(Path(scratch))
        processes.wait_until(record.is_file)
    else:
        facts = build(folder)
        sync_tree(folder)
        write_atomic(record, json.dumps({"facts": facts, "files": file_entries(folder)}))
    found: Facts = json.loads(record.read_text(encoding="utf-8"))["facts"]
    return found


def _is_whole(folder: Path, record: Path) -> bool:
    """Whether an intermediate result is as it was built; what there is of another is deleted."""
    try:
        changed = differences(folder, json.loads(record.read_text(encoding="utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError):  # there is none
        changed = {record.name: "is missing"}
    if changed:
        record.unlink(missing_ok=True)
        shutil.rmtree(folder, ignore_errors=True)
    return not changed
