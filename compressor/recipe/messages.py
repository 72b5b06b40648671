"""Pydantic's errors as problems that users can fix: the path in the recipe, the allowed values, and the closest one."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from compressor.errors import Location, Problem, path_text, shown, suggest
from compressor.recipe.document import Recipe
from compressor.stages import STAGES

_KINDS = {
    "extra_forbidden": "unknown",
    "missing": "missing",
    "union_tag_not_found": "missing",
    "union_tag_invalid": "unknown",
}
"""Kinds of problems by pydantic's type of error; all others are of a value."""

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


_LIMITS = {
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "finite_number": "must be a finite number",
    "string_pattern_mismatch": "must match the pattern {pattern}",
    "too_short": "must have {min_length} or more entries",
    "too_long": "must have {max_length} or fewer entries",
}
"""Pydantic's errors for a value outside of its limits, in our words. Of others only that it is not allowed is said."""

_ANSWERS = {"yes": True, "on": True, "no": False, "off": False}
"""Texts that YAML 1.1 takes for booleans; here only where a boolean is asked for."""


def answers(error: ValidationError, data: dict[str, Any]) -> dict[Location, bool]:
    """Values that are meant as booleans, by their locations."""
    found = [detail for detail in error.errors() if detail["type"] == "bool_type"]
    return {
        _plain(detail, data): _ANSWERS[detail["input"].lower()]
        for detail in found
        if isinstance(detail["input"], str) and detail["input"].lower() in _ANSWERS
    }


def problems(error: ValidationError, data: dict[str, Any], line_of: Callable[[Location], int]) -> list[Problem]:
    """Everything that pydantic found wrong, in the order of the file.

    Args:
        error: Of validating a recipe.
        data: What was validated.
        line_of: Line of a location in the file, 0 if it has none.
    """
    found = {_problem(detail, data, line_of): None for detail in _telling(error.errors(), data)}
    return sorted(found, key=lambda problem: (problem.line, problem.where))


def locations(error: ValidationError, data: dict[str, Any]) -> list[Location]:
    """Where the wrong values are."""
    return [_plain(detail, data) for detail in error.errors()]


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


def _at(details: Sequence[Any], location: Location, data: dict[str, Any]) -> list[Any]:
    return [detail for detail in details if _plain(detail, data) == location]


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


def _problem(detail: Any, data: dict[str, Any], line_of: Callable[[Location], int]) -> Problem:
    location = _plain(detail, data)
    kind, got, context = detail["type"], detail["input"], detail.get("ctx", {})
    parent, key = location[:-1], str(location[-1]) if location else ""
    where, hint = location, ""
    if kind == "extra_forbidden":
        allowed = sorted(_allowed_keys(detail["loc"][:-1]))
        where, what = parent, f"unknown key {shown(key)}"
        hint = suggest(key, allowed)
    elif kind == "missing":
        where, what = parent, f"key {key!r} is missing"
    elif kind == "union_tag_not_found":
        what = "key 'stage' is missing"
        hint = f"allowed: {', '.join(_stage_models())}"
    elif kind == "union_tag_invalid":
        where, what = (*location, "stage"), f"unknown stage {shown(context['tag'])}"
        hint = suggest(str(context["tag"]), list(_stage_models()))
    elif "forms" in detail:
        what = f"is {shown(got)}, must be {' or '.join(dict.fromkeys(detail['forms']))}"
    elif kind == "literal_error":
        allowed = re.findall(r"'([^']*)'", context["expected"]) or [context["expected"]]
        what, hint = f"is {shown(got)}", suggest(str(got), allowed)
    elif kind == "value_error":
        what = str(context["error"])
    else:
        what = f"is {shown(got)}, {_LIMITS.get(kind, 'which is not allowed').format(**context)}"
    stages = data.get("stages")
    text = path_text(where, stages if isinstance(stages, list) else ()) or "recipe"
    found = "type" if "forms" in detail else _KINDS.get(kind, "value")
    return Problem(text, what, hint, line_of(location), found)


def _stage_models() -> dict[str, type[BaseModel]]:
    return {kind: stage.spec for kind, stage in STAGES.items()}


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
