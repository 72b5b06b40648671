"""How a BERT tokenizer maps each character, found by calling the tokenizer."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache

_SEPARATOR = "|"
"""A character that every BERT tokenizer keeps as it is and takes for a word of its own."""
_PLANES = (range(1, 0xD800), range(0xE000, 0x34000), range(0xE0000, 0xE1000), range(0xF0000, 0x110000))
"""Characters of Unicode: all but surrogates, which no text has, and planes that are empty."""


@dataclass(frozen=True)
class Characters:
    """The mapping of each character before words are split into tokens.

    Attributes:
        removed: Those that vanish.
        spaces: Those that end a word.
        alone: Those that stay as they are and are words of their own: punctuation, Chinese characters.
        changed: What becomes of any other that does not stay as it is, spaces around words of their own included.
    """

    removed: tuple[str, ...]
    spaces: tuple[str, ...]
    alone: tuple[str, ...]
    changed: dict[str, str]


@cache
def characters(normalizer: str, pre_tokenizer: str) -> Characters:
    """Asks a normalizer and a pre-tokenizer about every character of Unicode, one by one.

    That is all there is to know of them, with one exception: two marks that stand on the same letter, take up space
    and are given in an order that is not canonical would change places. There are a dozen such marks.

    Args:
        normalizer: A BertNormalizer's JSON.
        pre_tokenizer: A BertPreTokenizer's JSON.
    """
    from tokenizers import Tokenizer
    from tokenizers.models import WordPiece

    asked = {"model": json.loads(Tokenizer(WordPiece({}, unk_token="")).to_str())["model"], "version": "1.0"}
    parts = {"normalizer": json.loads(normalizer), "pre_tokenizer": json.loads(pre_tokenizer), "added_tokens": []}
    tokenizer = Tokenizer.from_str(json.dumps({**asked, **parts}))
    every = [chr(code) for part in _PLANES for code in part if chr(code) != _SEPARATOR]
    normalized = [
        result
        for some in _chunks(every)
        for result in tokenizer.normalizer.normalize_str(_SEPARATOR.join(some)).split(_SEPARATOR)
    ]
    results = sorted(set("".join(normalized)))
    # Between two letters: a space splits them, a word of its own stands between them, anything else joins them.
    words = [
        word
        for some in _chunks(results)
        for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str("".join(f"a{result}a{_SEPARATOR}" for result in some))
    ]
    shown: dict[str, str] = {}
    inside: list[str] = []
    for word in words:
        if word == _SEPARATOR:
            result = results[len(shown)]
            shown[result] = {1: result, 2: " ", 3: f" {result} "}[len(inside)]
            inside = []
        else:
            inside.append(word)
    assert len(shown) == len(results), "each was shown between two letters"
    table = {
        before: re.sub(" +", " ", "".join(shown[result] for result in after))
        for before, after in zip(every, normalized, strict=True)
    } | {_SEPARATOR: f" {_SEPARATOR} "}
    alone = tuple(char for char, result in table.items() if result == f" {char} ")
    listed = {char for char, result in table.items() if result == char}.union(alone)
    gone = {char: result for char, result in table.items() if result in ("", " ") and char != " "}
    listed.update(gone)
    return Characters(
        removed=tuple(char for char, result in gone.items() if not result),
        spaces=tuple(char for char, result in gone.items() if result),
        alone=alone,
        changed={char: result for char, result in table.items() if char not in listed},
    )


def _chunks(chars: list[str], size: int = 256) -> Iterator[list[str]]:
    """Tokenizers take time that grows with the square of a text."""
    return (chars[start : start + size] for start in range(0, len(chars), size))


def character_class(chars: Iterable[str]) -> str:
    """An RE2 class of characters, such as `[\\x{41}-\\x{5a}]`; of none, one that nothing matches."""
    ranges: list[list[int]] = []
    for code in sorted(map(ord, chars)):
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "[" + "".join(f"\\x{{{low:x}}}-\\x{{{high:x}}}" for low, high in ranges) + "]" if ranges else r"[^\s\S]"
