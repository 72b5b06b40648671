"""The training loop: transformers' Trainer, with our loss, our progress bar and a way back after a kill."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from compressor.errors import StageError
from compressor.models.checkpoint import input_names
from compressor.models.families import FAMILIES
from compressor.progress import Step
from compressor.training import devices, processes
from compressor.training.row_order import RowOrder
from compressor.training.training_checkpoints import CheckpointKeeper, last_whole_checkpoint

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_POINTS = 40
"""Points of a curve, about."""

Batch = dict[str, torch.Tensor]
Terms = dict[str, torch.Tensor]


class Batches(Protocol):
    """Training rows that can be asked for as batches."""

    @property
    def lengths(self) -> NDArray[np.int64] | None:
        """Tokens of each row, so that like lengths can be put together; None where all are equal. `(rows,)`."""

    @property
    def queries(self) -> NDArray[np.int64] | None:
        """A number for each row, equal for rows that are to be in one batch; None where any may be. `(rows,)`."""

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
        """Runs the model on its inputs and gives the terms, scalars that are means over the batch's items."""

    def items(self, batch: Batch) -> Mapping[str, torch.Tensor]:
        """How many items each term is a mean of: rows, words, tokens. Scalars."""


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
    head_learning_rate: float | None = None


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
    if schedule.dropout is not None:
        # Attention too: every family keeps the rate of its attention in a module of this class.
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = schedule.dropout
    precision = devices.precision(schedule.precision, batches.mean_length)
    if why := devices.lacks(precision):
        raise StageError(f"precision: {precision} {why}")
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
        use_cpu=devices.kind() == "cpu",
        logging_steps=max(1, _steps(len(batches), schedule) // _POINTS),
        save_strategy="no",  # CheckpointKeeper saves by the clock
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to="none",
        dataloader_pin_memory=torch.cuda.is_available(),
    )
    # Several GPUs in one process would each get a whole batch: that takes a process for each.
    arguments._n_gpu = min(1, arguments.n_gpu)
    keeper = CheckpointKeeper(step)
    trainer = _Trainer(
        model=model,
        args=arguments,
        train_dataset=range(len(batches)),
        data_collator=batches.batch,
        callbacks=[*callbacks, keeper],
    )
    trainer.prepare_for(objective, batches, schedule.head_learning_rate)
    trainer.remove_callback(PrinterCallback)
    last = processes.decided(f"{processes.place(work)}: goes on", lambda: str(last_whole_checkpoint(work) or ""))
    start = time.monotonic()
    try:
        trainer.train(resume_from_checkpoint=last or None)
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


def _steps(rows: int, schedule: Schedule) -> int:
    """Optimizer steps of a training."""
    each = math.ceil(rows / (schedule.batch_size * processes.count()))
    per_epoch = math.ceil(each / schedule.gradient_accumulation_steps)
    return schedule.max_steps or math.ceil(schedule.epochs * per_epoch)


def _curve(history: list[dict[str, float]], name: str) -> list[list[float]]:
    return [[entry["step"], round(float(entry[name]), 5)] for entry in history if name in entry]


class _Trainer(Trainer):  # type: ignore[misc]  # transformers is untyped here
    """A Trainer whose loss is an objective; the model itself never sees the labels.

    The loss of an optimizer step is that of all its rows at once. Its terms are means over items of which batches do
    not have equally many, so a batch's term counts by its share of the items in the step, of all processes.
    """

    loss_is_scaled_for_ga = True

    def prepare_for(self, objective: Objective, batches: Batches, head_learning_rate: float | None) -> None:
        self._objective = objective
        self._head_rate = head_learning_rate
        self._batches = batches
        self._names = input_names(self.model.config.model_type)
        self._sums = self._zeros()
        self._count = 0

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """Transformers' groups of weights, those of the head apart where they have a learning rate of their own."""
        made = self.optimizer is None
        optimizer: torch.optim.Optimizer = super().create_optimizer(model)
        if made and self._head_rate is not None:
            known = FAMILIES[self.model.config.model_type].head_tensors
            head = {id(tensor) for name, tensor in self.model.named_parameters() if name.startswith(known)}
            for group in list(optimizer.param_groups):
                apart = [tensor for tensor in group["params"] if id(tensor) in head]
                group["params"] = [tensor for tensor in group["params"] if id(tensor) not in head]
                if apart:
                    optimizer.add_param_group({**group, "params": apart, "lr": self._head_rate})
        return optimizer

    def _zeros(self) -> torch.Tensor:
        return torch.zeros(len(self._objective.weights), device=self.args.device)

    def _items(self, batch: Batch) -> torch.Tensor:
        """Items of each term. `(terms,)`."""
        items = self._objective.items(batch)
        return torch.stack([items[name] for name in self._objective.weights]).to(self._sums)

    def get_batch_samples(
        self, epoch_iterator: Iterator[Batch], num_batches: int, device: torch.device
    ) -> tuple[list[Batch], torch.Tensor]:
        """The batches of an optimizer step, and the items of each term in it. `(terms,)`."""
        taken = list(islice(epoch_iterator, num_batches))
        total = sum((self._items(batch) for batch in taken), self._zeros())
        self._count += 1
        return taken, self.accelerator.reduce(total, "sum")

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: Batch,
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> torch.Tensor:
        assert num_items_in_batch is not None, "given by get_batch_samples"
        given = {name: inputs[name] for name in self._names if name in inputs}
        found = self._objective.terms(model, given, inputs)
        weights = self._objective.weights
        items = self._items(inputs)
        terms = torch.stack([found[name] for name in weights])
        # The mean of no items is not a number, and adds nothing.
        shares = torch.where(items > 0, terms, 0) * (items / num_items_in_batch.clamp(min=1))
        loss = (shares * torch.tensor(list(weights.values())).to(shares)).sum()
        if not torch.isfinite(loss):
            rate = self.args.learning_rate
            raise StageError(
                f"the loss is {loss.item()} at step {self.state.global_step + 1}; "
                f"lower learning_rate (now {rate:g}), raise warmup_ratio, or use precision: fp32"
            )
        self._sums += shares.detach()
        # Processes take the mean of their gradients, not the sum.
        whole: torch.Tensor = loss * processes.count()
        return whole

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        if "loss" in logs and self._count:
            means = self.accelerator.reduce(self._sums, "sum") / self._count
            logs.update(zip(self._objective.weights, means.tolist(), strict=True))
            self._sums, self._count = self._zeros(), 0
        super().log(logs, start_time)

    def _get_train_sampler(self, train_dataset: Any = None) -> RowOrder:
        together = self.args.train_batch_size * self.args.gradient_accumulation_steps * self.args.world_size
        rows = self._batches
        # Not told by `set_epoch`, which does not reach a sampler through all that is wrapped around it on resuming.
        return RowOrder(
            len(rows), rows.lengths, together, self.args.seed, lambda: int(self.state.epoch or 0), rows.queries
        )
