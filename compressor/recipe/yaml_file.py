"""Reads a recipe's YAML, and knows the line of every key.

The values are those of YAML 1.2, in which `no` is a text, `1:30` is no number of seconds and `010` no 8; merge keys
(`<<`) and aliases are expanded. What expands without end, or to more than a recipe needs, is refused before it is
built.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError

from compressor.errors import Location, Problem, RecipeError, did_you_mean

_MOST_BYTES = 1_000_000
_MOST_VALUES = 20_000
"""Keys and values of a recipe, those of aliases counted wherever they stand."""
_DEEPEST = 40
"""Lists and mappings inside each other. A recipe needs 7."""
_LONGEST_NUMBER = 300
"""Digits. Larger numbers are no floating-point numbers either."""

_TAG = "tag:yaml.org,2002:"
_SCALARS = {
    "null": re.compile("~|null|Null|NULL|"),
    "bool": re.compile("true|True|TRUE|false|False|FALSE"),
    "int": re.compile("[-+]?(0|[1-9][0-9_]*|0x[0-9a-fA-F]+)"),
    "float": re.compile(
        r"[-+]?([0-9][0-9_]*\.[0-9_]*|\.[0-9][0-9_]*)([eE][-+]?[0-9]+)?"
        r"|[-+]?[0-9][0-9_]*[eE][-+]?[0-9]+|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
    ),
    "merge": re.compile("<<"),
}
"""The forms of plain values that are no text. Underscores between digits, as in 10_000, are of YAML 1.1."""

Lines = dict[Location, int]


class Loader(yaml.SafeLoader):
    """Composes the nodes of a document, of limited depth and number."""

    def __init__(self, stream: str) -> None:
        super().__init__(stream)
        self._depth = 0
        self._sizes: dict[int, int] = {}

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """The next node. Raises ComposerError where it is inside of itself, too deep or, expanded, too large."""
        event = self.peek_event()  # type: ignore[no-untyped-call]  # PyYAML has types in part
        mark = event.start_mark
        self._depth += 1
        if self._depth > _DEEPEST:
            raise ComposerError(None, None, f"lists and mappings are more than {_DEEPEST} deep", mark)
        node: yaml.Node | None = super().compose_node(parent, index)
        self._depth -= 1
        if isinstance(event, yaml.AliasEvent):
            if id(node) not in self._sizes:
                raise ComposerError(None, None, f"*{event.anchor} stands inside of &{event.anchor}", mark)
            return node
        children = node.value if isinstance(node, yaml.CollectionNode) else []
        parts = [part for child in children for part in (child if isinstance(child, tuple) else (child,))]
        self._sizes[id(node)] = size = 1 + sum(self._sizes[id(part)] for part in parts)
        if size > _MOST_VALUES:
            raise ComposerError(None, None, f"has more than {_MOST_VALUES} keys and values", mark)
        return node


Loader.yaml_implicit_resolvers = {}
for _name, _form in _SCALARS.items():
    Loader.add_implicit_resolver(f"{_TAG}{_name}", re.compile(f"(?:{_form.pattern})$"), None)


def nearest_line(lines: Lines, where: Location) -> int:
    """The line of a location, or of the nearest thing around it that is in the file; 0 where nothing is."""
    while where and where not in lines:
        where = where[:-1]
    return lines.get(where, 0)


def parse(path: Path, content: str | None = None) -> tuple[dict[str, Any], Lines]:
    """The values of a YAML file, and the line (from 1) of each. Raises RecipeError where it is not a YAML mapping.

    Args:
        path: The file.
        content: What it will hold, where it is not written yet.
    """
    text = _read(path) if content is None else content
    lines: Lines = {}
    try:
        data = parse_value(text, lines)
    except yaml.YAMLError as error:
        what = f"not valid YAML: {reason(error)}"
        raise RecipeError([Problem(str(path), what, line=_line(error, text), kind="unreadable")]) from None
    if not isinstance(data, dict):
        raise RecipeError(
            [Problem(str(path), "must be a mapping of keys to values", "see `compress schema`", kind="type")]
        )
    return data, lines


def parse_value(text: str, lines: Lines | None = None) -> Any:
    """The value of a YAML document: mappings from texts, lists, texts, numbers, booleans and null, none of them shared.

    Args:
        text: The document.
        lines: Gets the line of each location.

    Raises:
        YAMLError: It is not valid.
    """
    loader = Loader(text)
    try:
        node = loader.get_single_node()
    finally:
        loader.dispose()
    return None if node is None else _value(node, (), {} if lines is None else lines)


def reason(error: yaml.YAMLError) -> str:
    """What is wrong with a YAML document, in one line."""
    if isinstance(error, yaml.reader.ReaderError):
        return f"the character U+{int(error.character):04X} is not allowed"
    return str(getattr(error, "problem", None) or error)


def _line(error: yaml.YAMLError, text: str) -> int:
    if isinstance(error, yaml.reader.ReaderError):
        return text.count("\n", 0, error.position) + 1
    mark = getattr(error, "problem_mark", None)
    return mark.line + 1 if mark else 0


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            content = file.read(_MOST_BYTES + 1)
        if len(content) > _MOST_BYTES:
            what = f"is larger than {_MOST_BYTES / 1e6:.0f} MB"
            raise RecipeError([Problem(str(path), what, "give the recipe's YAML file", kind="unreadable")])
        return content.decode("utf-8-sig")
    except IsADirectoryError:
        raise RecipeError(
            [Problem(str(path), "is a folder", "give the recipe's YAML file", kind="not_found")]
        ) from None
    except FileNotFoundError:
        siblings = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        hint = did_you_mean(path.name, siblings) or "give the path of a recipe's YAML file"
        raise RecipeError([Problem(str(path), "no such file", hint, kind="not_found")]) from None
    except UnicodeDecodeError as error:
        what = f"is not UTF-8: {error.reason} at byte {error.start}"
        raise RecipeError([Problem(str(path), what, "save it as UTF-8", kind="unreadable")]) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL byte in the path
        what = f"cannot be read: {getattr(error, 'strerror', None) or error}"
        raise RecipeError([Problem(str(path), what, kind="unreadable")]) from None


def _value(node: yaml.Node, at: Location, lines: Lines) -> Any:
    if isinstance(node, yaml.ScalarNode):
        return _scalar(node)
    if node.tag not in (f"{_TAG}map", f"{_TAG}seq"):
        raise ConstructorError(None, None, f"the tag {node.tag!r} is not allowed", node.start_mark)
    if isinstance(node, yaml.SequenceNode):
        for index, part in enumerate(node.value):
            lines[(*at, index)] = part.start_mark.line + 1
        return [_value(part, (*at, index), lines) for index, part in enumerate(node.value)]
    assert isinstance(node, yaml.MappingNode), "nodes are scalars, sequences or mappings"
    found = {}
    for key, (key_node, part) in _pairs(node).items():
        lines[(*at, key)] = key_node.start_mark.line + 1
        found[key] = _value(part, (*at, key), lines)
    return found


def _pairs(node: yaml.MappingNode) -> dict[str, tuple[yaml.Node, yaml.Node]]:
    """The keys of a mapping, as they are written, with their nodes and their values'; its own, then merged ones."""
    own: dict[str, tuple[yaml.Node, yaml.Node]] = {}
    merged: dict[str, tuple[yaml.Node, yaml.Node]] = {}
    for key_node, part in node.value:
        if not isinstance(key_node, yaml.ScalarNode):
            raise ConstructorError(None, None, "a key must be a plain value", key_node.start_mark)
        key = str(_text(key_node))
        if key in own or (key == "<<" and merged):
            raise ConstructorError(None, None, f"key {key!r} is there twice", key_node.start_mark)
        if key_node.tag != f"{_TAG}merge":
            own[key] = (key_node, part)
            continue
        for source in _merge_sources(part):
            merged = {**_pairs(source), **merged}  # the first of a list wins
    return {**own, **{key: pair for key, pair in merged.items() if key not in own}}


def _merge_sources(node: yaml.Node) -> Iterator[yaml.MappingNode]:
    for source in node.value if isinstance(node, yaml.SequenceNode) else [node]:
        if not isinstance(source, yaml.MappingNode):
            raise ConstructorError(None, None, "<< merges a mapping, or a list of them", source.start_mark)
        yield source


def _scalar(node: yaml.ScalarNode) -> Any:
    kind, text = node.tag.removeprefix(_TAG), node.value
    if kind in ("str", "merge"):
        return _text(node)
    if kind not in _SCALARS:
        raise ConstructorError(None, None, f"the tag {node.tag!r} is not allowed", node.start_mark)
    if not _SCALARS[kind].fullmatch(text) or (kind == "int" and len(text) > _LONGEST_NUMBER):
        what = f"{text[:40]!r}{' and so on' if len(text) > 40 else ''} is no {kind}"
        raise ConstructorError(None, None, what, node.start_mark)
    if kind == "null":
        return None
    if kind == "bool":
        return text.lower() == "true"
    digits = text.replace("_", "")
    return int(digits, 0) if kind == "int" else float(re.sub(r"\.(inf|nan)", r"\1", digits.lower()))


def _text(node: yaml.ScalarNode) -> str:
    """A text that files, paths and JSON can hold."""
    text: str = node.value
    if "\0" in text or any("\ud800" <= character <= "\udfff" for character in text):
        raise ConstructorError(None, None, "a text holds a NUL or half of a surrogate pair", node.start_mark)
    return text
