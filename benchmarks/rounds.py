"""The variants that `distill.py` compares: a plain loop and `compressor.training`, on a task's rows and on raw text."""

from __future__ import annotations

import copy
import shutil
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence, Sized
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from throughput import Pass, Variant, forward_flops, training_flops

from compressor.data.corpus import masking
from compressor.models import checkpoint, loading
from compressor.models.surgery.select_layers import chosen_layers, reduce_depth
from compressor.stages.distill import DistillSpec
from compressor.tasks import TASKS, text_classification
from compressor.training import losses
from compressor.training.batches import MaskedBatches, RowBatches
from compressor.training.distillation import PRETRAINING_WEIGHTS, TASK_WEIGHTS
from compressor.training.objectives import Labels, MaskedLanguageModel, PretrainingDistillation, TaskDistillation
from compressor.training.sequences import Sequences
from compressor.training.teacher_cache import layer_map
from compressor.training.teacher_outputs import write_answers, write_targets
from compressor.training.trainer import Batch, Objective, Schedule, resolved_precision, train

if TYPE_CHECKING:
    from datasets import Dataset
    from numpy.typing import NDArray
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from compressor.progress import Progress

    Ints = NDArray[np.int64]
    Flops = Callable[[Ints, int], float]

PLAIN, CACHED, ALONE = "plain loop", "cached logits", "no teacher"
CACHED_LAYERS = "cached logits, hidden states, attention"
PASS, PASS_LAYERS = "teacher's pass", "teacher's pass with hidden states, attention"
TARGETS, TARGETS_FP32 = "cached targets", "cached targets, fp32"

WARM_UP_STEPS = 2
_SPEC = DistillSpec(stage="distill")
_LEARNING_RATE, _WEIGHT_DECAY = 5e-5, 0.01


@dataclass(frozen=True)
class Setting:
    """The inputs of all variants of a table.

    Attributes:
        teacher: The teacher, with the table's head.
        student: The student before training; variants train copies.
        tokenizer: The tokenizer of both.
        batch_size: Rows per step.
        folder: For the teacher's cached outputs.
        progress: Shows progress.
    """

    teacher: PreTrainedModel
    student: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    batch_size: int
    folder: Path
    progress: Progress

    @classmethod
    def of(cls, model: Path, task: str, batch_size: int, folder: Path, progress: Progress, **config: Any) -> Setting:
        """Loads a teacher and makes its student, of the same family, from every other layer."""
        torch.manual_seed(0)
        teacher = loading.load_model(model, TASKS[task].HEAD, **config).eval()
        layers = chosen_layers(teacher.config.num_hidden_layers, None, "every_other")
        student = reduce_depth(teacher, layers, teacher.config.model_type)
        return cls(teacher, student, loading.load_tokenizer(model), batch_size, folder, progress)

    def inputs(self, batch: Mapping[str, Any]) -> dict[str, Any]:
        """The model's inputs among what is in a batch."""
        names = checkpoint.input_names(self.student.config.model_type)
        return {name: batch[name] for name in names if name in batch}


def plainly(
    setting: Setting, loss: Callable[[PreTrainedModel, Batch], torch.Tensor], batches: Sequence[Batch]
) -> float:
    """Seconds of a loop that does not use `compressor.training`."""
    model = copy.deepcopy(setting.student).train()
    with setting.progress.step(PLAIN) as step:
        start = time.perf_counter()
        optimizer = torch.optim.AdamW(model.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY, fused=True)
        for done, batch in enumerate(batches, 1):
            loss(model, batch).backward()
            optimizer.step()
            optimizer.zero_grad()
            step.update(done, len(batches))
        return time.perf_counter() - start


def trained(
    setting: Setting,
    batches: RowBatches | MaskedBatches,
    objective: Callable[[PreTrainedModel], Objective],
    what: str,
    precision: str = "auto",
    attention: str | None = None,
) -> tuple[float, str]:
    """Seconds of one epoch by `compressor.training`, and the precision it took."""
    model = copy.deepcopy(setting.student)
    if attention:
        model.set_attn_implementation(attention)
    schedule = Schedule(1, None, setting.batch_size, 1, _LEARNING_RATE, 0.1, _WEIGHT_DECAY, None, precision)
    with tempfile.TemporaryDirectory(dir=setting.folder) as work, setting.progress.step(what) as step:
        start = time.perf_counter()
        facts = train(model, batches, objective(model), schedule, seed=0, work=Path(work), step=step)
        return time.perf_counter() - start, facts["precision"]


class TaskRounds:
    """The variants on the task's rows.

    Args:
        setting: Models and tokenizer.
        rows: Tokenized rows.
        length: What the plain loop pads to.
        rounds: The plain loop takes a part of the rows in each round, so that its whole pass is spread over them.
    """

    def __init__(self, setting: Setting, rows: Dataset, length: int, rounds: int) -> None:
        self._setting, self._length = setting, length
        self._whole = [_first(rows, setting.batch_size), rows]
        ends = np.linspace(0, len(rows), rounds + 1).astype(int)
        self._parts = [self._whole[0], *(rows.select(range(*pair)) for pair in pairwise(ends))]
        self._map = layer_map(None, setting.student.config.num_hidden_layers, setting.teacher.config.num_hidden_layers)
        self._eager_teacher = copy.deepcopy(setting.teacher)
        self._eager_teacher.set_attn_implementation("eager")

    def first(self) -> dict[str, Variant]:
        """The teacher's passes."""
        return {
            PASS: partial(self._teacher, self._setting.teacher, []),
            PASS_LAYERS: partial(self._teacher, self._eager_teacher, sorted(set(self._map))),
        }

    def variants(self) -> dict[str, Variant]:
        """The ways to train."""
        layers = {**TASK_WEIGHTS, "cosine": 1.0, "attention": 1.0}
        logits_only, with_layers = (
            TaskDistillation(text_classification, weights, _SPEC.temperature, self._map)
            for weights in (TASK_WEIGHTS, layers)
        )
        return {
            PLAIN: self._plain,
            CACHED: partial(self._ours, logits_only, self._answers([]), CACHED),
            CACHED_LAYERS: partial(self._ours, with_layers, self._answers(self._map), CACHED_LAYERS),
            ALONE: partial(self._ours, Labels(text_classification), None, ALONE),
        }

    def _answers(self, layers: Sequence[int]) -> Path:
        return self._setting.folder / ("answers_layers" if layers else "answers")

    def _teacher(self, teacher: PreTrainedModel, layers: Sequence[int], index: int) -> Pass:
        rows, folder = self._whole[min(index, 1)], _emptied(self._answers(layers))
        with self._setting.progress.step(PASS_LAYERS if layers else PASS) as step:
            start = time.perf_counter()
            write_answers(
                teacher,
                text_classification,
                self._setting.tokenizer,
                rows,
                folder,
                hidden=layers,
                attention=layers,
                step=step,
            )
            seconds = time.perf_counter() - start
        return Pass(seconds, _lengths(rows).sum(), None, forward_flops(teacher, _lengths(rows), len(rows)), "fp32")

    def _ours(self, objective: Objective, answers: Path | None, what: str, index: int) -> Pass:
        setting, rows = self._setting, self._whole[min(index, 1)]
        names = checkpoint.input_names(setting.student.config.model_type)
        batches = RowBatches(rows, setting.tokenizer, names, answers)
        attention = "eager" if what == CACHED_LAYERS else None
        seconds, precision = trained(setting, batches, lambda _: objective, what, attention=attention)
        flops = training_flops(setting.student, _lengths(rows), len(rows))
        return Pass(seconds, _lengths(rows).sum(), batches.padding, flops, precision)

    def _plain(self, index: int) -> Pass:
        setting, rows = self._setting, self._parts[index]
        lengths = _lengths(rows)
        seconds = plainly(setting, self._plain_loss, [self._padded(rows[part]) for part in _slices(rows, setting)])
        flops = training_flops(setting.student, lengths, len(rows)) + forward_flops(setting.teacher, lengths, len(rows))
        return Pass(seconds, lengths.sum(), 1 - lengths.mean() / self._length, flops, "fp32")

    def _padded(self, rows: dict[str, list[Any]]) -> Batch:
        pad = partial(self._setting.tokenizer.pad, padding="max_length", max_length=self._length, return_tensors="pt")
        return {**pad(self._setting.inputs(rows)), "labels": torch.tensor(rows["labels"])}

    def _plain_loss(self, model: PreTrainedModel, batch: Batch) -> torch.Tensor:
        inputs = self._setting.inputs(batch)
        with torch.no_grad():
            teacher = self._setting.teacher(**inputs).logits
        student = model(**inputs).logits
        soft = losses.soft_target_loss(student, teacher, _SPEC.temperature)
        return TASK_WEIGHTS["soft"] * soft + TASK_WEIGHTS["hard"] * losses.hard_label_loss(student, batch["labels"])


class TextRounds:
    """The variants on masked sequences of raw text.

    Args:
        setting: Models and tokenizer.
        path: Packed sequences.
        rows: How many of them are trained on.
        length: Tokens of a sequence.
    """

    def __init__(self, setting: Setting, path: Path, rows: int, length: int) -> None:
        self._setting, self._length, self._precision = setting, length, resolved_precision("auto", length)
        counts = (min(rows, WARM_UP_STEPS * setting.batch_size), rows)
        self._sequences = [Sequences(path, np.arange(count), length, 0) for count in counts]
        self._maskings = [self._masking(sequences) for sequences in self._sequences]

    def first(self) -> dict[str, Variant]:
        """The teacher's pass."""
        return {PASS: self._teacher}

    def variants(self) -> dict[str, Variant]:
        """The ways to train."""
        ours = partial(PretrainingDistillation, weights=PRETRAINING_WEIGHTS, temperature=_SPEC.temperature)
        return {
            PLAIN: self._plain,
            TARGETS: partial(self._ours, ours, TARGETS, "auto"),
            TARGETS_FP32: partial(self._ours, ours, TARGETS_FP32, "fp32"),
            ALONE: partial(self._ours, MaskedLanguageModel, ALONE, "auto"),
        }

    def _masking(self, sequences: Sequences) -> Path:
        """A masking as `compressor.training.masked_corpus.masking` leaves it."""
        folder = _emptied(self._setting.folder / f"masking_{len(sequences)}")
        vocabulary = masking.Vocabulary.of(self._setting.tokenizer)
        tokens = sequences.tokens(np.arange(len(sequences)))
        found = masking.mask(tokens, vocabulary, probability=_SPEC.mlm_probability, whole_words=False, seed=[0])
        np.save(folder / "positions.npy", found.positions)
        np.save(folder / "inputs.npy", found.inputs)
        return folder

    def _batches(self, index: int, *targets: Path) -> MaskedBatches:
        return MaskedBatches(self._sequences[min(index, 1)], self._maskings[min(index, 1) :][:1], targets)

    def _pass(self, index: int, seconds: float, precision: str, flops: Flops) -> Pass:
        lengths = np.full(len(self._sequences[min(index, 1)]), self._length)
        hidden = int((np.load(self._maskings[min(index, 1)] / "positions.npy") >= 0).sum())
        return Pass(seconds, lengths.sum(), 0.0, flops(lengths, hidden), precision)

    def _teacher(self, index: int) -> Pass:
        teacher, folder = self._setting.teacher, _emptied(self._setting.folder / "targets")
        with self._setting.progress.step(PASS) as step:
            start = time.perf_counter()
            write_targets(
                teacher,
                self._batches(index),
                folder,
                top_k=_SPEC.top_k,
                temperature=_SPEC.temperature,
                hidden=True,
                length=self._length,
                slots=np.load(self._maskings[min(index, 1)] / "positions.npy").shape[1],
                bf16=self._precision == "bf16",
                step=step,
            )
            seconds = time.perf_counter() - start
        return self._pass(index, seconds, self._precision, partial(forward_flops, teacher))

    def _ours(self, objective: Callable[[PreTrainedModel], Objective], what: str, precision: str, index: int) -> Pass:
        targets = [] if what == ALONE else [self._setting.folder / "targets"]
        seconds, taken = trained(self._setting, self._batches(index, *targets), objective, what, precision)
        return self._pass(index, seconds, taken, partial(training_flops, self._setting.student))

    def _plain(self, index: int) -> Pass:
        batches, setting = self._batches(index), self._setting
        parts = [[*range(len(batches))[part]] for part in _slices(batches, setting)]
        seconds = plainly(setting, self._plain_loss, [batches.batch(part) for part in parts])

        def flops(lengths: Ints, hidden: int) -> float:
            everywhere = int(lengths.sum())  # the head reads every token
            return training_flops(setting.student, lengths, everywhere) + forward_flops(
                setting.teacher, lengths, everywhere
            )

        return self._pass(index, seconds, "fp32", flops)

    def _plain_loss(self, model: PreTrainedModel, batch: Batch) -> torch.Tensor:
        inputs = self._setting.inputs(batch)
        with torch.no_grad():
            teacher = self._setting.teacher(**inputs, output_hidden_states=True)
        student = model(**inputs, output_hidden_states=True)
        logits, targets = (outputs.logits.flatten(0, 1) for outputs in (student, teacher))
        states, theirs = (outputs.hidden_states[-1].flatten(0, 1) for outputs in (student, teacher))
        terms = {
            "soft": losses.soft_target_loss(logits, targets, _SPEC.temperature),
            "mlm": losses.hard_label_loss(student.logits[batch["row"], batch["column"]], batch["labels"]),
            "cosine": losses.cosine_loss(states, theirs),
        }
        return torch.stack([PRETRAINING_WEIGHTS[name] * term for name, term in terms.items()]).sum()


def _lengths(rows: Dataset) -> Ints:
    return np.asarray(rows["length"], dtype=np.int64)


def _first(rows: Dataset, batch_size: int) -> Dataset:
    return rows.select(range(min(len(rows), WARM_UP_STEPS * batch_size)))


def _slices(rows: Sized, setting: Setting) -> list[slice]:
    return [slice(start, start + setting.batch_size) for start in range(0, len(rows), setting.batch_size)]


def _emptied(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder
