"""A BERT tokenizer as ONNX operators, of which onnxruntime-extensions has those for strings.

Its `BertTokenizer` operator is not used: it takes one text at a time, strips accents from Latin letters only, and of a
word that has no tokens it keeps the beginning. What happens to each character is asked of the tokenizer instead, of all
there are, and goes into the graph as a table.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressor.files import read_json
from compressor.models import tokenizer_files
from compressor.runtimes.baked_tokenizer.characters import Characters, character_class, characters
from compressor.runtimes.onnx.builder import Graph

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

DOMAIN = "ai.onnx.contrib"
"""Operators of onnxruntime-extensions."""

_INT64 = 7  # TensorProto.INT64


def unsupported(parts: dict[str, Any]) -> str | None:
    """Why a tokenizer cannot be written as ONNX operators; None if it can.

    Args:
        parts: The parsed tokenizer.json.
    """
    if (kind := tokenizer_files.model_kind(parts["model"])) != "WordPiece":
        return f"its model is {kind}, not WordPiece"
    for part, kind in (("normalizer", "BertNormalizer"), ("pre_tokenizer", "BertPreTokenizer")):
        found = (parts.get(part) or {}).get("type")
        if found != kind:
            return f"its {part} is {found}, not {kind}"
    for token in parts["added_tokens"]:
        if any(token[flag] for flag in ("single_word", "lstrip", "rstrip", "normalized")):
            return f"its added token {token['content']!r} asks for more than to be found as it is"
        if token["content"].split() != [token["content"]]:
            return f"its added token {token['content']!r} is more than a word"
    return None


def unsupported_files(folder: Path) -> str | None:
    """The same of a tokenizer's files; None where there is no tokenizer.json, or none that can be read."""
    try:
        parts = read_json(folder / tokenizer_files.TOKENIZER)
        config = read_json(folder / tokenizer_files.CONFIG) if (folder / tokenizer_files.CONFIG).is_file() else {}
        side = config.get("truncation_side", (parts.get("truncation") or {}).get("direction", "right"))
        return cut_elsewhere(str(side)) or unsupported(parts)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def cut_elsewhere(side: str) -> str | None:
    """Why a tokenizer that cuts long texts on a side cannot be written; None if it can."""
    return None if side.lower() == "right" else f"it cuts texts on the {side.lower()}, not on the right"


@dataclass(frozen=True)
class Pieces:
    """The tokens of a batch of texts, end to end.

    Attributes:
        ids: Of all texts. `(tokens,)`
        starts: Where each text's first token is, the special token in front left out. `(batch,)`
        counts: How many there are. `(batch,)`
    """

    ids: str
    starts: str
    counts: str


@dataclass(frozen=True)
class Tokenizer:
    """The parts of a tokenizer that a graph contains.

    Attributes:
        vocabulary: Ids by token.
        characters: What becomes of each character.
        special: Tokens that are found in texts as they are.
        unknown: The token for words that have none.
        prefix: What the tokens inside a word begin with.
        longest_word: Characters of a word that has tokens.
        first: The token in front, `[CLS]`.
        last: The token behind a text, `[SEP]`.
        padding: Id of the token that fills rows up.
    """

    vocabulary: dict[str, int]
    characters: Characters
    special: tuple[str, ...]
    unknown: str
    prefix: str
    longest_word: int
    first: str
    last: str
    padding: int

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase) -> Tokenizer:
        """Reads a tokenizer that is not `unsupported`."""
        parts = json.loads(tokenizer.backend_tokenizer.to_str())
        model = parts["model"]
        special = {token["content"]: token["id"] for token in parts["added_tokens"]}
        return cls(
            vocabulary={**model["vocab"], **special},
            characters=characters(json.dumps(parts["normalizer"]), json.dumps(parts["pre_tokenizer"])),
            special=tuple(sorted(special, key=lambda token: (-len(token), token))),
            unknown=model["unk_token"],
            prefix=model["continuing_subword_prefix"],
            longest_word=model["max_input_chars_per_word"],
            first=str(tokenizer.cls_token),
            last=str(tokenizer.sep_token),
            padding=int(tokenizer.pad_token_id),
        )

    def pieces(self, graph: Graph, texts: str) -> Pieces:
        """Splits a batch of texts into tokens.

        Args:
            graph: Gets the nodes.
            texts: Name of a vector of strings.
        """
        words, begins = self._words(graph, texts)
        none = graph.integers([])
        vocabulary = json.dumps(dict(sorted(self.vocabulary.items(), key=lambda item: item[1])), ensure_ascii=False)
        tokens, _, starts, ends = graph.add(
            "WordpieceTokenizer",
            words,
            none,
            outputs=4,
            domain=DOMAIN,
            vocab=vocabulary,
            suffix_indicator=self.prefix,
            unknown_token=self.unknown,
            max_input_chars_per_word=self.longest_word,
        )
        by_id = sorted(self.vocabulary, key=lambda token: self.vocabulary[token])
        ids = graph.add(
            "LabelEncoder",
            tokens,
            domain="ai.onnx.ml",
            keys_strings=by_id,
            values_int64s=[self.vocabulary[token] for token in by_id],
            default_int64=self.vocabulary[self.unknown],
        )
        return self._without_beginnings(graph, ids, starts, ends, begins)

    def _words(self, graph: Graph, texts: str) -> tuple[str, str]:
        """Words of all texts, in each `first` before all others, so that none is empty; where each text begins."""
        chars = self.characters
        special = "|".join(re.escape(token) for token in self.special)
        alone = graph.strings(f"({special}|{character_class(chars.alone)})")
        text = _replace(graph, texts, alone, graph.strings(r" \1 "))
        text = _replace(graph, text, graph.strings(character_class(chars.removed)), graph.strings(""))
        text = _replace(graph, text, graph.strings(character_class(chars.spaces)), graph.strings(" "))
        text = _replace(graph, text, graph.strings(r"\A"), graph.strings(f"{self.first} "), first_only=True)
        each = graph.strings(f"({special}|(?s:.))")
        if chars.changed:
            units, _, _, rows = graph.add("StringRegexSplitWithOffsets", text, each, each, outputs=4, domain=DOMAIN)
            table = "\n".join(f"{before}\t{after}" for before, after in chars.changed.items())
            units = graph.add("StringMapping", units, domain=DOMAIN, map=table)
            text = _joined(graph, units, rows)
        space, kept = graph.strings("( +)"), graph.strings(r"([^\s\S])")
        words, _, _, rows = graph.add("StringRegexSplitWithOffsets", text, space, kept, outputs=4, domain=DOMAIN)
        return words, rows

    def _without_beginnings(self, graph: Graph, ids: str, starts: str, ends: str, begins: str) -> Pieces:
        """Drops what WordpieceTokenizer has found of words that end in something unknown: those are unknown as a whole.

        Args:
            graph: Gets the nodes.
            ids: Tokens of all words.
            starts: Where each word begins in it.
            ends: Where it ends.
            begins: Where each text begins in the words; one more than there are texts.
        """
        zero, one = graph.integers(0), graph.integers(1)
        # For each token, the index of its word.
        word_starts = graph.add(
            "ScatterElements",
            graph.add("Mul", ids, zero),
            starts,
            graph.add("Add", graph.add("Mul", starts, zero), one),
        )
        word = graph.add("Sub", graph.add("CumSum", word_starts, zero), one)
        unknown = graph.integers(self.vocabulary[self.unknown])
        last_ids = graph.add("Gather", ids, graph.add("Sub", ends, one))
        lost = graph.add("Gather", graph.add("Equal", last_ids, unknown), word)
        kept = graph.add("Or", graph.add("Equal", ids, unknown), graph.add("Not", lost))
        # How many tokens are kept before each, and of all.
        before = graph.add(
            "Concat", graph.integers([0]), graph.add("CumSum", graph.add("Cast", kept, to=_INT64), zero), axis=0
        )
        first_token = graph.add("Concat", starts, graph.add("Shape", ids), axis=0)
        bounds = graph.add("Gather", before, graph.add("Gather", first_token, begins))
        low, high = _bounds(graph, bounds)
        low = graph.add("Add", low, one)  # the special token in front
        return Pieces(graph.add("Compress", ids, kept, axis=0), low, graph.add("Sub", high, low))


def _bounds(graph: Graph, offsets: str) -> tuple[str, str]:
    """Where each part begins and where it ends, of offsets that are one more than there are parts."""
    low = graph.add("Slice", offsets, graph.integers([0]), graph.integers([-1]))
    return low, graph.add("Slice", offsets, graph.integers([1]), graph.integers([2**62]))


def _joined(graph: Graph, strings: str, offsets: str) -> str:
    """The strings of each part as one, `(parts,)`.

    Joined along the rows of a table; the operator of onnxruntime-extensions that is to make such a table gives an empty
    one (0.15).
    """
    column, empty = graph.integers([1]), graph.strings("")
    low, high = _bounds(graph, offsets)
    longest = graph.add("ReduceMax", graph.add("Sub", high, low), keepdims=0)
    places = graph.add("Range", graph.integers(0), longest, graph.integers(1))
    index = graph.add("Add", graph.add("Unsqueeze", low, column), places)
    inside = graph.add("Less", index, graph.add("Unsqueeze", high, column))
    index = graph.add("Where", inside, index, graph.add("Shape", strings))  # where the empty one is
    table = graph.add("Gather", graph.add("Concat", strings, empty, axis=0), index)
    text: str = graph.add("StringJoin", table, empty, column, domain=DOMAIN)
    return text


def _replace(graph: Graph, text: str, pattern: str, by: str, first_only: bool = False) -> str:
    replaced: str = graph.add(
        "StringRegexReplace", text, pattern, by, domain=DOMAIN, global_replace=0 if first_only else 1
    )
    return replaced
