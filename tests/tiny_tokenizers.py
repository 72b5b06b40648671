"""Small tokenizers of every kind, trained here on the words of the tests."""

from __future__ import annotations

import json
from typing import Any

import transformers
from conftest import MAX_POSITIONS, sentences
from tokenizers import Tokenizer, decoders, normalizers, pre_tokenizers, processors, trainers
from tokenizers.models import BPE, Unigram

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
TEXT = [text for text, _ in sentences(300, seed=4)] + [
    "Überaus schön, wasn't it?",
    "1999 – 電影 superb 😀!",
    "anna hannah",
]
BYTES = [f"<0x{byte:02X}>" for byte in range(256)]
KINDS = ["roberta", "ends of words", "prefix", "fallback", "all splits", "xlm-r", "albert", "unigram fallback", "gaps"]


def parts_of(tokenizer: Tokenizer) -> dict[str, Any]:
    return json.loads(tokenizer.to_str())


def pair_merges(vocabulary: dict[str, int]) -> list[tuple[str, str]]:
    """Every way to make a piece of two, as converters of SentencePiece models write them."""
    return [
        (piece[:cut], piece[cut:])
        for piece in vocabulary
        for cut in range(1, len(piece))
        if piece not in SPECIAL and piece[:cut] in vocabulary and piece[cut:] in vocabulary
    ]


def trained(kind: str) -> Tokenizer:
    """A small tokenizer of a kind, with all its special tokens."""
    unigram = kind in ("xlm-r", "albert", "unigram fallback", "gaps")
    tokenizer, trainer = _unigram(kind) if unigram else _byte_pairs(kind)
    tokenizer.train_from_iterator(TEXT, trainer)
    if (model := _changed(kind, parts_of(tokenizer)["model"])) is not None:
        tokenizer.model = model
    tokenizer.add_special_tokens(SPECIAL)
    ends = [(name, tokenizer.token_to_id(name)) for name in ("</s>", "<s>")]
    tokenizer.post_processor = processors.RobertaProcessing(*ends, trim_offsets=True, add_prefix_space=False)
    return tokenizer


def _byte_pairs(kind: str) -> tuple[Tokenizer, Any]:
    settings: dict[str, Any] = {"vocab_size": 190, "show_progress": False, "special_tokens": SPECIAL}
    if kind == "roberta":
        tokenizer = Tokenizer(BPE())
        tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(False), decoders.ByteLevel()
        settings |= {"vocab_size": 400, "initial_alphabet": pre_tokenizers.ByteLevel.alphabet()}
        return tokenizer, trainers.BpeTrainer(**settings)
    marks = {"ends of words": {"end_of_word_suffix": "</w>"}, "prefix": {"continuing_subword_prefix": "##"}}
    tokenizer = Tokenizer(BPE(unk_token="<unk>", fuse_unk=kind == "prefix", **marks.get(kind, {})))
    spaced = kind in ("fallback", "all splits")
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace() if spaced else pre_tokenizers.WhitespaceSplit()
    return tokenizer, trainers.BpeTrainer(**settings, **marks.get(kind, {}))


def _unigram(kind: str) -> tuple[Tokenizer, Any]:
    tokenizer, mark = Tokenizer(Unigram()), pre_tokenizers.Metaspace()
    words = pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), mark])
    tokenizer.pre_tokenizer = mark if kind == "albert" else words
    if kind != "xlm-r":  # whose class knows SentencePiece's own normalizer only
        tokenizer.normalizer = normalizers.NFKC()
    return tokenizer, trainers.UnigramTrainer(
        vocab_size=150, unk_token="<unk>", show_progress=False, special_tokens=SPECIAL
    )


def _changed(kind: str, model: dict[str, Any]) -> Any:
    """A model that no trainer makes, of one that is trained; None where it stays."""
    vocabulary = model["vocab"]
    if kind == "fallback":
        ids = {piece: index for index, piece in enumerate([*vocabulary, *BYTES])}
        return BPE(ids, [tuple(pair) for pair in model["merges"]], unk_token="<unk>", byte_fallback=True)
    if kind == "all splits":
        return BPE(vocabulary, pair_merges(vocabulary), unk_token="<unk>")
    if kind == "unigram fallback":
        scored = [(piece, score) for piece, score in vocabulary if piece not in "ü電"]
        return Unigram([*scored, *((byte, -30.0) for byte in BYTES)], 3, byte_fallback=True)
    if kind == "gaps":  # characters that have no piece of their own
        return Unigram([(piece, score) for piece, score in vocabulary if piece not in "hmü"], 3)
    return None


def wrapped(kind: str) -> Any:
    """The same as transformers has it: a RoBERTa's, an XLM-R's, or one of no class of its own."""
    own = {"roberta": transformers.RobertaTokenizerFast, "xlm-r": transformers.XLMRobertaTokenizerFast}
    names = dict(zip(("bos", "pad", "eos", "unk", "mask"), SPECIAL, strict=True)) | {"cls": "<s>", "sep": "</s>"}
    return own.get(kind, transformers.PreTrainedTokenizerFast)(
        tokenizer_object=trained(kind),
        model_max_length=MAX_POSITIONS,
        **{f"{name}_token": token for name, token in names.items()},
    )
