"""How many tokens the rows have, by the checkpoint's own tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from compressor.drafting.guess import CHECKPOINT, refused
from compressor.drafting.rows import spread
from compressor.files import read_json
from compressor.models import tokenizer_files
from compressor.models.checkpoint import Checkpoint

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_ROWS = 1000
_MOST_CHARACTERS = 20_000
"""Of a text: more than any position table has room for."""
_STEP = 16
_LONG = 128
_MOST = 256
"""Longer texts are cut where the recipe does not know better: training takes time in proportion."""


@dataclass(frozen=True)
class Lengths:
    """The lengths of some rows, and what a recipe makes of them.

    Attributes:
        median: Tokens of a row, special tokens included.
        p95: Tokens that 95 % of the rows stay within.
        p99: Tokens that 99 % of the rows stay within.
        limit: Tokens to cut rows to: a multiple of 16, within the position table.
        cut: Share of the rows that are longer.
    """

    median: int
    p95: int
    p99: int
    limit: int
    cut: float


def measure(checkpoint: Checkpoint, texts: Sequence[Any], usual: int | None = None) -> Lengths:
    """The lengths of at most 1,000 of the rows, evenly spaced.

    Args:
        checkpoint: Its tokenizer and its position table.
        texts: A text, a pair of texts, or a list of words for each row; nothing where no rows are here.
        usual: Tokens that rows are cut to whatever their lengths; None to go by them.

    Raises:
        RecipeError: The tokenizer cannot be loaded.
    """
    if not texts:
        return Lengths(0, 0, 0, min(usual or _LONG, checkpoint.max_sequence_length()), 0.0)
    tokenizer = _tokenizer(checkpoint.path)
    split = isinstance(texts[0], list)
    given = [_cut(row) for row in spread(texts, _ROWS)]
    counts = np.asarray([len(row.ids) for row in tokenizer.encode_batch(given, is_pretokenized=split)])
    median, p95, p99 = (int(np.ceil(np.percentile(counts, share))) for share in (50, 95, 99))
    if usual is None:
        enough = p99 if p99 <= _LONG or split else min(p95, _MOST)
        usual = max(_STEP, -(-enough // _STEP) * _STEP)
    limit = min(usual, checkpoint.max_sequence_length())
    return Lengths(median, p95, p99, limit, float((counts > limit).mean()))


def _cut(row: Any) -> Any:
    if isinstance(row, list):
        return row
    if isinstance(row, str):
        return row[:_MOST_CHARACTERS]
    cut = tuple(text[:_MOST_CHARACTERS] for text in row)
    return cut[0] if len(cut) == 1 else cut


def _tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer as its files say, without truncation and padding."""
    from tokenizers import BertWordPieceTokenizer, Tokenizer

    whole = (folder / tokenizer_files.TOKENIZER).is_file()
    file = folder / (tokenizer_files.TOKENIZER if whole else tokenizer_files.VOCABULARY)
    config = folder / tokenizer_files.CONFIG
    lower = read_json(config).get("do_lower_case", True) if config.is_file() else True
    try:
        if whole:
            found = Tokenizer.from_file(str(file))
        else:
            words = BertWordPieceTokenizer(str(file), lowercase=bool(lower))
            found = Tokenizer.from_str(words.to_str())
    except Exception as error:  # the library's own errors have no class of their own
        hint = "save the tokenizer again: AutoTokenizer.from_pretrained(...).save_pretrained(folder)"
        raise refused(CHECKPOINT, f"{file} cannot be loaded: {error}", hint, "unreadable") from None
    found.no_truncation()
    found.no_padding()
    return found
