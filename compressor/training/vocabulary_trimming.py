"""Vocabularies trimmed to the tokens that occur, in the training rows or in raw text."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from compressor.errors import StageError
from compressor.models import loading, tokenizers
from compressor.models.convert import from_parts, to_parts
from compressor.models.surgery.vocabulary import with_tokens
from compressor.models.tokenizers import Texts
from compressor.progress import Step
from compressor.training.context import Context, Facts
from compressor.training.spec import TrainingSpec, VocabularySpec
from compressor.training.train_stage import row_batches

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

Ints = NDArray[np.int64]

_TEXTS_AT_ONCE = 1024


def trimmed(source: Path, folder: Path, spec: TrainingSpec, limits: VocabularySpec, context: Context) -> Facts:
    """Writes a checkpoint with fewer tokens.

    Args:
        source: The checkpoint with all of them.
        folder: Where the new one goes.
        spec: The stage's keys.
        limits: What stays.
        context: Rows, or the text to count in; progress.

    Returns:
        `vocabulary`: tokens `before` and `after`, how many `texts` were read, and the shares of them and of their
        tokens that are split otherwise now, and would be if they were new; `notes`: the same in words.

    Raises:
        StageError: There is no text, or fewer tokens are asked for than have to stay.
    """
    tokenizer = loading.load_tokenizer(source)
    texts = row_batches(source, spec, context).token_ids
    if context.texts is not None:
        texts = _of_texts(context.texts, tokenizer)
    whole = to_parts(loading.load_model(source, context.model_head, **context.head))
    size = len(whole.outside["word.weight"])
    with context.progress.step(f"{context.stage}: counting tokens") as step:
        counts, read = _count(texts, size, step)
        if not counts.any():
            raise StageError("vocabulary.corpus has no text to count tokens in; name another, or leave it out")
        parts = json.loads(tokenizer.backend_tokenizer.to_str())
        smaller = tokenizers.trim(parts, counts, keep=limits.keep, min_count=limits.min_count)
        gone = np.ones(size, dtype=np.bool_)
        gone[smaller.sources] = False
        changed, unfamiliar = tokenizers.changes(texts, gone, counts - smaller.needed)
    model = from_parts(with_tokens(whole, torch.from_numpy(smaller.sources)))
    loading.save(folder, model, tokenizer)
    (folder / "tokenizer.json").write_text(json.dumps(smaller.tokenizer, ensure_ascii=False), encoding="utf-8")
    before, after = len(tokenizer), len(smaller.sources)
    of = "training rows" if context.texts is None else "texts"
    note = (
        f"The vocabulary went from {before:,} to {after:,} tokens. Of {read:,} {of}, {changed.texts:.2%} are now split "
        f"otherwise, where {changed.tokens:.2%} of all tokens stood. Of new text of this kind it would be about "
        f"{unfamiliar.texts:.0%} and {unfamiliar.tokens:.1%}: so much of each was in none of the others. What could be "
        "split before still can."
    )
    shares = {**changed.to_facts(""), **unfamiliar.to_facts("new_")}
    return {"vocabulary": {"before": before, "after": after, "texts": read, **shares}, "notes": [note]}


def _of_texts(texts: Callable[[], Iterator[str]], tokenizer: PreTrainedTokenizerBase) -> Texts:
    """Raw texts as a tokenizer reads them, whole and without special tokens.

    Args:
        texts: The texts; from the first one whenever it is called.
        tokenizer: The tokenizer.
    """

    def read() -> Iterator[list[Ints]]:
        source = texts()
        while some := list(islice(source, _TEXTS_AT_ONCE)):
            found = tokenizer(some, add_special_tokens=False, return_attention_mask=False, verbose=False)
            yield [np.asarray(ids, dtype=np.int64) for ids in found["input_ids"]]

    return read


def _count(texts: Texts, vocabulary: int, step: Step) -> tuple[Ints, int]:
    """How often each token occurs, and in how many texts.

    Args:
        texts: The texts.
        vocabulary: Number of token ids.
        step: Progress, in texts.

    Returns:
        Counts `(vocabulary,)` and the number of texts.
    """
    counts, read = np.zeros(vocabulary, dtype=np.int64), 0
    for some in texts():
        counts += np.bincount(np.concatenate(some), minlength=vocabulary)
        read += len(some)
        step.update(read)
    return counts, read
