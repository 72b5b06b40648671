"""Asserts on a problem's place and kind: its sentence may be rewritten without breaking a test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from compressor.errors import RecipeError


def kinds(error: RecipeError) -> dict[str, str]:
    """The kind of each problem, by its place."""
    return {problem.where: problem.kind for problem in error.problems}


@contextmanager
def refused(where: str, kind: str) -> Iterator[None]:
    """What is inside raises a RecipeError with a problem of this kind at this place."""
    with pytest.raises(RecipeError) as caught:
        yield
    found = {(problem.where, problem.kind) for problem in caught.value.problems}
    assert (where, kind) in found, str(caught.value)
