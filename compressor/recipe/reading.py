"""From a YAML file and `--set` overrides to a typed recipe, with all errors reported at once."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from compressor.errors import Location, Problem, RecipeError
from compressor.recipe import messages
from compressor.recipe.document import Recipe
from compressor.recipe.overrides import apply
from compressor.recipe.yaml_file import Lines, nearest_line, parse


def load(path: Path, overrides: Sequence[str] = ()) -> Recipe:
    """Reads and checks the form of a recipe; `compressor.recipe.resolve` checks the files and models that it names.

    Args:
        path: The YAML file.
        overrides: `dotted.path=value` strings in the order given.

    Raises:
        RecipeError: Every problem of form, with line numbers.
    """
    recipe, problems, _ = read(path, overrides)
    if problems or recipe is None:
        raise RecipeError(problems, str(path))
    return recipe


def read(
    path: Path, overrides: Sequence[str] = (), content: str | None = None
) -> tuple[Recipe | None, list[Problem], Lines]:
    """Like `load`, but returns the problems, with the recipe as far as it makes sense without its wrong keys.

    Args:
        path: The YAML file.
        overrides: `dotted.path=value` strings in the order given.
        content: What the file will hold, where it is not written yet.

    Returns:
        A recipe (None when too little is right), the problems, and the line of every key; the recipe is usable when
        there are no problems.
    """
    data, lines = parse(path, content)
    for override in overrides:
        apply(data, override)
    try:
        return _typed(data), [], lines
    except ValidationError as error:
        for location, answer in messages.answers(error, data).items():
            _set(data, location, answer)
    try:
        return _typed(data), [], lines
    except ValidationError as error:
        problems = messages.problems(error, data, partial(nearest_line, lines))
        # Wrong keys are dropped once, so that what the rest points to can be checked in the same go.
        for location in messages.locations(error, data):
            _remove(data, location)
    try:
        return _typed(data), problems, lines
    except ValidationError:
        return None, problems, lines


def _typed(data: dict[str, Any]) -> Recipe:
    # Through JSON, so that strict mode takes a YAML list for a tuple and nothing else for anything else.
    return Recipe.model_validate_json(json.dumps(data))


def _set(data: Any, location: Location, value: bool) -> None:
    for key in location[:-1]:
        data = data[key]
    data[location[-1]] = value


def _remove(data: Any, location: Location) -> None:
    for key in location[:-1]:
        try:
            data = data[key]
        except (KeyError, IndexError, TypeError):
            return
    if isinstance(data, dict) and location:
        data.pop(location[-1], None)
