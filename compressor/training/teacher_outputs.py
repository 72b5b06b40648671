"""The teacher's answers: computed once, kept on disk, reused in every epoch and by every student."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from compressor.data.columns import numbers
from compressor.files import ArrayWriter
from compressor.models.checkpoint import input_names
from compressor.progress import Step
from compressor.tasks.base import Task
from compressor.training import devices
from compressor.training.batches import LOGITS, TOKEN_LOGITS, MaskedBatches
from compressor.training.losses import top_k_targets
from compressor.training.objectives import head_at

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_TOKENS_PER_BATCH = 2048
"""Enough for the matrix products to run at full speed on a CPU, small enough to stay in its caches."""


def write_answers(
    model: PreTrainedModel,
    task: Task,
    tokenizer: PreTrainedTokenizerBase,
    rows: Dataset,
    folder: Path,
    *,
    hidden: Sequence[int],
    attention: Sequence[int],
    step: Step,
) -> None:
    """Runs a model over a task's rows, longest batches first.

    Args:
        model: The teacher; for attention, with eager attention.
        task: The task it is trained for.
        tokenizer: Pads the batches.
        rows: Token ids and `length`.
        folder: Gets `logits.npy` `(rows, labels)` in the rows' order, or of a head for tokens `token_logits.npy`
            `(tokens, channels)`; and for each layer asked for `hidden_layer*.npy` `(tokens, hidden)` and
            `attention_layer*.npy` (heads x n x n for each row, end to end), in half precision. Where one of these is
            written, start and length of each row are in `hidden_spans.npy`, which goes for `token_logits.npy` too, and
            in `attention_spans.npy` `(rows, 2)`.
        hidden: Layers whose outputs are kept, first layer 0.
        attention: Layers whose attention is kept.
        step: Progress, in rows.
    """
    device = _ready(model)
    names = [name for name in input_names(model.config.model_type) if name in rows.column_names]
    lengths = numbers(rows, "length", np.int32)  # of raw text, what is kept of each row is memory
    order = np.argsort(-lengths, kind="stable").astype(np.uint32)
    squared = 0
    if attention:
        squares = model.config.num_attention_heads * lengths.astype(np.int64) ** 2
        squared = int(squares.sum())
        _write_spans(folder / "attention_spans.npy", order, squares)
    wanted = {"output_hidden_states": bool(hidden), "output_attentions": bool(attention)}
    with ExitStack() as files, torch.inference_mode():
        tokens = int(lengths.sum())
        width = (model.config.hidden_size,)
        states = [
            files.enter_context(ArrayWriter(folder / f"hidden_layer{n}.npy", np.float16, width, tokens)) for n in hidden
        ]
        maps = [
            files.enter_context(ArrayWriter(folder / f"attention_layer{n}.npy", np.float16, (), squared))
            for n in attention
        ]
        logits: ArrayWriter | None = None
        for indices in _by_tokens(order, lengths):
            chunk = rows[indices]
            batch = tokenizer.pad({name: chunk[name] for name in names}, return_tensors="pt").to(device)
            outputs = model(**batch, **{name: True for name, asked in wanted.items() if asked})
            real = batch["attention_mask"].bool()
            given = task.head_logits(outputs).float()
            of_rows = given.ndim == 2
            if logits is None:
                if hidden or attention or not of_rows:
                    _write_spans(folder / "hidden_spans.npy", order, lengths)
                file, count = (LOGITS, len(order)) if of_rows else (TOKEN_LOGITS, tokens)
                row = (given.shape[-1],)
                logits = files.enter_context(ArrayWriter(folder / file, np.float32, row, count))
            if of_rows:
                logits.put(indices, given.cpu().numpy())
            else:
                logits.append(given[real].cpu().numpy())
            for writer, layer in zip(states, hidden, strict=True):
                writer.append(outputs.hidden_states[layer + 1][real].float().cpu().numpy())
            for writer, layer in zip(maps, attention, strict=True):
                for probabilities, n in zip(outputs.attentions[layer].float().cpu(), lengths[indices], strict=True):
                    writer.append(probabilities[:, :n, :n].reshape(-1).numpy())
            step.update(step.done + len(indices), len(order))


def _write_spans(path: Path, order: NDArray[np.uint32], lengths: NDArray[Any]) -> None:
    """Where each row's values start in a file that holds the rows in another order, and how many they are."""
    spans = np.empty((len(order), 2), dtype=np.int64)
    spans[order, 0] = np.cumsum(lengths[order], dtype=np.int64) - lengths[order]
    spans[:, 1] = lengths
    np.save(path, spans)


def _by_tokens(order: NDArray[np.uint32], lengths: NDArray[np.int32]) -> Iterator[NDArray[np.int64]]:
    done = 0
    while done < len(order):
        size = max(1, _TOKENS_PER_BATCH // int(lengths[order[done]]))
        yield order[done : done + size].astype(np.int64)
        done += size


def write_targets(
    model: PreTrainedModel,
    batches: MaskedBatches,
    folder: Path,
    *,
    top_k: int,
    temperature: float,
    hidden: bool,
    length: int,
    slots: int,
    bf16: bool,
    step: Step,
) -> None:
    """Runs a masked language model over the masked sequences of a corpus, in their order.

    Args:
        model: The teacher.
        batches: Sequences under one masking.
        folder: Gets, for each slot of a masking, `top_ids.npy` and `top_log_probabilities.npy` `(rows, slots, k)` and
            `log_rest.npy` `(rows, slots)` when `top_k` is not 0, and with `hidden` the last hidden states, `hidden.npy`
            `(rows, slots, hidden)` and, of each first token, `first_hidden.npy` `(rows, hidden)`, in half precision.
        top_k: Tokens whose probabilities are kept; 0 for a teacher without a head.
        temperature: Softens them.
        hidden: Keep hidden states.
        length: Tokens of a sequence.
        slots: Hidden tokens of a sequence at most.
        bf16: Compute in bf16.
        step: Progress, in sequences.
    """
    device = _ready(model)
    names = input_names(model.config.model_type)
    rows, vocabulary, width = len(batches), int(model.config.vocab_size), int(model.config.hidden_size)
    ids = np.uint16 if vocabulary <= 1 << 16 else np.int32
    layout: dict[str, tuple[type, tuple[int, ...]]] = {}
    if top_k:
        k = min(top_k, vocabulary)
        layout |= {"top_ids": (ids, (slots, k)), "top_log_probabilities": (np.float32, (slots, k))}
        layout["log_rest"] = (np.float32, (slots,))
    if hidden:
        layout |= {"hidden": (np.float16, (slots, width)), "first_hidden": (np.float16, (width,))}
    size = max(1, _TOKENS_PER_BATCH // length)
    with ExitStack() as files, torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=bf16):
        writers = {
            name: files.enter_context(ArrayWriter(folder / f"{name}.npy", dtype, shape, rows))
            for name, (dtype, shape) in layout.items()
        }
        for start in range(0, rows, size):
            batch = {
                name: value.to(device)
                for name, value in batches.batch([*range(start, min(start + size, rows))]).items()
            }
            inputs = {name: batch[name] for name in names if name in batch}
            if top_k:
                with head_at(model, batch["row"], batch["column"]):
                    outputs = model(**inputs, output_hidden_states=True)
                last = outputs.hidden_states[-1].float()
                found = dict(
                    zip(
                        ("top_ids", "top_log_probabilities", "log_rest"),
                        top_k_targets(outputs.logits[0].float(), k, temperature),
                        strict=True,
                    )
                )
            else:
                last, found = model.base_model(**inputs).last_hidden_state.float(), {}
            if hidden:
                found["hidden"] = last[batch["row"], batch["column"]]
                writers["first_hidden"].append(last[:, 0].cpu().numpy())
            for name, values in found.items():
                writers[name].append(_in_slots(values.cpu().numpy(), batch, len(last), slots))
            step.update(start + len(last), rows)


def _in_slots(
    values: NDArray[np.generic], batch: dict[str, torch.Tensor], rows: int, slots: int
) -> NDArray[np.generic]:
    """Values of the hidden tokens `(hidden, …)`, laid out as `(rows, slots, …)`; unused slots are 0."""
    row = batch["row"].cpu().numpy()
    first = np.searchsorted(row, row)  # where the row's tokens start
    laid = np.zeros((rows, slots, *values.shape[1:]), dtype=values.dtype)
    laid[row, np.arange(len(row)) - first] = values
    return laid


def _ready(model: PreTrainedModel) -> torch.device:
    model.eval()
    device = devices.device()
    model.to(device)
    return device
