"""Checkpoints that are changed in one place, for tests of what is refused and what is read all the same."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

WEIGHTS = "model.safetensors"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 133\n"
PAGE = "<!DOCTYPE html>\n<html><body>Sign in</body></html>\n"

State = dict[str, torch.Tensor]


def copy(checkpoint: Path, folder: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(checkpoint, folder))


def edit_json(path: Path, drop: tuple[str, ...] = (), **values: Any) -> None:
    """Sets keys of a JSON file, and drops others."""
    found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    found = {key: value for key, value in found.items() if key not in drop} | values
    path.write_text(json.dumps(found), encoding="utf-8")


def edit_config(folder: Path, drop: tuple[str, ...] = (), **values: Any) -> None:
    """Sets keys of config.json, and drops others."""
    edit_json(folder / "config.json", drop, **values)


def state(folder: Path) -> State:
    """The tensors of a checkpoint."""
    return load_file(folder / WEIGHTS)


def edit_weights(folder: Path, change: Callable[[State], State]) -> None:
    """Writes a checkpoint's tensors changed."""
    tensors = {name: tensor.contiguous().clone() for name, tensor in change(state(folder)).items()}
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})


def without(*parts: str) -> Callable[[State], State]:
    """Drops the tensors with one of these in their names."""
    return lambda tensors: {name: t for name, t in tensors.items() if not any(part in name for part in parts)}


def renamed(old: str, new: str) -> Callable[[State], State]:
    """Replaces a part of all names."""
    return lambda tensors: {name.replace(old, new): tensor for name, tensor in tensors.items()}


def header(folder: Path, text: bytes) -> None:
    """Gives the file of weights another header."""
    (folder / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text)


def write_vocabulary(folder: Path, pieces: list[str]) -> None:
    """Leaves a vocab.txt as the whole tokenizer."""
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        (folder / name).unlink(missing_ok=True)
    (folder / "vocab.txt").write_text("\n".join(pieces) + "\n", encoding="utf-8")


def pieces(folder: Path) -> list[str]:
    """The vocabulary of a checkpoint's tokenizer.json, in order."""
    vocabulary = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    return sorted(vocabulary, key=vocabulary.__getitem__)
