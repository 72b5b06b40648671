"""Whether the smaller forms of vectors that a recipe names, or has gates of, are measured."""

from __future__ import annotations

from compressor.errors import Add, Location
from compressor.gates.metrics import is_metric, metric_of
from compressor.models import small_vectors, vector_outputs
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


def check_named_widths(recipe: Recipe, vector: int, add: Add) -> None:
    """Whether the teacher's vectors have as many numbers as the smaller ones that the recipe names.

    Args:
        recipe: The recipe.
        vector: Numbers of the teacher's vectors.
        add: See `check_smaller`.
    """
    wanted = None if recipe.embedding is None else recipe.embedding.dimensions
    if wanted is not None and max(wanted) > vector:
        add(("embedding", "dimensions"), f"has {max(wanted)}, and vectors have {vector} numbers", f"at most {vector}")


def check_widths(recipe: Recipe, index: int, vector: int, add: Add) -> None:
    """Whether a stage's vectors have the numbers that its gates are of, and whole bytes of bits where it writes files.

    Args:
        recipe: The recipe.
        index: The stage's.
        vector: Numbers of the vectors that the stage leaves.
        add: See `check_smaller`.
    """
    stage = recipe.stages[index]
    for name in stage.gates:
        form = small_vectors.named(metric_of(name).vectors) if is_metric(name) else None
        if form is not None and form.dimensions is not None and form.dimensions > vector:
            what = f"is of {form.dimensions} numbers, and the stage leaves vectors of {vector}"
            add(("stages", index, "gates", name), what, "drop the gate", kind="conflict")
    if (stage.quantizes or stage.ships) and (why := vector_outputs.misfit(recipe.vector_precisions, vector)):
        add(("embedding", "precisions"), *why, kind="conflict")
