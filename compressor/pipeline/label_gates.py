"""Gates of single labels: which metrics they want measured, and whether the labels are there."""

from __future__ import annotations

from collections.abc import Sequence

from compressor.errors import Problem, RecipeError, path_text, suggest
from compressor.gates.metrics import ANY_LABEL, metric_of
from compressor.gates.spec import REGRESSION
from compressor.pipeline.plan import Plan
from compressor.pipeline.planned_stage import PlannedStage
from compressor.pipeline.prepared import Prepared
from compressor.tasks.scoring.per_label import expanded, names_of


def wanted(plan: Plan, stages: Sequence[PlannedStage], prepared: Prepared) -> tuple[str, ...]:
    """The metrics of single labels that gates of a plan want, `[*]` as those of all labels.

    Args:
        plan: The plan.
        stages: Its stages that run.
        prepared: The data of the recipe's own task, whose labels they are.

    Raises:
        RecipeError: There is no such label.
    """
    recipe = plan.resolved.recipe
    names = names_of(prepared.task, prepared.labels)
    places = [
        (path_text(("stages", index, "gates", name), recipe.stages), name)
        for index, stage in enumerate(stages)
        for name, _ in stage.gates
    ]
    places += [(f"{REGRESSION}.{name}", name) for name in recipe.regression or {}]
    labelled = [(place, name) for place, name in places if metric_of(name).label]
    problems = []
    for place, name in labelled:
        label = metric_of(name).label
        if label not in (*names, ANY_LABEL):
            what = f"no label is called {label!r}"
            problems.append(Problem(place, what, suggest(label, list(names)), kind="unknown"))
    if problems:
        raise RecipeError(problems, str(plan.resolved.path))
    return tuple(dict.fromkeys(metric for _, name in labelled for metric in expanded(name, names)))
