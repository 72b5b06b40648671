"""Compares the vectors of every file that a sentence encoder ships with torch's: the smallest and the mean cosine.

    python benchmarks/embedding_formats.py artifacts/NAME/model --texts texts.txt

Each text is asked alone, as it is; then with 31 others, padded (where a file takes several rows); then texts are cut or
repeated to every length from 1 token to the longest, in steps. The columns "batch" and "lengths" are the smallest
cosines with torch's vectors there. A Core ML package is evaluated, not run, for fewer texts.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from compressor.errors import CompressError
from compressor.models import loading
from compressor.models.checkpoint import Checkpoint
from compressor.models.outputs import EMBEDDING
from compressor.runtimes import RUNTIMES, TORCH, Session
from compressor.runtimes.base import Inputs
from compressor.runtimes.shipped import shipped
from compressor.tasks.scoring.cosine import cosines

_BATCH, _LENGTHS, _EVALUATED = 32, 12, 50
_ONE_ROW = ("executorch", "coreml")
Vectors = NDArray[np.float32]


def asked(session: Session, batches: Sequence[Inputs]) -> Vectors:
    """The vectors of batches. `(texts, dimensions)`."""
    return np.concatenate([session.predict(batch)[EMBEDDING] for batch in batches])


def alone(rows: Sequence[Sequence[int]]) -> Iterator[Inputs]:
    """Each text in a batch of its own."""
    return (batch for row in rows for batch in padded([row], 0, 1))


def padded(rows: Sequence[Sequence[int]], padding: int, size: int) -> Iterator[Inputs]:
    """Batches of several texts, padded to the longest of each."""
    for start in range(0, len(rows), size):
        taken = rows[start : start + size]
        ids = np.full((len(taken), max(map(len, taken))), padding, dtype=np.int64)
        mask = np.zeros_like(ids)
        for index, row in enumerate(taken):
            ids[index, : len(row)], mask[index, : len(row)] = row, 1
        yield {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--texts", type=Path, required=True, help="one text a line")
    parser.add_argument("--count", type=int, default=1000, help="texts")
    given = parser.parse_args()
    tokenizer, longest = loading.load_tokenizer(given.folder), Checkpoint(given.folder).max_sequence_length()
    lines = given.texts.read_text(encoding="utf-8").splitlines()[: given.count]
    rows: list[list[int]] = tokenizer(lines, truncation=True)["input_ids"]
    every = [token for row in rows for token in row][:longest]
    lengths = np.unique(np.linspace(1, longest, _LENGTHS).astype(int))
    of_lengths = [every[:length] for length in lengths]
    torch = TORCH.session(given.folder, 1)
    expected, expected_lengths = asked(torch, list(alone(rows))), asked(torch, list(alone(of_lengths)))
    print("| file | texts | smallest cosine | mean | batch | lengths |\n|---|---|---|---|---|---|")
    for entry in shipped(given.folder):
        runtime = RUNTIMES[entry.runtime]
        if runtime.takes_texts or entry.length is not None:
            continue
        session, count = runtime.session(given.folder / entry.file, 1), len(rows) if entry.ran else _EVALUATED
        found = cosines(asked(session, list(alone(rows[:count]))), expected[:count])
        cells = ["–", "–"]
        if entry.runtime not in _ONE_ROW:
            together = asked(session, list(padded(rows, tokenizer.pad_token_id, _BATCH)))
            cells[0] = f"{cosines(together, expected).min():.6f}"
        try:
            cells[1] = f"{cosines(asked(session, list(alone(of_lengths))), expected_lengths).min():.6f}"
        except (CompressError, RuntimeError) as error:
            cells[1] = f"refused: {error}"
        print(f"| {entry.name} | {count} | {found.min():.6f} | {found.mean():.6f} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
