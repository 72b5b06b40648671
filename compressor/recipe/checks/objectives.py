"""Whether each training stage's keys belong to its objective, and leave something to learn from."""

from __future__ import annotations

from compressor.errors import Add
from compressor.recipe.document import Recipe
from compressor.tasks import MASKED_LM, TASKS
from compressor.training.spec import DistillationSpec, ObjectiveSpec

_ONLY_TASK = ("alpha_hard", "alpha_margin", "alpha_relation", "alpha_attention", "layer_map", "dimensions")
_ONLY_PRETRAINING = ("alpha_mlm", "alpha_order", "top_k", "mlm_probability", "masking", "maskings")


def check_objectives(recipe: Recipe, add: Add) -> None:
    """Whether each training stage's keys fit its objective, and leave at least one loss."""
    pairs = recipe.data.corpus_spec is not None and recipe.data.corpus_spec.sentence_order
    _check_order_alone(recipe, add)
    for index, stage in enumerate(recipe.stages):
        if not isinstance(stage, ObjectiveSpec):
            continue
        task = recipe.task_of(stage)
        pretraining = task == MASKED_LM
        for key in _ONLY_TASK if pretraining else _ONLY_PRETRAINING:
            if key in stage.model_fields_set:
                other = "training on the task's rows" if pretraining else "objective: pretraining"
                add(("stages", index, key), f"is for {other}", "drop it, or change the objective", kind="conflict")
        if pretraining and stage.trims_vocabulary:
            what = "changes the tokens, and pretraining learns which tokens the teacher guesses"
            add(
                ("stages", index, "vocabulary"), what, "trim in a stage that trains on the task's rows", kind="conflict"
            )
        if stage.makes_teacher and stage.alpha_mlm == 0 and (stage.alpha_order == 0 or not pairs):
            what = "is 0, and there is nothing else to learn"
            hint = "make it positive, or learn the order of segments: data.corpus.sentence_order: true"
            add(("stages", index, "alpha_mlm"), what, hint)
        if not isinstance(stage, DistillationSpec):
            continue
        pretraining_weights = ("soft", "mlm", "cosine", *(["order"] if pairs else []))
        weights = pretraining_weights if pretraining else ("soft", "hard", "margin", "relation", "cosine", "attention")
        given = [getattr(stage, f"alpha_{name}") for name in weights]
        positive_by_default = pretraining_weights if pretraining else _positive_by_default(task, stage)
        if not any(
            value if value is not None else name in positive_by_default
            for name, value in zip(weights, given, strict=True)
        ):
            what = f"{', '.join(f'alpha_{name}' for name in weights)} are all 0: nothing to learn from"
            add(("stages", index, "alpha_soft"), what, "make one positive")


def _positive_by_default(task: str, stage: DistillationSpec) -> tuple[str, ...]:
    """The weights of losses on the task's rows that are not 0 where a stage does not give them."""
    hard = () if TASKS[task].HEAD.vectors else ("hard",)
    return ("soft", *hard, *(("cosine",) if stage.default_alpha_cosine else ()))


def _check_order_alone(recipe: Recipe, add: Add) -> None:
    """Whether a teacher that has learned the order of segments alone is asked for tokens."""
    warming, alone = True, False  # whether the next finetune makes the teacher, see `pipeline.plan`; what that learned
    for index, stage in enumerate(recipe.stages):
        if recipe.task_of(stage) != MASKED_LM:
            continue
        if warming and stage.makes_teacher:
            alone = stage.warms_up
        warming &= stage.warms_up
        if alone and isinstance(stage, DistillationSpec) and stage.trains and stage.alpha_soft != 0:
            what = "learns the teacher's guesses of hidden tokens, and the teacher has learned the order alone"
            hint = "put a finetune that learns both right behind the one with alpha_mlm: 0, or set alpha_soft to 0"
            add(("stages", index, "alpha_soft"), what, hint)
