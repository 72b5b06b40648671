"""Makes layers share their weights, as in ALBERT, and trains the student back to match the teacher."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from compressor.context import Context, Facts
from compressor.recipe_stages import ShareSpec

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from compressor.training.batches import MaskedBatches, RowBatches


def run(source: Path, output: Path, spec: ShareSpec, context: Context) -> Facts:
    """Shares weights between layers, and recovers.

    Args:
        source: Checkpoint folder.
        output: Empty folder for the student.
        spec: The stage's keys.
        context: Teacher, rows or corpus, seed, progress.
    """
    from compressor.surgery.sharing import Sharing, best_start, share
    from compressor.training import initial
    from compressor.training.distillation import distil

    def make(incoming: PreTrainedModel, batches: RowBatches | MaskedBatches) -> tuple[PreTrainedModel, Facts]:
        depth = spec.num_hidden_layers or int(incoming.config.num_hidden_layers)
        sharing = Sharing(spec.share, spec.num_hidden_groups, depth)
        facts: Facts = {}
        if spec.layers == "least_harm":
            with context.progress.step(f"{spec.name or spec.kind}: which layers to start from") as step:
                drift = initial.drift(incoming, initial.samples(batches), step)
                start, facts["tried"] = best_start(incoming, sharing, drift)
        else:
            start = list(spec.layers) if isinstance(spec.layers, tuple) else ["mean"] * spec.num_hidden_groups
        student = share(incoming, sharing, start)
        return student, {"start": start, **facts, "parameters": student.num_parameters()}

    return distil(source, output, spec, context, make)
