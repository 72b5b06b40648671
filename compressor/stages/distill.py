"""Builds a smaller student and trains it to match the teacher, on the task's rows or on raw text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from compressor.errors import Add
from compressor.models.checkpoint import Checkpoint
from compressor.models.families import FAMILIES
from compressor.models.families.albert import NAME as ALBERT
from compressor.models.shape import Shape
from compressor.spec import OneOf
from compressor.stages.base import Stage, StageSpec, refuse_inside, refuse_moved_first
from compressor.training.context import Context, Facts
from compressor.training.spec import DistillationSpec

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from compressor.training.distillation import TrainingData

ARCHITECTURES = tuple(dict.fromkeys(name for family in FAMILIES.values() for name in family.becomes))


class DistillSpec(DistillationSpec, StageSpec):
    """Builds a smaller student and trains it to match the teacher.

    The student starts from layers of the incoming checkpoint, or from a ready one.
    """

    stage: Literal["distill"]
    """The kind of stage."""
    needs_head: ClassVar[bool] = False
    default_alpha_cosine: ClassVar[float] = 0.0
    num_hidden_layers: Annotated[int, Field(ge=1)] | None = None
    """Layers of the student; by default as many as `layers` lists, or half of the teacher's, or all of a checkpoint
    that has fewer than the teacher already."""
    layers: tuple[Annotated[int, Field(ge=0)], ...] | Literal["every_other", "importance"] = "every_other"
    """Which layers the student starts from, first layer 0. `every_other` spaces them evenly from layer 0; `importance`
    drops one after the other the layer whose absence changes the outputs least."""
    hidden_size: Annotated[int, Field(ge=1)] | None = None
    """Width of the student, a multiple of the head size; by default the incoming checkpoint's. A narrower one keeps the
    strongest channels, heads and neurons."""
    student: str | None = None
    """Start from this ready checkpoint instead: a folder, `package:PKG/path` or a hub id."""
    architecture: Annotated[str, OneOf(ARCHITECTURES)] | None = None
    """`distilbert` has no token types, and a ReLU layer where BERT has its tanh pooler; `bert` keeps both. By default
    distilbert; a checkpoint with shared or factorized weights stays what it is."""

    @model_validator(mode="after")
    def _consistent(self) -> DistillSpec:
        if isinstance(self.layers, tuple):
            if not self.layers:
                raise ValueError("layers is empty; list at least one layer, or say every_other")
            if self.num_hidden_layers not in (None, len(self.layers)):
                raise ValueError(
                    f"num_hidden_layers is {self.num_hidden_layers} but layers lists {len(self.layers)}; "
                    "drop one of the keys or make them agree"
                )
        fixed = ("num_hidden_layers", "layers", "hidden_size", "architecture")
        if self.student is not None and (given := [key for key in fixed if key in self.model_fields_set]):
            raise ValueError(f"student is a ready checkpoint, so {', '.join(given)} cannot be chosen; drop one of them")
        return self

    @property
    def ready_student(self) -> str | None:
        """The ready checkpoint of `student`."""
        return self.student

    def leaves(self, shape: Shape, teacher: Shape, ready: Shape | None, add: Add) -> Shape:
        """See `StageSpec.leaves`."""
        if self.student is not None:
            return shape if ready is None else ready
        allowed = FAMILIES[shape.family].becomes if shape.family in FAMILIES else ()
        if self.architecture is not None and self.architecture not in allowed:
            what = f"a {shape.family} checkpoint cannot become {self.architecture}"
            hint = f"allowed: {', '.join(allowed)}" if allowed else "leave it out: the student stays a " + shape.family
            add(("architecture",), what, hint, kind="unsupported")
        count, layers = self.num_hidden_layers, shape.layers
        if count is not None and count > layers:
            add(("num_hidden_layers",), f"is {count}, but {layers} layers come in", f"at most {layers}")
        chosen = self.layers if isinstance(self.layers, tuple) else ()
        if wrong := [layer for layer in chosen if layer >= layers]:
            what = f"there is no layer {wrong[0]}; {layers} layers come in"
            add(("layers",), what, f"allowed: 0 to {layers - 1}")
        refuse_moved_first(shape, chosen, add)
        if self.hidden_size not in (None, shape.hidden):
            refuse_inside(shape, ("hidden_size",), add)
        hidden, size = self.hidden_size or shape.hidden, shape.head_size
        if hidden > shape.hidden or hidden % size:
            what = f"is {hidden}; heads of {size} channels stay whole"
            add(("hidden_size",), what, f"allowed: multiples of {size} up to {shape.hidden}")
        smaller = layers if layers < teacher.layers else max(1, layers // 2)
        family = self.architecture or (allowed[0] if allowed else shape.family)
        embedding = hidden if shape.embedding == shape.hidden else shape.embedding
        if FAMILIES[shape.family].keeps_mapping and embedding == hidden < shape.hidden:
            family = ALBERT  # which maps embeddings that are as wide as the layers, too
        return replace(
            shape,
            family=family,
            layers=len(chosen) or count or smaller,
            hidden=hidden,
            heads=_in_proportion(shape.heads, hidden, shape.hidden),
            neurons=shape.neurons if hidden == shape.hidden else None,
            embedding=embedding,
        )


def _in_proportion(heads: int | None, hidden: int, of: int) -> int | None:
    return None if heads is None else max(1, round(heads * hidden / of))


def run(source: Path, output: Path, spec: DistillSpec, context: Context) -> Facts:
    """Distils a student, which starts from layers of the incoming checkpoint or from a ready one.

    Args:
        source: Checkpoint folder that gives the layers.
        output: Empty folder for the student.
        spec: The stage's keys.
        context: Teacher, ready student, rows or corpus, seed, progress.
    """
    from compressor.training import distillation

    data = distillation.prepare(context.student or source, spec, context)
    student, facts = _student(data.load_model(), data, spec, context)
    return {**facts, **distillation.recover(student, data, output)}


def _student(
    incoming: PreTrainedModel, data: TrainingData, spec: DistillSpec, context: Context
) -> tuple[PreTrainedModel, Facts]:
    """The student before training, and how it was made."""
    from compressor.models.surgery.reduce_width import reduce_width
    from compressor.models.surgery.select_layers import chosen_layers, least_harmful, reduce_depth
    from compressor.training import layer_search, processes

    if context.student is not None:
        return incoming, {"start": "a ready checkpoint"}
    total, teacher = incoming.config.num_hidden_layers, Checkpoint(context.teacher).num_hidden_layers
    count = spec.num_hidden_layers or (total if total < teacher else max(1, total // 2))
    facts: Facts = {}
    if spec.layers == "importance":
        with context.progress.step(f"{context.stage}: which layers matter") as step:

            def search() -> tuple[list[int], Any]:
                sample = layer_search.samples(data.batches)
                degradation = layer_search.degradation(incoming, sample, data.trained_head, step)
                return least_harmful(incoming, count, degradation)

            layers, facts["importance"] = processes.decided(f"{processes.place(context.work)}: layers", search)
    else:
        layers = chosen_layers(total, count if spec.layers == "every_other" else None, spec.layers)
    becomes = FAMILIES[incoming.config.model_type].becomes
    student = reduce_depth(incoming, layers, spec.architecture or (becomes[0] if becomes else None))
    if spec.hidden_size is not None:
        student = reduce_width(student, spec.hidden_size)
    return student, {"layers": layers, **facts}


STAGE = Stage(DistillSpec, run)
