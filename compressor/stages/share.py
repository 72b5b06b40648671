"""Makes layers share their weights, as in ALBERT, and recovers accuracy by distillation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from compressor.errors import Add
from compressor.models.families.albert import NAME as ALBERT
from compressor.models.families.compact_bert import NAME as COMPACT_BERT
from compressor.models.shape import Shape
from compressor.stages.base import Stage, StageSpec, refuse_inside
from compressor.training.context import Context, Facts
from compressor.training.spec import RecoverySpec

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from compressor.training.distillation import TrainingData


class ShareSpec(RecoverySpec, StageSpec):
    """Makes layers share their weights, as in ALBERT, and recovers accuracy by distillation.

    The weights of group g serve the layers with `layer * groups // layers == g`. Sharing all of a layer gives a plain
    ALBERT; sharing one of its halves gives a `compact_bert` (`compressor.models.register()`).
    """

    stage: Literal["share"]
    """The kind of stage."""
    needs_head: ClassVar[bool] = False
    num_hidden_groups: Annotated[int, Field(ge=1)] = 1
    """Groups of layers; those of a group share."""
    share: Literal["all", "attention", "ffn"] = "all"
    """The part that the layers of a group share; the rest stays separate."""
    num_hidden_layers: Annotated[int, Field(ge=1)] | None = None
    """Layers of the student; by default the incoming checkpoint's. More or fewer cost no parameters where all is
    shared, only time."""
    layers: tuple[Annotated[int, Field(ge=0)], ...] | Literal["mean", "least_harm"] = "least_harm"
    """Initial weights of each group: one incoming layer per group, the `mean` of those it replaces, or whichever of
    these changes the hidden states least, layer by layer, on a sample of the training rows."""

    def leaves(self, shape: Shape, teacher: Shape, ready: Shape | None, add: Add) -> Shape:
        """See `StageSpec.leaves`."""
        if refuse_inside(shape, (), add):
            return shape
        depth, groups = self.num_hidden_layers or shape.layers, self.num_hidden_groups
        if groups > depth:
            what = f"is {groups}, but there are {depth} layers to share"
            add(("num_hidden_groups",), what, f"at most {depth}")
        given = self.layers if isinstance(self.layers, tuple) else None
        if given is not None and (len(given) != groups or max(given, default=0) >= shape.layers):
            what = f"is {list(given)}; there are {groups} groups, and {shape.layers} layers come in"
            add(("layers",), what, f"give a layer from 0 to {shape.layers - 1} for each group")
        whole = shape.heads == shape.hidden // shape.head_size and shape.neurons is not None
        return replace(shape, family=ALBERT if self.share == "all" and whole else COMPACT_BERT, layers=depth)


def run(source: Path, output: Path, spec: ShareSpec, context: Context) -> Facts:
    """Shares weights between layers, and recovers.

    Args:
        source: Checkpoint folder.
        output: Empty folder for the student.
        spec: The stage's keys.
        context: Teacher, rows or corpus, seed, progress.
    """
    from compressor.training import distillation

    data = distillation.prepare(source, spec, context)
    student, facts = _student(data.load_model(), data, spec, context)
    return {**facts, **distillation.recover(student, data, output)}


def _student(
    incoming: PreTrainedModel, data: TrainingData, spec: ShareSpec, context: Context
) -> tuple[PreTrainedModel, Facts]:
    """The student before training, and how it was made."""
    from compressor.models.surgery.share_layers import Sharing, best_start, share
    from compressor.training import layer_search, processes

    depth = spec.num_hidden_layers or int(incoming.config.num_hidden_layers)
    sharing = Sharing(spec.share, spec.num_hidden_groups, depth)
    facts: Facts = {}
    if spec.layers == "least_harm":
        with context.progress.step(f"{context.stage}: which layers to start from") as step:

            def search() -> tuple[list[Any], Any]:
                distance = layer_search.hidden_state_distance(incoming, layer_search.samples(data.batches), step)
                return best_start(incoming, sharing, distance)

            start, facts["tried"] = processes.decided(f"{processes.place(context.work)}: start", search)
    else:
        start = list(spec.layers) if isinstance(spec.layers, tuple) else ["mean"] * spec.num_hidden_groups
    student = share(incoming, sharing, start)
    return student, {"start": start, **facts, "parameters": student.num_parameters()}


STAGE = Stage(ShareSpec, run)
