"""Texts of a corpus as sequences of tokens on disk: memory stays flat whatever the size of the corpus."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from compressor.data.corpus.seen import SEEN_FILE, SeenTexts
from compressor.data.corpus.sentence_pairs import Pairs, sentences
from compressor.data.corpus.sequences import FullSequences, Side
from compressor.data.corpus.stream import PLACE, held_out, paragraphs
from compressor.data.spec import CorpusSpec
from compressor.errors import Problem, RecipeError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TRAIN, VALIDATION, SELECTION = "train.npy", "validation.npy", "selection.npy"
"""The files that `pack` writes; for pairs of segments, see also `compressor.data.corpus.sentence_pairs`."""
BATCH_PIECES, BATCH_CHARACTERS = 1000, 1 << 20
"""Paragraphs, or sentences, are tokenized together up to one of these limits."""


class _Part(NamedTuple):
    """A paragraph or a sentence: the file it goes to, whether a text begins with it, and its text."""

    file: str
    begins: bool
    text: str


def pack(
    texts: Iterable[str],
    spec: CorpusSpec,
    tokenizer: PreTrainedTokenizerBase,
    length: int,
    held_out_fraction: float,
    output: Path,
    tell: Callable[[int], None],
    *,
    selects: bool = False,
) -> dict[str, int]:
    """Tokenizes texts and packs them into sequences of one length: see `FullSequences` and, for pairs, `Pairs`.

    Args:
        texts: The texts; each goes to one side as a whole.
        spec: How paragraphs are separated, and whether sequences are pairs of segments.
        tokenizer: A fast tokenizer with [CLS], [SEP] and [PAD].
        length: Tokens of a sequence, at least 3, for pairs 5.
        held_out_fraction: Share of the texts that goes to validation.
        output: Folder; gets `train.npy` and `validation.npy`, `(rows, length)`, uint16 if the vocabulary fits, and
            `SEEN_FILE`, which tells what texts there are to train on.
        tell: Takes the bytes of text read so far.
        selects: Whether to hold out the same share of the other texts, for `selection.npy`, to choose models on.

    Returns:
        `texts`, `bytes` (of UTF-8) and `tokens` (without special ones) of the corpus; `train`, `validation`,
        `selection`: rows.

    Raises:
        RecipeError: There is no text for one of the sides, or the tokenizer lacks a special token.
    """
    counts = {"texts": 0, "bytes": 0, "tokens": 0}

    def file_of(text: str) -> str:
        if held_out(text, held_out_fraction):
            return VALIDATION
        return SELECTION if selects and held_out(text, held_out_fraction, SELECTION) else TRAIN

    with ExitStack() as stack:
        seen = stack.enter_context(SeenTexts(output / SEEN_FILE, spec.separator))
        sides = {
            name: stack.enter_context(_side(output / name, spec, tokenizer, length))
            for name in (TRAIN, VALIDATION, *[SELECTION] * selects)
        }
        for batch in _batches(_parts(texts, spec, file_of, counts, seen)):
            encoded = tokenizer(
                [part.text for part in batch],
                add_special_tokens=False,
                return_attention_mask=False,
                return_token_type_ids=False,
                verbose=False,  # else it warns of every paragraph longer than the model takes
            )["input_ids"]
            counts["tokens"] += sum(map(len, encoded))
            for name, side in sides.items():
                side.add((part.begins, ids) for part, ids in zip(batch, encoded, strict=True) if part.file == name)
            tell(counts["bytes"])
    tell(counts["bytes"])
    rows = {Path(name).stem: side.rows for name, side in sides.items()}
    _require_both_sides(spec, counts["texts"], rows["train"], rows["validation"])
    return {**counts, **rows}


def _side(path: Path, spec: CorpusSpec, tokenizer: PreTrainedTokenizerBase, length: int) -> Side:
    return (Pairs if spec.sentence_order else FullSequences)(path, tokenizer, length)


def _require_both_sides(spec: CorpusSpec, texts: int, train: int, validation: int) -> None:
    if not texts:
        hint = "check the file, its text column and data.corpus.fraction"
        raise RecipeError([Problem(PLACE, "has no text", hint, kind="missing")])
    for name, rows in (("train", train), ("validation", validation)):
        if not rows:
            hint = "give more texts, or another data.corpus.validation_fraction"
            if spec.sentence_order:
                hint += "; a pair of segments needs a text of two sentences (data.corpus.sentence_order)"
            raise RecipeError(
                [
                    Problem(
                        PLACE,
                        f"no sequence is left for {name} of {texts} text{'s' * (texts > 1)}",
                        hint,
                        kind="missing",
                    )
                ]
            )


def _parts(
    texts: Iterable[str], spec: CorpusSpec, file_of: Callable[[str], str], counts: dict[str, int], seen: SeenTexts
) -> Iterator[_Part]:
    """Paragraphs, or sentences where pairs are made of them; counts texts and bytes on the way."""
    for text in texts:
        counts["texts"] += 1
        counts["bytes"] += len(text.encode())
        file = file_of(text)
        if file == TRAIN:
            seen.add(text)
        begins = True
        for paragraph in paragraphs(text, spec.separator):
            for part in sentences(paragraph) if spec.sentence_order else [paragraph]:
                yield _Part(file, begins, part)
                begins = False


def _batches(parts: Iterable[_Part]) -> Iterator[list[_Part]]:
    batch: list[_Part] = []
    characters = 0
    for part in parts:
        batch.append(part)
        characters += len(part.text)
        if len(batch) == BATCH_PIECES or characters >= BATCH_CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
