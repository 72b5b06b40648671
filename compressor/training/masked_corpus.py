"""A corpus as training data: the sequences, and the tokens hidden in them, the same for teacher and student."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressor.data.corpus.masking import Masked, Vocabulary, mask
from compressor.data.corpus.packing import TRAIN
from compressor.files import ArrayWriter
from compressor.models import loading, tokenizer_files
from compressor.training import processes
from compressor.training.context import Context
from compressor.training.sequences import Sequences
from compressor.training.spec import ObjectiveSpec
from compressor.training.train_stage import max_sequence_length

_ROWS_AT_ONCE = 4096
_MOST_MASKINGS, _MOST_OF_PAIRS = 4, 16


def sequences(source: Path, spec: ObjectiveSpec, context: Context) -> Sequences:
    """The sequences a stage trains on: all, or as many as its `max_steps` can read, drawn by seed.

    Args:
        source: Checkpoint whose tokenizer is used.
        spec: The stage's keys.
        context: The corpus, the seed.
    """
    tokenizer = loading.load_tokenizer(source)
    length = max_sequence_length(source, spec, context.task)
    path = context.packed(tokenizer, length) / TRAIN
    rows = len(np.load(path, mmap_mode="r"))
    wanted = rows
    if spec.max_steps is not None:
        wanted = min(rows, spec.max_steps * spec.batch_size * spec.gradient_accumulation_steps * processes.count())
    chosen = np.arange(rows)
    if wanted < rows:
        chosen = np.sort(np.random.default_rng(context.seed).permutation(rows)[:wanted])
    return Sequences(path, chosen, length, tokenizer.pad_token_id or 0)


def num_maskings(spec: ObjectiveSpec, sequences: Sequences) -> int:
    """How many maskings a stage's epochs take turns with; of pairs an even number, for both orders of each."""
    epochs = spec.epochs
    if spec.max_steps is not None:
        together = spec.batch_size * spec.gradient_accumulation_steps * processes.count()
        epochs = spec.max_steps * together / len(sequences)
    most = _MOST_OF_PAIRS if sequences.pairs else _MOST_MASKINGS
    count = spec.maskings or min(most, max(1, math.ceil(epochs)))
    return count + count % 2 if sequences.pairs else count


def slots(sequence_length: int, probability: float) -> int:
    """Hidden tokens of a sequence at most."""
    return max(1, round(probability * (sequence_length - 2)))


def masking(source: Path, data: Sequences, spec: ObjectiveSpec, context: Context, index: int) -> Path:
    """The folder of one masking of the sequences: `positions.npy` and `inputs.npy`, `(rows, slots)`.

    Args:
        source: Checkpoint whose tokenizer is used.
        data: The sequences.
        spec: Share and kind of what is hidden.
        context: The seed; keeps it.
        index: Which masking.
    """

    def build(folder: Path) -> dict[str, int]:
        tokenizer = loading.load_tokenizer(source)
        width, sequences = slots(data.length, spec.hidden_share), data.under(index)
        vocabulary = Vocabulary.of(tokenizer, whole_words=spec.masking == "whole_word")
        rows, row = len(data), (width,)
        places = np.int16 if data.length < 1 << 15 else np.int32
        ids = np.uint16 if len(tokenizer) <= 1 << 16 else np.int32
        with (
            context.progress.step(f"{context.stage}: masking {len(data)} sequences") as step,
            ArrayWriter(folder / "positions.npy", places, row, rows) as positions,
            ArrayWriter(folder / "inputs.npy", ids, row, rows) as inputs,
        ):
            for start in range(0, len(data), _ROWS_AT_ONCE):
                tokens = sequences.tokens(np.arange(start, min(start + _ROWS_AT_ONCE, len(data))))
                masked = _masked(tokens, vocabulary, spec, (context.seed, index, start), width)
                positions.append(_fit(masked.positions, width, -1))
                inputs.append(_fit(masked.inputs, width, 0))
                step.update(start + len(tokens), len(data))
        return {"sequences": len(data)}

    return context.memo(
        ("compressor.training.masked_corpus",), masking_inputs(source, data, spec, context, index), build
    )


def masking_inputs(source: Path, data: Sequences, spec: ObjectiveSpec, context: Context, index: int) -> dict[str, Any]:
    """The inputs that determine a masking."""
    return {
        "tokenizer": tokenizer_files.splitting_digest(loading.load_tokenizer(source)),
        "length": data.length,
        "sequences": len(data),
        "masking": spec.masking,
        "mlm_probability": spec.hidden_share,
        "seed": context.seed,
        "index": index,
    }


def _masked(
    tokens: NDArray[np.int64], vocabulary: Vocabulary, spec: ObjectiveSpec, seed: tuple[int, ...], width: int
) -> Masked:
    return mask(
        tokens,
        vocabulary,
        probability=spec.hidden_share,
        whole_words=spec.masking == "whole_word",
        seed=seed,
        most=width,
    )


def _fit(values: NDArray[np.integer], width: int, fill: int) -> NDArray[np.integer]:
    """Columns filled up to a width."""
    assert values.shape[1] <= width, "no row has more hidden tokens than slots"
    fitted = np.full((len(values), width), fill, dtype=values.dtype)
    fitted[:, : values.shape[1]] = values
    return fitted
