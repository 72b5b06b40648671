"""The teacher's answers: computed once over the training rows, reused in every epoch and by every student."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from compressor.checkpoint import input_names
from compressor.progress import Step

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_TOKENS_PER_BATCH = 2048
"""Enough for the matrix products to run at full speed on a CPU, small enough to stay in its caches."""


def write_logits(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: Dataset, path: Path, step: Step
) -> None:
    """Runs a model over rows, longest batches first, and writes its logits in the rows' order.

    Args:
        model: The teacher.
        tokenizer: Pads the batches.
        rows: Token ids and `length`.
        path: A new .npy file of float32, `(rows, …)`.
        step: Progress, in rows.
    """
    model.eval()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device)
    names = [name for name in input_names(model.config.model_type) if name in rows.column_names]
    lengths = np.asarray(rows["length"])
    order = np.argsort(-lengths, kind="stable")
    output: np.memmap[tuple[int, ...], np.dtype[np.float32]] | None = None
    done = 0
    with torch.inference_mode():
        while done < len(order):
            size = max(1, _TOKENS_PER_BATCH // int(lengths[order[done]]))
            indices = order[done : done + size]
            chunk = rows[indices]
            batch = tokenizer.pad({name: chunk[name] for name in names}, return_tensors="pt").to(device)
            logits = model(**batch).logits.float().cpu().numpy()
            if output is None:
                shape = (len(order), *logits.shape[1:])
                output = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
            output[indices] = logits
            done += len(indices)
            step.update(done, len(order))
    assert output is not None, "there is at least one row"
    output.flush()
