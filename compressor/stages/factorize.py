"""Splits the token embeddings into two matrices, as in ALBERT, and recovers accuracy by distillation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from compressor.errors import Add
from compressor.models.families import FAMILIES
from compressor.models.families.albert import NAME as ALBERT
from compressor.models.shape import Shape
from compressor.stages.base import Stage, StageSpec, refuse_inside
from compressor.training.context import Context, Facts
from compressor.training.spec import RecoverySpec

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from compressor.training.distillation import TrainingData


class FactorizeSpec(RecoverySpec, StageSpec):
    """Splits the token embeddings into two matrices, V x E and E x H, as in ALBERT, and recovers accuracy.

    By singular value decomposition, weighted by how often each token occurs. What comes out is an ALBERT; if layers
    share in other ways than an ALBERT's, a `compact_bert`.
    """

    stage: Literal["factorize"]
    """The kind of stage."""
    needs_head: ClassVar[bool] = False
    embedding_size: Annotated[int, Field(ge=2)] = 128
    """E, the width of the embeddings; at the incoming width nothing is split."""

    def leaves(self, shape: Shape, teacher: Shape, ready: Shape | None, add: Add) -> Shape:
        """See `StageSpec.leaves`."""
        if refuse_inside(shape, (), add):
            return shape
        if self.embedding_size > shape.embedding:
            what = f"is {self.embedding_size}, but the incoming embeddings are {shape.embedding} wide"
            add(("embedding_size",), what, f"at most {shape.embedding}")
        if self.embedding_size == shape.embedding:
            return shape
        known = FAMILIES[shape.family]
        family = ALBERT if known.keeps and not known.keeps_mapping else shape.family
        return replace(shape, family=family, embedding=self.embedding_size)


def run(source: Path, output: Path, spec: FactorizeSpec, context: Context) -> Facts:
    """Factorizes the embeddings, and recovers.

    Args:
        source: Checkpoint folder.
        output: Empty folder for the student.
        spec: The stage's keys.
        context: Teacher, rows or corpus, seed, progress.
    """
    from compressor.training import distillation

    data = distillation.prepare(source, spec, context)
    student, facts = _student(data.load_model(), data, spec)
    return {**facts, **distillation.recover(student, data, output)}


def _student(incoming: PreTrainedModel, data: TrainingData, spec: FactorizeSpec) -> tuple[PreTrainedModel, Facts]:
    """The student before training, and how it was made."""
    from compressor.models.surgery.factorize_embeddings import factorize

    counts = data.batches.token_counts(int(incoming.config.vocab_size))
    student, error = factorize(incoming, spec.embedding_size, counts)
    return student, {"embedding_error": error, "parameters": student.num_parameters()}


STAGE = Stage(FactorizeSpec, run)
