"""Has the files that are made of a sentence encoder give its vectors in smaller precisions, beside floats."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from compressor.errors import StageError
from compressor.models.checkpoint import Checkpoint
from compressor.models.sentence_embedding import KEY, SentenceEmbedding
from compressor.models.small_vectors import BITS, Precision, int8_scale


def give(folder: Path, precisions: Sequence[Precision]) -> None:
    """Writes into a checkpoint's config.json what its files are to give.

    Args:
        folder: A checkpoint of ours.
        precisions: The smaller precisions; none for floats alone, or of a checkpoint that makes no vectors.

    Raises:
        StageError: Bits do not fill whole bytes.
    """
    if not precisions:
        return
    checkpoint = Checkpoint(folder)
    given = SentenceEmbedding(**checkpoint.config[KEY])
    dimensions = given.dense or checkpoint.hidden_size
    if why := misfit(precisions, dimensions):
        raise StageError(f"{why[0]}; {why[1]}")
    scale = int8_scale(dimensions) if "int8" in precisions else None
    settings = replace(given, precisions=tuple(precisions), int8_scale=scale).settings()
    content = json.dumps({**checkpoint.config, KEY: settings}, indent=2, sort_keys=True)
    (folder / "config.json").write_text(content + "\n", encoding="utf-8")


def misfit(precisions: Sequence[Precision], dimensions: int) -> tuple[str, str] | None:
    """Why vectors of so many numbers cannot be given in some precisions, and the way out; None if they can."""
    if "binary" not in precisions or dimensions % BITS == 0:
        return None
    what = f"has binary, and vectors have {dimensions} numbers, which do not fill whole bytes"
    return what, f"drop binary, or have {dimensions // BITS * BITS} numbers or another multiple of {BITS}"
