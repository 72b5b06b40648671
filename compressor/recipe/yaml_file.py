"""Reads a recipe's YAML, and knows the line of every key."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from compressor.errors import Location, Problem, RecipeError, did_you_mean


class Loader(yaml.SafeLoader):
    """SafeLoader that refuses duplicate keys and reads YAML 1.2 floats (`5e-5`), which YAML 1.1 takes for text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping of a node. Raises ConstructorError, with its line, where a key is there twice."""
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if isinstance(key, list | dict):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a plain value", key_node.start_mark)
            if key in seen:
                raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is there twice", key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep)


# Dates stay text: a recipe has none, and `name: 2026-01-01` is a name.
Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def line_of(path: Path, where: Location) -> int:
    """Line of a key in a recipe file, or of its nearest ancestor there; 0 when there is none."""
    return nearest_line(parse(path)[1], where)


def parse(path: Path) -> tuple[dict[str, Any], dict[Location, int]]:
    """The values of a YAML file, and the line (from 1) of each. Raises RecipeError where it is not a YAML mapping."""
    try:
        text = path.read_text(encoding="utf-8")
    except IsADirectoryError:
        raise RecipeError(
            [Problem(str(path), "is a folder", "give the recipe's YAML file", kind="not_found")]
        ) from None
    except FileNotFoundError:
        siblings = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        hint = did_you_mean(path.name, siblings) or "give the path of a recipe's YAML file"
        raise RecipeError([Problem(str(path), "no such file", hint, kind="not_found")]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError([Problem(str(path), f"cannot be read: {error}", kind="unreadable")]) from None
    try:
        data = yaml.load(text, Loader)
        node = yaml.compose(text, Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        what = f"not valid YAML: {getattr(error, 'problem', None) or error}"
        raise RecipeError([Problem(str(path), what, line=mark.line + 1 if mark else 0, kind="unreadable")]) from None
    if not isinstance(data, dict):
        raise RecipeError(
            [Problem(str(path), "must be a mapping of keys to values", "see `compress schema`", kind="type")]
        )
    return data, dict(_node_lines(node))


def _node_lines(node: yaml.Node | None, at: Location = ()) -> Iterable[tuple[Location, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield (*at, key.value), key.start_mark.line + 1
            yield from _node_lines(value, (*at, key.value))
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield (*at, index), value.start_mark.line + 1
            yield from _node_lines(value, (*at, index))


def nearest_line(lines: dict[Location, int], where: Location) -> int:
    """The line of a location, or of the nearest thing around it that is in the file; 0 where nothing is."""
    while where and where not in lines:
        where = where[:-1]
    return lines.get(where, 0)
