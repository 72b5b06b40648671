"""Whether the stages can work on the checkpoint that comes in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from compressor.errors import Add
from compressor.gates.metrics import RELATIVE_RULES
from compressor.models import tokenizer_files
from compressor.models.checkpoint import Checkpoint, input_names
from compressor.models.heads import SENTENCE_EMBEDDING
from compressor.models.shape import Shape
from compressor.recipe.checks.order import first_stage, given_to, within
from compressor.recipe.checks.sentence_order import check_family, check_order_head
from compressor.recipe.checks.smaller_vectors import check_named_widths, check_widths
from compressor.recipe.document import Recipe
from compressor.stages.base import StageSpec
from compressor.tasks import MASKED_LM, TASKS, has_head, question_answering, reads_pairs
from compressor.training.pruning_spec import PruningSpec
from compressor.training.spec import DistillationSpec, ObjectiveSpec, TrainingSpec

NO_LANGUAGE_MODEL = (
    "the teacher has no masked-LM head, so it has no soft targets",
    "train one first with `- {stage: finetune, objective: pretraining}` (in a recipe with task: masked-lm, "
    "`- stage: finetune`), or distil hidden states without logits: `alpha_soft: 0`",
)
"""Problem and hint for a teacher without a language model's head."""


def check_checkpoint(
    recipe: Recipe, incoming: Checkpoint, add: Add, students: Mapping[int, Checkpoint] | None = None
) -> None:
    """Whether the stages can work on a checkpoint: its head, layers, width and position table.

    Args:
        recipe: The recipe.
        incoming: The recipe's model.
        add: Called with location, what, hint for each problem.
        students: Ready checkpoints that stages start from, by index, as far as they are here.
    """
    _check_heads(recipe, incoming, add)
    _check_language_model(recipe, incoming, add)
    _check_token_types(recipe, incoming, add)
    check_order_head(recipe, incoming, add)
    source = Shape.of(incoming)
    check_named_widths(recipe, source.vector, add)
    if recipe.measure.sequence_length > source.table:
        what = f"is {recipe.measure.sequence_length}, but the checkpoint's position table has {source.table} rows"
        add(("measure", "sequence_length"), what, f"at most {source.table}")
    students = students or {}
    for index, (stage, shape, teacher) in enumerate(stage_shapes(recipe, incoming, students, add)):
        if stage.ready_student is not None and index not in students:
            return  # what it leaves is known when it is downloaded, and all is checked again then
        if isinstance(stage, DistillationSpec):
            stage.check_layers(shape, teacher, within(index, add))
            if recipe.task_of(stage) == MASKED_LM:
                _check_reading(recipe, index, (incoming, students), (shape, teacher), add)
        check_family(recipe, index, shape.family, add)
        _check_dimensions(index, stage, incoming, shape, add)
        check_widths(recipe, index, shape.vector, add)
        length = stage.max_sequence_length if isinstance(stage, TrainingSpec) else None
        if length is not None and length > shape.table:
            what = f"is {length}, but the checkpoint's position table has {shape.table} rows"
            add(("stages", index, "max_sequence_length"), what, f"at most {shape.table}")
        if stage.longest_fixed > shape.table:
            what = f"has {stage.longest_fixed}, but the checkpoint's position table has {shape.table} rows"
            add(("stages", index, "fixed_lengths"), what, f"at most {shape.table}")


def _check_dimensions(index: int, stage: StageSpec, incoming: Checkpoint, shape: Shape, add: Add) -> None:
    """Whether vectors have as many numbers as a stage makes useful."""
    wanted = stage.dimensions if isinstance(stage, ObjectiveSpec) else None
    if wanted is None or incoming.fault(SENTENCE_EMBEDDING) is not None:
        return
    if max(wanted) > (there := shape.vector):
        add(("stages", index, "dimensions"), f"has {max(wanted)}, and vectors have {there} numbers", f"at most {there}")


def _check_reading(
    recipe: Recipe,
    index: int,
    given: tuple[Checkpoint, Mapping[int, Checkpoint]],
    shapes: tuple[Shape, Shape],
    add: Add,
) -> None:
    """Whether the teacher of a pretraining stage can read the student's sequences: their tokens, and their length."""
    stage, (student, teacher) = recipe.stages[index], shapes
    assert isinstance(stage, DistillationSpec)
    length = stage.max_sequence_length
    learns = stage.trains and (stage.alpha_soft != 0 or stage.alpha_cosine != 0)
    if learns and length is not None and teacher.table < length <= student.table:
        what = f"is {length}, but the teacher's position table has {teacher.table} rows"
        add(("stages", index, "max_sequence_length"), what, f"at most {teacher.table}")
    if (ready := given[1].get(index)) is None:
        return
    first = first_stage(recipe, MASKED_LM)
    assert first is not None
    theirs = list(given_to(recipe, *given))[first[0]]
    ours, others = (None if there is None else tokenizer_files.ids(there.path) for there in (ready, theirs))
    if ours is not None and others is not None and ours != others:
        what = f"has a vocabulary ({len(ours)} tokens) that is not the teacher's ({len(others)}), so it cannot learn "
        hint = "start from a student with the teacher's tokenizer, or distil on the task instead"
        add(("stages", index, "student"), f"{what}the teacher's guesses", hint, kind="conflict")


def stage_shapes(
    recipe: Recipe, incoming: Checkpoint, students: Mapping[int, Checkpoint], add: Add
) -> Iterator[tuple[StageSpec, Shape, Shape]]:
    """Each stage with the shape of the checkpoint that it leaves, and its teacher's.

    Args:
        recipe: The recipe.
        incoming: The recipe's model.
        students: Ready checkpoints that stages start from, by index, as far as they are here.
        add: Notes what a stage cannot make of its incoming checkpoint.
    """
    source = Shape.of(incoming)
    shapes = {MASKED_LM: source, recipe.task: source}
    teachers: dict[str, Shape] = {}
    for index, stage in enumerate(recipe.stages):
        task = recipe.task_of(stage)
        teacher = teachers.setdefault(task, shapes[task] if stage.makes_teacher else source)
        ready = students.get(index)
        shape = stage.leaves(shapes[task], teacher, None if ready is None else Shape.of(ready), within(index, add))
        shapes[task] = shapes[recipe.task] = shape
        yield stage, shape, teacher


def _check_token_types(recipe: Recipe, incoming: Checkpoint, add: Add) -> None:
    """Whether the model can tell the second of two texts from the first, where there are two."""
    corpus = recipe.data.corpus_spec
    pairs = reads_pairs(recipe.task, recipe.data) or recipe.task == question_answering.NAME
    if not pairs and not (corpus is not None and corpus.sentence_order):
        return
    if "token_type_ids" in input_names(incoming.family) and incoming.token_types < 2:
        what = "the checkpoint has type_vocab_size: 1, and rows of two texts need two types of tokens"
        add(("model",), what, "give one text for each row, or a checkpoint that was trained on pairs", kind="conflict")


def _no_head(incoming: Checkpoint, task: str) -> str:
    """Why a checkpoint has no head for a task, in words."""
    head = TASKS[task].HEAD
    architecture = ", ".join(incoming.architectures) or "no architecture"
    what = f"the checkpoint ({architecture}) has no head for {task}"
    return f"{what}: {incoming.fault(head)}" if incoming.claims(head) else what


def _check_heads(recipe: Recipe, incoming: Checkpoint, add: Add) -> None:
    """Whether the teacher of the recipe's task has a head for it, or is given one."""
    first = first_stage(recipe, recipe.task)
    if first and recipe.task != MASKED_LM and not first[1].makes_teacher:
        if first[0] > 0:
            hint = "make the task's teacher first: `- stage: finetune`"
            add(("stages", first[0]), f"there is no teacher for {recipe.task} before it", hint, kind="missing")
        elif not has_head(incoming, recipe.task):
            hint = "make `- stage: finetune` the first stage, or give a fine-tuned checkpoint"
            add(("model",), _no_head(incoming, recipe.task), hint, kind="missing")


def _check_language_model(recipe: Recipe, incoming: Checkpoint, add: Add) -> None:
    """Whether the teacher of pretraining has a head, or what needs none is asked for."""
    first = first_stage(recipe, MASKED_LM)
    if first is None or first[1].makes_teacher or has_head(incoming, MASKED_LM):
        return
    index, stage = first
    if not isinstance(stage, DistillationSpec) or stage.quantizes:
        add(
            ("model",),
            _no_head(incoming, MASKED_LM),
            "make `- stage: finetune` the first stage",
            kind="missing",
        )
    elif stage.alpha_soft != 0:
        add(("stages", index, "alpha_soft"), *NO_LANGUAGE_MODEL)
    elif stage.alpha_mlm == 0:
        what = "is 0, and the teacher has no masked-LM head: the student's would stay untrained"
        add(("stages", index, "alpha_mlm"), what, "make it positive", kind="missing")
    if isinstance(stage, PruningSpec) and stage.scores_by_loss:
        what = "is taylor, which takes gradients of the loss, and the checkpoint has no masked-LM head"
        add(("stages", index, "scoring"), what, "use magnitude, or train a head first", kind="missing")
    for name, gate in stage.gates.items():
        for rule in sorted(RELATIVE_RULES.intersection(gate.limits)):
            what = "there is nothing to compare with: the teacher has no masked-LM head"
            add(
                ("stages", index, "gates", name, rule),
                what,
                "use min or max, or train the teacher's head first",
                kind="missing",
            )
