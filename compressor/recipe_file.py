"""From a YAML file and `--set` overrides to a typed recipe, with every mistake told at once."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from compressor import recipe_errors
from compressor.errors import Problem, RecipeError
from compressor.recipe import Recipe, stage_names
from compressor.recipe_errors import Location, did_you_mean


class _Loader(yaml.SafeLoader):
    """SafeLoader that refuses duplicate keys and reads YAML 1.2 floats (`5e-5`), which YAML 1.1 takes for text."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
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
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"), list("-+0123456789")
)


def load(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Reads and checks the form of a recipe; what it points to is checked by `compressor.validate`.

    Args:
        path: The YAML file.
        overrides: `dotted.path=value` strings in the order given.

    Raises:
        RecipeError: Every problem of form, with line numbers.
    """
    recipe, problems = read(path, overrides)
    if problems or recipe is None:
        raise RecipeError(problems, str(path))
    return recipe


def read(path: Path, overrides: Sequence[str] = ()) -> tuple[Recipe | None, list[Problem]]:
    """Like `load`, but returns the problems, with the recipe as far as it makes sense without its wrong keys.

    Returns:
        A recipe (None when too little is right) and the problems; the recipe is usable when there are none.
    """
    data, lines = _parse(path)
    for override in overrides:
        _apply(data, override)
    try:
        return _typed(data), []
    except ValidationError as error:
        problems = recipe_errors.problems(error, data, partial(_line, lines))
        # Wrong keys are dropped once, so that what the rest points to can be checked in the same go.
        for location in recipe_errors.locations(error, data):
            _remove(data, location)
    try:
        return _typed(data), problems
    except ValidationError:
        return None, problems


def _typed(data: dict[str, Any]) -> Recipe:
    # Through JSON, so that strict mode takes a YAML list for a tuple and nothing else for anything else.
    return Recipe.model_validate_json(json.dumps(data, default=str))


def line_of(path: Path, where: Location) -> int:
    """Line of a key in a recipe file, or of its nearest ancestor there; 0 when there is none."""
    return _line(_parse(path)[1], where)


def _parse(path: Path) -> tuple[dict[str, Any], dict[Location, int]]:
    try:
        text = path.read_text(encoding="utf-8")
    except IsADirectoryError:
        raise RecipeError([Problem(str(path), "is a folder", "give the recipe's YAML file")]) from None
    except FileNotFoundError:
        siblings = [p.name for p in path.parent.glob("*.y*ml")] if path.parent.is_dir() else []
        hint = did_you_mean(path.name, siblings) or "give the path of a recipe's YAML file"
        raise RecipeError([Problem(str(path), "no such file", hint)]) from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError([Problem(str(path), f"cannot be read: {error}")]) from None
    try:
        data = yaml.load(text, _Loader)
        node = yaml.compose(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        what = f"not valid YAML: {getattr(error, 'problem', None) or error}"
        raise RecipeError([Problem(str(path), what, line=mark.line + 1 if mark else 0)]) from None
    if not isinstance(data, dict):
        raise RecipeError([Problem(str(path), "must be a mapping of keys to values", "see `compress schema`")])
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


def _line(lines: dict[Location, int], where: Location) -> int:
    while where and where not in lines:
        where = where[:-1]
    return lines.get(where, 0)


def _apply(data: dict[str, Any], override: str) -> None:
    dotted, equals, text = override.partition("=")
    keys = [key for key in dotted.split(".") if key]
    if not equals or not keys:
        raise RecipeError([Problem(f"--set {override}", "not of the form path=value", "e.g. --set seed=1")])
    try:
        value = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise RecipeError([Problem(f"--set {override}", f"the value is not valid YAML: {error}")]) from None
    target: Any = data
    for depth, key in enumerate(keys):
        last = depth == len(keys) - 1
        if isinstance(target, list):
            index = _index(target, key, override, is_stages=keys[:depth] == ["stages"])
            if last and value is None and keys[:depth] == ["stages"]:
                del target[index]  # a stage that is nothing is none
                return
            if last:
                target[index] = value
            target = target[index]
        elif isinstance(target, dict):
            if last:
                target[key] = value
            else:
                if target.get(key) is None:
                    target[key] = {}
                target = target[key]
        else:
            what = f"{'.'.join(keys[:depth])} is {target!r}, which has no keys"
            raise RecipeError([Problem(f"--set {override}", what)])


def _index(items: list[Any], key: str, override: str, is_stages: bool) -> int:
    named = [item if isinstance(item, dict) else {} for item in items]
    names = stage_names([(item.get("name"), str(item.get("stage"))) for item in named]) if is_stages else []
    if key in names:
        return names.index(key)
    if key.isdigit() and int(key) < len(items):
        return int(key)
    allowed = f"0 to {len(items) - 1}" + (f", or a name: {', '.join(names)}" if names else "")
    suggestion = did_you_mean(key, names)
    hint = f"{suggestion}; allowed: {allowed}" if suggestion else f"allowed: {allowed}"
    raise RecipeError([Problem(f"--set {override}", f"there is no item {key!r}", hint)])


def _remove(data: Any, location: Location) -> None:
    for key in location[:-1]:
        try:
            data = data[key]
        except (KeyError, IndexError, TypeError):
            return
    if isinstance(data, dict) and location:
        data.pop(location[-1], None)
