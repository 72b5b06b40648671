"""`--set` values: dotted paths into a recipe."""

from __future__ import annotations

from typing import Any

import yaml

from compressor.errors import Problem, RecipeError, did_you_mean
from compressor.recipe.document import stage_names
from compressor.recipe.yaml_file import Loader


def apply(data: dict[str, Any], override: str) -> None:
    """Set one `path=value` in a recipe's data, in place. Raises RecipeError where the path leads nowhere."""
    dotted, equals, text = override.partition("=")
    keys = [key for key in dotted.split(".") if key]
    if not equals or not keys:
        raise RecipeError(
            [Problem(f"--set {override}", "not of the form path=value", "e.g. --set seed=1", kind="type")]
        )
    try:
        value = yaml.load(text, Loader)
    except yaml.YAMLError as error:
        raise RecipeError(
            [Problem(f"--set {override}", f"the value is not valid YAML: {error}", kind="unreadable")]
        ) from None
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
            raise RecipeError([Problem(f"--set {override}", what, kind="type")])


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
    raise RecipeError([Problem(f"--set {override}", f"there is no item {key!r}", hint, kind="unknown")])
