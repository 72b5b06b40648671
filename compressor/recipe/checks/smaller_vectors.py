"""Whether the smaller forms of vectors that a recipe names, or has gates of, are measured."""

from __future__ import annotations

from compressor.errors import Add, Location
from compressor.gates.metrics import metric_of
from compressor.models import small_vectors
from compressor.models.small_vectors import PRECISIONS
from compressor.recipe.document import Recipe


def check_smaller(name: str, recipe: Recipe, place: Location, add: Add) -> None:
    """Whether the recipe names the form of vectors that a gate's metric is of.

    Args:
        name: The metric, such as `recall_at_1[128]`.
        recipe: The recipe.
        place: The gate's.
        add: Called with location, what, hint, kind for a problem.
    """
    given = metric_of(name).vectors
    named = [] if recipe.embedding is None else [form.name for form in recipe.embedding.smaller]
    if given in named:
        return
    form = small_vectors.named(given)
    if form is None:
        what = f"{given!r} is no smaller form of vectors"
        hint = f"allowed: a number of dimensions, {' or '.join(PRECISIONS)}, or both, as in 128,int8"
        add(place, what, hint, kind="unknown")
    elif form.name in named:
        add(place, f"{given!r} is called {form.name!r}", "rename the gate", kind="unknown")
    else:
        keys = [f"dimensions: [{form.dimensions}]"] if form.dimensions is not None else []
        keys += [f"precisions: [{form.precision}]"] if form.precision is not None else []
        what = f"vectors in the form {form.name} are not measured: the recipe does not name it"
        add(place, what, f"add `embedding: {{{', '.join(keys)}}}` to the recipe", kind="missing")
