"""Whether a recipe's stages can learn, and be gated by, the order of two segments."""

from __future__ import annotations

from compressor.data.corpus.sentence_pairs import LEAST_LENGTH
from compressor.errors import Add, Location
from compressor.gates.metrics import RELATIVE_RULES
from compressor.models.checkpoint import Checkpoint
from compressor.models.families import FAMILIES
from compressor.models.heads import PRETRAINING
from compressor.recipe.document import Recipe
from compressor.stages.base import StageSpec
from compressor.tasks import MASKED_LM, has_head
from compressor.training.spec import TrainingSpec

METRIC = "sentence_order_accuracy"


def check_pairs(recipe: Recipe, add: Add) -> None:
    """Whether keys and gates that are about pairs of segments have a corpus of pairs, and sequences room for them."""
    corpus = recipe.data.corpus_spec
    pairs = corpus is not None and corpus.sentence_order
    for index, stage in _pretraining(recipe):
        if not pairs:
            hint = "set data.corpus.sentence_order: true, or drop it"
            if getattr(stage, "alpha_order", None) is not None:
                add(("stages", index, "alpha_order"), "is for a corpus of pairs of segments", hint, kind="conflict")
            if METRIC in stage.gates:
                add(
                    ("stages", index, "gates", METRIC),
                    "is measured on a corpus of pairs of segments",
                    hint,
                    kind="conflict",
                )
        length = stage.max_sequence_length if isinstance(stage, TrainingSpec) else None
        if pairs and length is not None and length < LEAST_LENGTH:
            what = f"is {length}, but a pair of segments takes [CLS] a [SEP] b [SEP]"
            add(("stages", index, "max_sequence_length"), what, f"at least {LEAST_LENGTH}")


def check_family(recipe: Recipe, index: int, family: str, add: Add) -> None:
    """Whether a model that a stage trains has a head for the order of segments, where it is to learn it.

    Args:
        recipe: The recipe.
        index: The stage's.
        family: `model_type` of the model that comes out of it.
        add: Called with location, what, hint for a problem.
    """
    stage, corpus = recipe.stages[index], recipe.data.corpus_spec
    if corpus is None or not corpus.sentence_order or PRETRAINING.part in FAMILIES[family].outside:
        return
    if recipe.task_of(stage) == MASKED_LM and isinstance(stage, TrainingSpec):
        chosen = "architecture" in type(stage).model_fields and stage.ready_student is None
        place: Location = ("stages", index, "architecture") if chosen else ("stages", index)
        what = f"a {family} model has no head for the order of segments, which data.corpus.sentence_order asks for"
        way = "give `architecture: bert`" if chosen else "start from a BERT or an ALBERT"
        add(place, what, f"{way}, or set `data.corpus.sentence_order: false`", kind="missing")


def check_order_head(recipe: Recipe, incoming: Checkpoint, add: Add) -> None:
    """Whether there is a head for the order of segments where it is gated, and one to compare it with."""
    there, compared = incoming.has_order_head, None
    for index, stage in _pretraining(recipe):
        previous, there = there, there or _makes_head(stage)
        if compared is None:  # the first: makes the baseline, unless the checkpoint is one
            makes_it = stage.makes_teacher or not has_head(incoming, MASKED_LM)
            previous = compared = there if makes_it else incoming.has_order_head
        if (gate := stage.gates.get(METRIC)) is None:
            continue
        place: Location = ("stages", index, "gates", METRIC)
        if not there:
            hint = "train one first: `- stage: finetune`"
            add(place, "the checkpoint has no head for the order of segments", hint, kind="missing")
        elif not (compared if gate.relative_to == "baseline" else previous):
            for rule in sorted(RELATIVE_RULES.intersection(gate.limits)):
                what = f"there is nothing to compare with: the {gate.relative_to} has no head for the order of segments"
                add(
                    (*place, rule), what, "use min or max, or train its head first: `- stage: finetune`", kind="missing"
                )


def _makes_head(stage: StageSpec) -> bool:
    """Whether the language model that comes out has a head for the order, trained or not."""
    return isinstance(stage, TrainingSpec) and (stage.trains or not stage.quantizes)


def _pretraining(recipe: Recipe) -> list[tuple[int, StageSpec]]:
    return [(index, stage) for index, stage in enumerate(recipe.stages) if recipe.task_of(stage) == MASKED_LM]
