"""The training loop: transformers' Trainer, with our loss, our progress bar and a way back after a kill."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from compressor.errors import StageError
from compressor.models.checkpoint import input_names
from compressor.progress import Step
from compressor.training import devices
from compressor.training.training_checkpoints import CheckpointKeeper, last_whole_checkpoint

if TYPE_CHECKING:
    from transformers import PreTrainedModel

Batch = dict[str, torch.Tensor]
Terms = dict[str, torch.Tensor]


class Batches(Protocol):
    """Training rows that can be asked for as batches."""

    @property
    def lengths(self) -> NDArray[np.int64] | None:
        """Tokens of each row, so that like lengths can be put together; None where all are equal. `(rows,)`."""

    @property
    def mean_length(self) -> float:
        """Tokens of a row, on average."""

    def __len__(self) -> int:
        """Number of rows."""

    def batch(self, rows: list[int]) -> Batch:
        """Rows as tensors, padded to the longest of them: the model's inputs and whatever the objective needs."""


class Objective(Protocol):
    """The loss to minimise: a weighted sum of terms, which are reported one by one."""

    @property
    def weights(self) -> Mapping[str, float]:
        """Weight of each term."""

    def terms(self, model: torch.nn.Module, inputs: Batch, batch: Batch) -> Terms:
        """Runs the model on its inputs and gives the terms, scalars that are means over the batch."""


_SORTED_STEPS = 50  # so many steps' rows are put in order of length at a time


@dataclass(frozen=True)
class Schedule:
    """How long and how fast to train; see `compressor.recipe.TrainingSpec` for the fields."""

    epochs: float
    max_steps: int | None
    batch_size: int
    gradient_accumulation_steps: int
    learning_rate: float
    warmup_ratio: float
    weight_decay: float
    dropout: float | None
    precision: str


def train(
    model: PreTrainedModel,
    batches: Batches,
    objective: Objective,
    schedule: Schedule,
    *,
    seed: int,
    work: Path,
    step: Step,
    callbacks: Sequence[TrainerCallback] = (),
) -> dict[str, Any]:
    """Trains a model in place.

    Args:
        model: Any model of transformers.
        batches: The rows.
        objective: What is minimised.
        schedule: Optimizer and duration.
        seed: Order of the rows and dropout.
        work: Folder for training checkpoints; training goes on from the last whole one there.
        step: Progress, in optimizer steps.
        callbacks: Do something to the model as it is trained.

    Returns:
        `steps`, `resumed_from_step`, `training_seconds` from there on, `precision`, and the curves as
        `[step, mean since the last point]` pairs: `loss`, and `terms` with one for each term of the objective, without
        its weight.

    Raises:
        StageError: The loss is not finite.
    """
    if schedule.precision == "fp16" and not torch.accelerator.is_available():
        raise StageError("precision: fp16 needs a GPU, and there is none; use fp32, or bf16 for long sequences")
    if schedule.dropout is not None:
        # Attention too: every family keeps the rate of its attention in a module of this class.
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = schedule.dropout
    per_epoch = math.ceil(len(batches) / (schedule.batch_size * schedule.gradient_accumulation_steps))
    total = schedule.max_steps or math.ceil(schedule.epochs * per_epoch)
    precision = devices.precision(schedule.precision, batches.mean_length)
    arguments = TrainingArguments(
        output_dir=str(work),
        num_train_epochs=schedule.epochs,
        max_steps=schedule.max_steps or -1,
        per_device_train_batch_size=schedule.batch_size,
        gradient_accumulation_steps=schedule.gradient_accumulation_steps,
        learning_rate=schedule.learning_rate,
        warmup_steps=schedule.warmup_ratio,
        weight_decay=schedule.weight_decay,
        optim="adamw_torch_fused",
        bf16=precision == "bf16",
        fp16=precision == "fp16",
        seed=seed,
        # bf16, and several processes, work on CPUs only when it is said that CPUs are meant.
        use_cpu=not torch.accelerator.is_available(),
        logging_steps=max(1, total // 40),
        save_strategy="no",  # CheckpointKeeper saves by the clock
        save_total_limit=1,
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to="none",
        dataloader_pin_memory=torch.cuda.is_available(),
    )
    keeper = CheckpointKeeper(step)
    trainer = _Trainer(
        model=model,
        args=arguments,
        train_dataset=range(len(batches)),
        data_collator=batches.batch,
        callbacks=[*callbacks, keeper],
    )
    trainer.prepare_for(objective, batches)
    trainer.remove_callback(PrinterCallback)
    last, start = last_whole_checkpoint(work), time.monotonic()
    try:
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    finally:
        model.zero_grad()
    curves = {name: _curve(trainer.state.log_history, name) for name in ("loss", *objective.weights)}
    return {
        "steps": trainer.state.global_step,
        "resumed_from_step": keeper.first_step,
        "training_seconds": round(time.monotonic() - start, 1),
        "precision": precision,
        "loss": curves.pop("loss"),
        "terms": curves,
    }


def _curve(history: list[dict[str, float]], name: str) -> list[list[float]]:
    return [[entry["step"], round(float(entry[name]), 5)] for entry in history if name in entry]


class _Trainer(Trainer):  # type: ignore[misc]  # transformers is untyped here
    """A Trainer whose loss is an objective; the model itself never sees the labels."""

    loss_is_scaled_for_ga = False

    def prepare_for(self, objective: Objective, batches: Batches) -> None:
        self._objective = objective
        self._batches = batches
        self._names = input_names(self.model.config.model_type)
        self._sums: dict[str, torch.Tensor] = {}
        self._count = 0

    def compute_loss(
        self, model: torch.nn.Module, inputs: Batch, return_outputs: bool = False, **_: Any
    ) -> torch.Tensor:
        given = {name: inputs[name] for name in self._names if name in inputs}
        terms = self._objective.terms(model, given, inputs)
        weights = self._objective.weights
        loss = torch.stack([weights[name] * term for name, term in terms.items()]).sum()
        if not torch.isfinite(loss):
            rate = self.args.learning_rate
            raise StageError(
                f"the loss is {loss.item()} at step {self.state.global_step + 1}; "
                f"lower learning_rate (now {rate:g}), raise warmup_ratio, or use precision: fp32"
            )
        for name, term in terms.items():
            self._sums[name] = self._sums.get(name, torch.zeros_like(term)).detach() + term.detach()
        self._count += 1
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs and self._count:
            logs.update({name: float(total) / self._count for name, total in self._sums.items()})
            self._sums, self._count = {}, 0
        super().log(logs, start_time)

    def _get_train_sampler(self, train_dataset: Any = None) -> _Order:
        together = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        return _Order(len(self._batches), self._batches.lengths, together, self.args.seed)


class _Order(torch.utils.data.Sampler[int]):
    """An order of the rows for each epoch, which depends on the seed and the epoch alone.

    So training that was stopped goes on with the rows it had not seen. Where rows differ in length, rows of like length
    come together: padding falls from about half of the tokens to a few percent. The batches keep a random order.

    Args:
        rows: Their number.
        lengths: Their tokens; None where all are equal. `(rows,)`
        together: Rows of one optimizer step.
        seed: Of the run.
    """

    def __init__(self, rows: int, lengths: NDArray[np.int64] | None, together: int, seed: int) -> None:
        self._rows, self._lengths, self._together, self._seed = rows, lengths, together, seed
        self._epoch = 0

    def __len__(self) -> int:
        return self._rows

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        random = np.random.default_rng((self._seed, self._epoch))
        order = random.permutation(self._rows)
        if self._lengths is not None:
            order = self._grouped(order, self._lengths, random)
        return (int(row) for row in order)

    def _grouped(
        self, order: NDArray[np.int64], lengths: NDArray[np.int64], random: np.random.Generator
    ) -> NDArray[np.int64]:
        span = self._together * _SORTED_STEPS
        blocks = [order[start : start + span] for start in range(0, len(order), span)]
        order = np.concatenate([block[np.argsort(lengths[block], kind="stable")] for block in blocks])
        whole = len(order) // self._together * self._together
        batches = random.permutation(order[:whole].reshape(-1, self._together))
        return np.concatenate([batches.ravel(), order[whole:]])  # a batch that is not full can only be the last
