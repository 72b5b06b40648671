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
    quiet = {"show_progress": False, "special_tokens": SPECIAL}
    words, mark = pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace()
    tokenizer = Tokenizer(BPE(unk_token="<unk>"))
    trainer: Any = trainers.BpeTrainer(vocab_size=190, **quiet)
    tokenizer.pre_tokenizer = words
    if kind == "roberta":
        tokenizer = Tokenizer(BPE())
        tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(False), decoders.ByteLevel()
        trainer = trainers.BpeTrainer(vocab_size=400, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), **quiet)
    elif kind == "ends of words":
        tokenizer.model = BPE(unk_token="<unk>", end_of_word_suffix="</w>")
        trainer = trainers.BpeTrainer(vocab_size=190, end_of_word_suffix="</w>", **quiet)
    elif kind == "prefix":
        tokenizer.model = BPE(unk_token="<unk>", continuing_subword_prefix="##", fuse_unk=True)
        trainer = trainers.BpeTrainer(vocab_size=190, continuing_subword_prefix="##", **quiet)
    elif kind in ("fallback", "all splits"):
        tokenizer.pre_tokenizer = mark
    elif kind in ("xlm-r", "albert", "unigram fallback", "gaps"):
        tokenizer = Tokenizer(Unigram())
        tokenizer.pre_tokenizer = mark if kind == "albert" else pre_tokenizers.Sequence([words, mark])
        if kind != "xlm-r":  # whose class knows SentencePiece's own normalizer only
            tokenizer.normalizer = normalizers.NFKC()
        trainer = trainers.UnigramTrainer(vocab_size=150, unk_token="<unk>", **quiet)
    tokenizer.train_from_iterator(TEXT, trainer)
    model = parts_of(tokenizer)["model"]
    if kind == "fallback":
        ids = {piece: index for index, piece in enumerate([*model["vocab"], *BYTES])}
        tokenizer.model = BPE(ids, [tuple(pair) for pair in model["merges"]], unk_token="<unk>", byte_fallback=True)
    elif kind == "all splits":
        tokenizer.model = BPE(model["vocab"], pair_merges(model["vocab"]), unk_token="<unk>")
    elif kind == "unigram fallback":
        scored = [(piece, score) for piece, score in model["vocab"] if piece not in "ü電"]
        tokenizer.model = Unigram([*scored, *((byte, -30.0) for byte in BYTES)], 3, byte_fallback=True)
    elif kind == "gaps":  # characters that have no piece of their own
        tokenizer.model = Unigram([(p, score) for p, score in model["vocab"] if p not in "hmü"], 3)
    tokenizer.add_special_tokens(SPECIAL)
    ends = [(name, tokenizer.token_to_id(name)) for name in ("</s>", "<s>")]
    tokenizer.post_processor = processors.RobertaProcessing(*ends, trim_offsets=True, add_prefix_space=False)
    return tokenizer


def wrapped(kind: str) -> Any:
    """The same as transformers has it: a RoBERTa's, an XLM-R's, or one of no class of its own."""
    own = {"roberta": transformers.RobertaTokenizerFast, "xlm-r": transformers.XLMRobertaTokenizerFast}
    names = dict(zip(("bos", "pad", "eos", "unk", "mask"), SPECIAL, strict=True)) | {"cls": "<s>", "sep": "</s>"}
    return own.get(kind, transformers.PreTrainedTokenizerFast)(
        tokenizer_object=trained(kind),
        model_max_length=MAX_POSITIONS,
        **{f"{name}_token": token for name, token in names.items()},
    )
