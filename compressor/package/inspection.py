"""The contents of a checkpoint or an exported file: parameters stored and called, bytes by part, types, operators."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from compressor.errors import Problem, RecipeError
from compressor.files import suffix
from compressor.models import weights
from compressor.models.checking import check
from compressor.models.checkpoint import Checkpoint, root
from compressor.models.families import FAMILIES
from compressor.runtimes import RUNTIMES
from compressor.runtimes.inspection import Inspection, Weight, part_of

_WEIGHTS = (".safetensors", ".bin")
_FORMATS = {runtime.file.suffix for runtime in RUNTIMES.values() if runtime.target}
"""Suffixes of files that ship; some of them are folders."""


def inspect(path: Path) -> list[Inspection]:
    """Reads the contents of a checkpoint folder with its exported files, or of one file.

    Args:
        path: A checkpoint folder, or a file of one of `READERS`.

    Raises:
        RecipeError: It is none of these, or cannot be read.
    """
    if path.is_dir() and suffix(path) not in _FORMATS:
        folder = root(path)
        own = {folder / name for name in check(folder, str(path)).weight_files if not name.endswith(".json")}
        others = (file for file in folder.rglob("*") if suffix(file) in READERS and suffix(file) not in _WEIGHTS)
        return [_inspect_file(file) for file in sorted({*own, *others})]
    if not path.exists():
        raise RecipeError([Problem(str(path), "no such file or folder", kind="not_found")])
    if suffix(path) not in READERS:
        raise RecipeError(
            [Problem(str(path), "cannot be inspected", f"allowed: folders, {', '.join(READERS)}", kind="unsupported")]
        )
    return [_inspect_file(path)]


def _inspect_file(path: Path) -> Inspection:
    try:
        return READERS[suffix(path)](path)
    except Exception as error:  # each library has errors of its own for a file that is damaged
        raise RecipeError(
            [Problem(str(path), f"cannot be read: {error}", "save or export it again", kind="unreadable")]
        ) from None


def _weights(path: Path) -> Inspection:
    layers = _uses_of_blocks(path.parent)
    found: dict[str, Weight] = {}
    for name, tensor in weights.read_file(path).items():
        uses = next((count for start, count in layers.items() if name.startswith(f"{start}.")), 1)
        entry = Weight(name, part_of(name), tensor.kind, tensor.shape, tensor.size_bytes, uses)
        found.setdefault(tensor.storage, entry)
    return Inspection(str(path), path.stat().st_size, tuple(found.values()), {})


def _uses_of_blocks(folder: Path) -> dict[str, int]:
    """How many layers use each block of a checkpoint that shares weights, by the beginning of its tensors' names."""
    if not (folder / "config.json").is_file():
        return {}
    checkpoint = Checkpoint(folder)
    family = FAMILIES.get(checkpoint.family)
    return {} if family is None else family.shared_blocks(checkpoint.config)


READERS: dict[str, Callable[[Path], Inspection]] = {
    ".safetensors": _weights,
    ".bin": _weights,
    **{runtime.file.suffix: runtime.inspect for runtime in RUNTIMES.values() if runtime.inspectable},
}
"""Reads a file, by its suffix."""
