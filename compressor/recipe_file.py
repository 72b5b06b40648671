"""From a YAML file and `--set` overrides to a typed recipe, with every mistake told at once.

Knows YAML and pydantic's error format so that nothing else has to.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from compressor.errors import Problem, RecipeError
from compressor.recipe import Recipe, stage_names

Location = tuple[str | int, ...]

_WRONG_FORM_KEY = "wrong form"
_WRONG_FORM = {
    "string_type": "text",
    "int_type": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "bool_type": "true or false",
    "tuple_type": "a list",
    "dict_type": "a mapping",
    "model_type": "a mapping",
    "model_attributes_type": "a mapping",
}
"""Pydantic's errors for a value of the wrong type, and what the type is called in YAML."""


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
    recipe, problems = _validate(data, lines)
    if recipe is None:
        # Wrong keys are dropped once, so that what the rest points to can be checked in the same go.
        for location in _error_locations(data):
            _remove(data, location)
        recipe, _ = _validate(data, lines)
    return recipe, problems


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
        hint = _did_you_mean(path.name, siblings) or "give the path of a recipe's YAML file"
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


def _at(details: Sequence[Any], location: Location, data: dict[str, Any]) -> list[Any]:
    return [detail for detail in details if _plain(detail, data) == location]


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
    suggestion = _did_you_mean(key, names)
    hint = f"{suggestion}; allowed: {allowed}" if suggestion else f"allowed: {allowed}"
    raise RecipeError([Problem(f"--set {override}", f"there is no item {key!r}", hint)])


def _validate(data: dict[str, Any], lines: dict[Location, int]) -> tuple[Recipe | None, list[Problem]]:
    try:
        # Through JSON, so that strict mode takes a YAML list for a tuple and nothing else for anything else.
        return Recipe.model_validate_json(json.dumps(data, default=str)), []
    except ValidationError as error:
        details = error.errors()
    problems = {_problem(detail, data, lines): None for detail in _telling(details, data)}
    return None, sorted(problems, key=lambda problem: (problem.line, problem.where))


def _telling(details: Sequence[Any], data: dict[str, Any]) -> list[Any]:
    """Pydantic's errors without those that only follow from others.

    A union reports one error for each form it could have had, and a tuple whose items are wrong is also "too short".
    """
    locations = [_plain(detail, data) for detail in details]
    telling: dict[Location, Any] = {}
    for detail, location in zip(details, locations, strict=True):
        if detail["type"] == "too_short" and detail["input"]:
            continue
        either = detail["type"] == "literal_error" and len({str(d["loc"]) for d in _at(details, location, data)}) > 1
        if detail["type"] in _WRONG_FORM or either:
            if any(other[: len(location)] == location and other != location for other in locations):
                continue
            first = telling.setdefault((*location, _WRONG_FORM_KEY), {**detail, "forms": []})
            first["forms"].append(_WRONG_FORM.get(detail["type"]) or detail["ctx"]["expected"])
        else:
            telling[(*location, detail["type"], str(detail["loc"]))] = detail
    return list(telling.values())


def _error_locations(data: dict[str, Any]) -> list[Location]:
    try:
        Recipe.model_validate_json(json.dumps(data, default=str))
    except ValidationError as error:
        return [_plain(detail, data) for detail in error.errors()]
    return []


def _remove(data: Any, location: Location) -> None:
    for key in location[:-1]:
        try:
            data = data[key]
        except (KeyError, IndexError, TypeError):
            return
    if isinstance(data, dict) and location:
        data.pop(location[-1], None)


def _plain(detail: Any, data: Any) -> Location:
    """An error's location without the parts that are not in the data: union members and discriminator tags."""
    plain: list[str | int] = []
    loc = detail["loc"]
    for position, key in enumerate(loc):
        if isinstance(data, list) and isinstance(key, int) and key < len(data):
            data = data[key]
        elif isinstance(data, dict) and key in data:
            data = data[key]
        elif detail["type"] != "missing" or position < len(loc) - 1:
            continue
        plain.append(key)
    return tuple(plain)


def path_text(location: Location, stages: Any = ()) -> str:
    """A location as users write it: `stages[1] (distill).gates.accuracy`."""
    text = ""
    for position, key in enumerate(location):
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else key
        if position == 1 and location[0] == "stages" and isinstance(key, int) and key < len(stages):
            stage = stages[key]
            kind = stage.get("stage") if isinstance(stage, dict) else getattr(stage, "kind", None)
            text += f" ({kind})" if kind else ""
    return text


def _problem(detail: Any, data: dict[str, Any], lines: dict[Location, int]) -> Problem:
    location = _plain(detail, data)
    kind, got, context = detail["type"], detail["input"], detail.get("ctx", {})
    parent, key = location[:-1], str(location[-1]) if location else ""
    where, hint = location, ""
    if kind == "extra_forbidden":
        allowed = sorted(_allowed_keys(detail["loc"][:-1]))
        where, what = parent, f"unknown key {key!r}"
        hint = suggest(key, allowed)
    elif kind == "missing":
        where, what = parent, f"key {key!r} is missing"
    elif kind == "union_tag_not_found":
        what = "key 'stage' is missing"
        hint = f"allowed: {', '.join(_stage_models())}"
    elif kind == "union_tag_invalid":
        where, what = (*location, "stage"), f"unknown stage {context['tag']!r}"
        hint = suggest(str(context["tag"]), list(_stage_models()))
    elif "forms" in detail:
        what = f"is {got!r}, must be {' or '.join(dict.fromkeys(detail['forms']))}"
    elif kind == "literal_error":
        allowed = re.findall(r"'([^']*)'", context["expected"]) or [context["expected"]]
        what, hint = f"is {got!r}", suggest(str(got), allowed)
    elif kind == "value_error":
        what = str(context["error"])
    else:
        message = detail["msg"].removeprefix("Input ").replace("should", "must")
        what = f"is {got!r}, {message}" if not isinstance(got, dict | list) else f"{message}"
    stages = data.get("stages")
    text = path_text(where, stages if isinstance(stages, list) else ()) or "recipe"
    return Problem(text, what, hint, _line(lines, location))


def suggest(word: str, allowed: list[str]) -> str:
    """A hint for a wrong word: "did you mean", when one is close, and everything that is allowed."""
    listing = f"allowed: {', '.join(allowed)}"
    suggestion = _did_you_mean(word, allowed)
    return f"{suggestion} ({listing})" if suggestion else listing


def _did_you_mean(word: str, allowed: Iterable[str]) -> str:
    matches = difflib.get_close_matches(word, list(allowed), n=1)
    return f"did you mean {matches[0]!r}?" if matches else ""


def _stage_models() -> dict[str, type[BaseModel]]:
    return {get_args(model.model_fields["stage"].annotation)[0]: model for model in _models(Recipe, "stages")}


def _models(model: type[BaseModel], field: str) -> list[type[BaseModel]]:
    """The models that a field's annotation mentions."""
    pending, found = [model.model_fields[field].annotation], []
    while pending:
        annotation = pending.pop(0)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            found.append(annotation)
        elif get_origin(annotation) in (Union, UnionType, Annotated, tuple, dict):
            pending.extend(get_args(annotation))
    return found


def _allowed_keys(loc: Location) -> set[str]:
    """Keys of the model at a pydantic location (with its discriminator tags)."""
    models: list[type[BaseModel]] = [Recipe]
    for key in loc:
        inside = [child for model in models if key in model.model_fields for child in _models(model, str(key))]
        if inside:
            models = inside
        elif key in _stage_models():
            models = [_stage_models()[str(key)]]
    return {name for model in models for name in model.model_fields}
