"""Whether what is about rankings has queries: gates of rankings, and the distillation of margins."""

from __future__ import annotations

from compressor.errors import Add, Location
from compressor.gates.metrics import RANKINGS, form_and_name
from compressor.gates.spec import REGRESSION
from compressor.recipe.document import Recipe
from compressor.tasks import MASKED_LM, text_regression
from compressor.training.spec import DistillationSpec

_HINT = "name the column that is equal for the rows of one query, which may be that of the text: data.query"


def check_queries(recipe: Recipe, add: Add) -> None:
    """Whether the recipe names queries where gates or losses need them."""
    ranks = recipe.task == text_regression.NAME
    for index, stage in enumerate(recipe.stages):
        if isinstance(stage, DistillationSpec) and stage.alpha_margin and recipe.task_of(stage) != MASKED_LM:
            place: Location = ("stages", index, "alpha_margin")
            if not ranks:
                what = f"is of the numbers of rows, and {recipe.task} gives none"
                add(place, what, f"drop it; it is for {text_regression.NAME}", kind="conflict")
            elif recipe.data.query is None:
                add(place, "is of rows of one query, and the recipe names none", _HINT, kind="missing")
            elif stage.trains and stage.batch_size == 1:
                what = "compares two rows of a batch, and batch_size is 1"
                add(place, what, "make batch_size a multiple of the rows of a query", kind="conflict")
        if ranks and recipe.data.query is None:
            for name in stage.gates:
                _check_gate(("stages", index, "gates", name), name, add)
    if ranks and recipe.data.query is None:
        for name in recipe.regression or {}:
            _check_gate((REGRESSION, name), name, add)


def _check_gate(place: Location, name: str, add: Add) -> None:
    if form_and_name(name)[1] in RANKINGS:
        add(place, "ranks the rows of a query, and the recipe names no queries", _HINT, kind="missing")
