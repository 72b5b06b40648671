"""Splits the token embeddings into two matrices, as in ALBERT, and trains the student back to match the teacher."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from compressor.context import Context, Facts
from compressor.recipe_stages import FactorizeSpec

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from compressor.training.batches import MaskedBatches, RowBatches


def run(source: Path, output: Path, spec: FactorizeSpec, context: Context) -> Facts:
    """Factorizes the embeddings, and recovers.

    Args:
        source: Checkpoint folder.
        output: Empty folder for the student.
        spec: The stage's keys.
        context: Teacher, rows or corpus, seed, progress.
    """
    from compressor.surgery.factorizing import factorize
    from compressor.training.distillation import distil

    def make(incoming: PreTrainedModel, batches: RowBatches | MaskedBatches) -> tuple[PreTrainedModel, Facts]:
        counts = batches.token_counts(int(incoming.config.vocab_size))
        student, error = factorize(incoming, spec.embedding_size, counts)
        return student, {"embedding_error": error, "parameters": student.num_parameters()}

    return distil(source, output, spec, context, make)
