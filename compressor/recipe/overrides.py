"""`--set` values: dotted paths into a recipe."""

from __future__ import annotations

import re
from typing import Any

import yaml

from compressor.errors import Problem, RecipeError, did_you_mean, shown
from compressor.recipe.document import stage_names
from compressor.recipe.yaml_file import parse_value, reason

_DEEPEST = 20
"""Keys in a path. A recipe needs 6."""


def apply(data: dict[str, Any], override: str) -> None:
    """Set one `path=value` in a recipe's data, in place. Raises RecipeError where the path leads nowhere."""
    keys, value = _parts(override)
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
            what = f"{'.'.join(keys[:depth])} is {shown(target)}, which has no keys"
            raise RecipeError([Problem(f"--set {override}", what, kind="type")])


def _parts(override: str) -> tuple[list[str], Any]:
    """The keys of the path, and the value."""
    dotted, equals, text = override.partition("=")
    keys = [key for key in dotted.split(".") if key]
    if not equals or not keys:
        raise RecipeError(
            [Problem(f"--set {override}", "not of the form path=value", "e.g. --set seed=1", kind="type")]
        )
    if len(keys) > _DEEPEST:
        raise RecipeError([Problem(f"--set {override}", f"the path has more than {_DEEPEST} keys", kind="value")])
    try:
        value = parse_value(text)
    except yaml.YAMLError as error:
        raise RecipeError(
            [Problem(f"--set {override}", f"the value is not valid YAML: {reason(error)}", kind="unreadable")]
        ) from None
    return keys, value


def _index(items: list[Any], key: str, override: str, is_stages: bool) -> int:
    named = [item if isinstance(item, dict) else {} for item in items]
    given = [(str(item["name"]) if item.get("name") else None, str(item.get("stage"))) for item in named]
    names = stage_names(given) if is_stages else []
    if key in names:
        return names.index(key)
    if re.fullmatch("[0-9]{1,6}", key) and int(key) < len(items):
        return int(key)
    allowed = f"0 to {len(items) - 1}" + (f", or a name: {', '.join(names)}" if names else "")
    suggestion = did_you_mean(key, names)
    hint = f"{suggestion}; allowed: {allowed}" if suggestion else f"allowed: {allowed}"
    raise RecipeError([Problem(f"--set {override}", f"there is no item {key!r}", hint, kind="unknown")])
