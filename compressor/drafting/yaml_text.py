"""A commented YAML document, written key by key: libraries that write YAML have no place for comments."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from compressor.errors import printable

_WIDTH = 118
_PLAIN = re.compile(r"([A-Za-z_]|[.]{0,2}/)[\w./:@-]*(?<!:)", re.ASCII)  # .0 is a number
_RESERVED = {"true", "false", "null", "yes", "no", "on", "off", "y", "n", ".inf", ".nan"}


@dataclass(frozen=True)
class Key:
    """A key with its value.

    Attributes:
        key: The key.
        value: A value, a list of values, a mapping in one line, or entries below it.
        comment: What stands above it; empty for nothing.
    """

    key: str
    value: Any
    comment: str = ""


def write(head: Sequence[str], entries: Sequence[Key]) -> str:
    """The document.

    Args:
        head: Paragraphs of comments at its beginning.
        entries: Its keys.
    """
    found = [line for paragraph in head for line in _comment(paragraph, "")]
    return "\n".join([*found, *_lines(entries, "", set())]) + "\n"


def _lines(entries: Sequence[Key], indent: str, said: set[str]) -> Iterator[str]:
    """The lines of entries; what a comment has said is not said again.

    Args:
        entries: The entries.
        indent: Stands before each line.
        said: Comments so far.
    """
    for entry in entries:
        yield from _once(entry.comment, indent, said)
        if not _is_block(entry.value):
            yield f"{indent}{inline(entry.key)}: {inline(entry.value)}"
            continue
        yield f"{indent}{inline(entry.key)}:"
        inner = f"{indent}  "
        if isinstance(entry.value[0], Key):
            yield from _lines(entry.value, inner, said)
        for item in entry.value if not isinstance(entry.value[0], Key) else ():
            first, *rest = item
            yield from _once(first.comment, inner, said)
            yield f"{inner}- {inline(first.key)}: {inline(first.value)}"
            yield from _lines(rest, f"{inner}  ", said)


def _once(comment: str, indent: str, said: set[str]) -> Iterator[str]:
    if comment and comment not in said:
        said.add(comment)
        yield from _comment(comment, indent)


def _is_block(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], Key | list)


def _comment(text: str, indent: str) -> Iterator[str]:
    lines = textwrap.wrap(printable(text), _WIDTH - len(indent), break_long_words=False, break_on_hyphens=False)
    for line in lines:
        yield f"{indent}# {line}"


def inline(value: Any) -> str:
    """A value in one line: texts in quotes where they could be read as something else."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{inline(key)}: {inline(part)}" for key, part in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(inline, value)) + "]"
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int):
        return f"{value:_}" if abs(value) >= 10_000 else str(value)
    if isinstance(value, float):
        return f"{value:.1e}".replace("e-0", "e-") if abs(value) < 0.01 else f"{value:g}"
    if _PLAIN.fullmatch(value) and value.lower() not in _RESERVED:
        return str(value)
    quoted: str = yaml.safe_dump(value, default_style='"', allow_unicode=True, width=10**6)
    return quoted.rstrip("\n")
