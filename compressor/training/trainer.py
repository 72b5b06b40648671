"""The training loop: transformers' Trainer, with our loss, our progress bar and a way back after a kill."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments
from transformers.trainer_pt_utils import LengthGroupedSampler

from compressor.checkpoint import input_names
from compressor.errors import StageError
from compressor.progress import Step

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

Batch = dict[str, torch.Tensor]
Loss = Callable[[torch.Tensor, Batch], torch.Tensor]
"""From the model's logits and the batch's labels and targets to a scalar, the mean over the batch."""

_SAVE_EVERY_S = 20.0
_SAVE_SHARE = 0.05  # of the time at most is spent on saving what a kill would lose


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
    precision: str


def train(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Dataset,
    loss: Loss,
    schedule: Schedule,
    *,
    seed: int,
    work: Path,
    step: Step,
    targets: Mapping[str, NDArray[np.float32]] | None = None,
) -> dict[str, Any]:
    """Trains a model in place.

    Args:
        model: Any model whose output has `logits`.
        tokenizer: Pads the batches.
        rows: Token ids, `length` and `labels`.
        loss: What is minimised.
        schedule: Optimizer and duration.
        seed: Order of the rows and dropout.
        work: Folder for training checkpoints; training goes on from the last whole one there.
        step: Progress, in optimizer steps.
        targets: More per-row inputs of the loss, such as a teacher's logits, `(rows, …)`; may be memory-mapped.

    Returns:
        `steps`, `resumed_from_step` and `loss`, the curve as `[step, mean loss since the last point]` pairs.

    Raises:
        StageError: The loss is not finite.
    """
    if schedule.precision == "fp16" and not torch.accelerator.is_available():
        raise StageError("precision: fp16 needs a GPU, and there is none; use fp32, or bf16 for long sequences")
    per_epoch = math.ceil(len(rows) / (schedule.batch_size * schedule.gradient_accumulation_steps))
    total = schedule.max_steps or math.ceil(schedule.epochs * per_epoch)
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
        bf16=schedule.precision == "bf16",
        fp16=schedule.precision == "fp16",
        seed=seed,
        # bf16, and several processes, work on CPUs only when it is said that CPUs are meant.
        use_cpu=not torch.accelerator.is_available(),
        logging_steps=max(1, total // 40),
        save_strategy="no",  # _Keeper saves by the clock
        save_total_limit=1,
        remove_unused_columns=False,
        disable_tqdm=True,
        report_to="none",
        dataloader_pin_memory=torch.cuda.is_available(),
    )
    keeper = _Keeper(step)
    trainer = _Trainer(
        model=model,
        args=arguments,
        train_dataset=rows.add_column("row", range(len(rows))),
        data_collator=_Collator(tokenizer, input_names(model.config.model_type), dict(targets or {})),
        callbacks=[keeper],
    )
    trainer.loss = loss
    trainer.remove_callback(PrinterCallback)
    last = _last_whole_checkpoint(work)
    try:
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    finally:
        model.zero_grad()
    curve = [[entry["step"], round(float(entry["loss"]), 5)] for entry in trainer.state.log_history if "loss" in entry]
    return {"steps": trainer.state.global_step, "resumed_from_step": keeper.first_step, "loss": curve}


class _Trainer(Trainer):  # type: ignore[misc]  # transformers is untyped here
    """A Trainer whose loss sees logits and targets; the model itself never sees the labels."""

    loss: Loss
    loss_is_scaled_for_ga = False

    def compute_loss(
        self, model: torch.nn.Module, inputs: Batch, return_outputs: bool = False, **_: Any
    ) -> torch.Tensor | tuple[torch.Tensor, Any]:
        given = {name: value for name, value in inputs.items() if name not in ("labels", "targets")}
        outputs = model(**given)
        loss = self.loss(outputs.logits, {"labels": inputs["labels"], **inputs.get("targets", {})})  # type: ignore[dict-item]
        if not torch.isfinite(loss):
            rate = self.args.learning_rate
            raise StageError(
                f"the loss is {loss.item()} at step {self.state.global_step + 1}; "
                f"lower learning_rate (now {rate:g}), raise warmup_ratio, or use precision: fp32"
            )
        return (loss, outputs) if return_outputs else loss

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> _ByLength:
        rows = self.train_dataset if train_dataset is None else train_dataset
        return _ByLength(self.args.train_batch_size * self.args.gradient_accumulation_steps, rows, self.args.seed)


class _ByLength(LengthGroupedSampler):  # type: ignore[misc]  # transformers is untyped here
    """Rows of like length in one batch: padding falls from about half of the tokens to a few percent.

    The order depends on the seed and the epoch alone, so that training that was stopped goes on with the rows it had
    not seen; the library's own takes it from whatever state the generator is in.
    """

    def __init__(self, batch_size: int, rows: Dataset, seed: int) -> None:
        super().__init__(batch_size, lengths=list(rows["length"]))
        self._seed = seed
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self._epoch = epoch

    def __iter__(self) -> Iterator[int]:
        self.generator = torch.Generator().manual_seed(self._seed * 1_000_003 + self._epoch)
        return super().__iter__()  # type: ignore[no-any-return]


class _Collator:
    """Pads a batch to its longest row and looks up its targets."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, names: tuple[str, ...], targets: dict[str, NDArray[np.float32]]
    ) -> None:
        self._tokenizer = tokenizer
        self._names = names
        self._targets = targets

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        tokens = [{name: row[name] for name in self._names if name in row} for row in rows]
        batch: dict[str, Any] = dict(self._tokenizer.pad(tokens, return_tensors="pt"))
        batch["labels"] = torch.tensor([row["labels"] for row in rows])
        indices = [row["row"] for row in rows]
        if self._targets:
            batch["targets"] = {name: torch.from_numpy(values[indices]) for name, values in self._targets.items()}
        return batch


class _Keeper(TrainerCallback):  # type: ignore[misc]  # transformers is untyped here
    """Moves the progress bar and decides when to save."""

    def __init__(self, step: Step) -> None:
        self._step = step
        self._last = time.monotonic()
        self._cost = 0.0
        self.first_step = 0

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self.first_step = state.global_step
        self._last = time.monotonic()
        self._step.update(state.global_step, state.max_steps)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._step.update(state.global_step, state.max_steps)
        due = max(_SAVE_EVERY_S, self._cost / _SAVE_SHARE)
        if time.monotonic() - self._last > due and state.global_step < state.max_steps:
            self._last = time.monotonic()
            control.should_save = True

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._cost = time.monotonic() - self._last
        self._last = time.monotonic()


def _last_whole_checkpoint(work: Path) -> Path | None:
    """The latest training checkpoint that was written to its end: the Trainer writes trainer_state.json last."""
    found: list[tuple[int, Path]] = []
    for state in work.glob("checkpoint-*/trainer_state.json"):
        try:
            found.append((int(json.loads(state.read_text(encoding="utf-8"))["global_step"]), state.parent))
        except (ValueError, KeyError):  # cut off in the middle
            continue
    return max(found)[1] if found else None
