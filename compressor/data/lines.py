"""Lines of a text file with their numbers, and the errors that name a line."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from compressor.errors import Problem, RecipeError

MOST_PROBLEMS = 10
"""Mistakes of one file that are reported at once."""

_LONGEST_QUOTE = 60


def lines(path: Path, place: str, kind: str) -> Iterator[tuple[int, str]]:
    r"""Number, from 1, and text of each line, its end included, without the byte order mark.

    Args:
        path: A file in UTF-8. Only `\n` ends a line, since tokens and texts may hold Unicode's other line ends; in a
            file without any, `\r` does.
        place: The key of the recipe that names it.
        kind: The format, such as `csv`.

    Raises:
        RecipeError: The file cannot be read, is not UTF-8, or holds NUL bytes.
    """
    try:
        with path.open("rb") as file:
            for number, line in enumerate(_split(file), 1):
                if b"\0" in line:
                    what = "has a NUL byte: the file is not text, or in another encoding, such as UTF-16"
                    raise unreadable(path, f"line {number}", what, place, kind)
                try:
                    text = line.decode("utf-8-sig" if number == 1 else "utf-8")
                except UnicodeDecodeError as error:
                    raise unreadable(path, f"line {number}", f"is not UTF-8: {error.reason}", place, kind) from None
                yield number, text
    except OSError as error:
        raise RecipeError([Problem(place, f"{path} cannot be read: {error}", kind="unreadable")]) from error


def _split(file: BinaryIO) -> Iterator[bytes]:
    first = file.readline()
    if first.endswith(b"\n") or b"\r" not in first:
        yield from chain([first] if first else [], file)
    else:  # the whole file, by a program of old Macs
        yield from first.splitlines(keepends=True)


def unreadable(path: Path, where: str, what: str, place: str, kind: str) -> RecipeError:
    """The error of a file that is not of its format.

    Args:
        path: The file.
        where: The place in it, such as `line 3`.
        what: The mistake.
        place: The key of the recipe that names the file.
        kind: The format, such as `csv`.
    """
    hint = f"fix the file, or check that it is {kind} in UTF-8"
    return RecipeError([Problem(place, f"{path.name}, {where}: {what}", hint, kind="unreadable")])


def quoted(text: str) -> str:
    """A piece of a file for a message: in quotes, with invisible characters escaped, and cut if it is long."""
    return repr(text if len(text) <= _LONGEST_QUOTE else f"{text[: _LONGEST_QUOTE - 1]}…")
