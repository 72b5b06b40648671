"""The files of a tokenizer, checked without any library: whether they are whole, and go with the model."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressor.errors import Problem
from compressor.files import disguise, read_json

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TOKENIZER, VOCABULARY, CONFIG, ADDED = "tokenizer.json", "vocab.txt", "tokenizer_config.json", "added_tokens.json"
FILES = (TOKENIZER, CONFIG, "special_tokens_map.json", VOCABULARY, ADDED)
"""The files that are read."""

_CASED = 0.05
"""Share of pieces with capitals from which a vocabulary is one of a cased model."""
_OF_VOCABULARY = ("BertTokenizer", "DistilBertTokenizer")
"""Classes that need no more than vocab.txt."""


def problems(folder: Path, rows: int | None, where: str) -> list[Problem]:
    """Problems of a tokenizer's files.

    Args:
        folder: The checkpoint's folder.
        rows: Rows of the model's token embeddings; None if that is not known.
        where: The key that names the checkpoint.
    """
    try:
        config = read_json(folder / CONFIG) if (folder / CONFIG).is_file() else {}
        if (tokens := ids(folder)) is None:
            return [_missing(folder, where)]
        if not (folder / TOKENIZER).is_file() and (found := _vocabulary_problems(folder / VOCABULARY, config, where)):
            return found
        highest = max((index for index in tokens.values() if type(index) is int), default=-1)
    except (OSError, ValueError) as error:
        hint = "save the tokenizer again, or download the file itself"
        return [Problem(where, str(error), hint, kind="unreadable")]
    if rows is not None and highest >= rows:
        what = f"the tokenizer of {folder} has tokens up to number {highest}, and the model has {rows} rows for them"
        hint = "drop the tokens, or call resize_token_embeddings(len(tokenizer)) and train"
        return [Problem(where, what, hint, kind="conflict")]
    return []


def ids(folder: Path) -> dict[str, Any] | None:
    """Ids of all tokens of a checkpoint's tokenizer, None if it has none.

    Raises:
        OSError: A file cannot be read.
        ValueError: A file is not of its format.
    """
    if (folder / TOKENIZER).is_file():
        return _ids_of_file(folder / TOKENIZER)
    if not (folder / VOCABULARY).is_file():
        return None
    added = read_json(folder / ADDED) if (folder / ADDED).is_file() else {}
    return {**{piece: index for index, piece in enumerate(_pieces(folder / VOCABULARY))}, **added}


def _missing(folder: Path, where: str) -> Problem:
    others = [path.name for pattern in ("*.model", "*.py", "vocab.json") for path in sorted(folder.glob(pattern))]
    found = f", only {', '.join(others)}" if others else ""
    what = f"{folder} has no tokenizer (tokenizer.json or vocab.txt){found}"
    hint = "save a fast tokenizer beside the model: AutoTokenizer.from_pretrained(...).save_pretrained(folder)"
    return Problem(where, what, hint, kind="missing")


def _ids_of_file(path: Path) -> dict[str, Any]:
    """Ids of all tokens of a tokenizer.json.

    Raises:
        ValueError: It is not one.
    """
    whole = read_json(path)
    model, added = whole.get("model"), whole.get("added_tokens") or []
    vocabulary = model.get("vocab") if isinstance(model, dict) else None
    if not isinstance(vocabulary, dict | list) or not vocabulary or not isinstance(added, list):
        raise ValueError(f"{path} is not a tokenizer: it has no vocabulary")
    if isinstance(vocabulary, list):
        ids: dict[str, Any] = {str(index): index for index in range(len(vocabulary))}
    else:
        ids = dict(vocabulary)
    if wrong := next((token for token, index in ids.items() if type(index) is not int or index < 0), None):
        raise ValueError(f"{path} is not a tokenizer: the token {wrong!r} has the number {ids[wrong]!r}")
    twice = [index for index, count in Counter(ids.values()).items() if count > 1]
    if twice:
        raise ValueError(f"{path} has two tokens with the number {twice[0]}")
    return ids | {str(entry.get("content")): entry.get("id") for entry in added if isinstance(entry, dict)}


def _pieces(path: Path) -> list[str]:
    """The lines of a vocab.txt, as transformers reads them.

    Raises:
        ValueError: It is not one.
    """
    if what := disguise(path):
        raise ValueError(f"{path} is {what}")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise ValueError(f"{path} is not a text in UTF-8") from None
    return text.removesuffix("\n").split("\n")


def _vocabulary_problems(path: Path, config: dict[str, Any], where: str) -> list[Problem]:
    """Problems of a tokenizer that is a vocabulary alone."""
    pieces = _pieces(path)
    name = str(config.get("tokenizer_class") or _OF_VOCABULARY[0])
    if name.removesuffix("Fast") not in _OF_VOCABULARY:
        what = f"{path.parent} has a {name} and no tokenizer.json, so it runs in Python only"
        hint = "give a tokenizer.json, which apps need too: a fast tokenizer saves one"
        return [Problem(where, what, hint, kind="unsupported")]
    if twice := [piece for piece, count in Counter(pieces).items() if count > 1]:
        lines = [index + 1 for index, piece in enumerate(pieces) if piece == twice[0]]
        what = f"{path} has {twice[0]!r} in the lines {', '.join(map(str, lines[:5]))}, so its number is not certain"
        return [Problem(where, what, "give the vocabulary that the model was trained with", kind="value")]
    words = [piece for piece in pieces if not piece.startswith(("[", "<"))]
    cased = sum(piece != piece.lower() for piece in words)
    if words and cased / len(words) > _CASED and config.get("do_lower_case", True):
        what = f"{path} has {cased} pieces with capitals, and the tokenizer turns all texts into lower case"
        hint = f'put "do_lower_case": false into {CONFIG}'
        return [Problem(where, what, hint, kind="conflict")]
    return []


def model_kind(model: Mapping[str, Any]) -> str:
    """The kind of model in a tokenizer.json: its `type`, or what its keys say, since older files leave the type out."""
    if model.get("type") is not None:
        return str(model["type"])
    if "merges" in model:
        return "BPE"
    if isinstance(model.get("vocab"), list):
        return "Unigram"
    return "WordPiece" if "continuing_subword_prefix" in model else "WordLevel"


def splitting_digest(tokenizer: PreTrainedTokenizerBase) -> str:
    """Digest of how a tokenizer splits texts, whatever it adds to them and wherever it cuts them.

    The tokenizer of a student that was saved here differs from its teacher's in the latter, and reads a corpus as it.
    """
    parts = json.loads(tokenizer.backend_tokenizer.to_str())
    for name in ("truncation", "padding", "post_processor"):
        parts.pop(name, None)
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
