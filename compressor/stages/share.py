"""Makes layers share their weights, as in ALBERT, and trains the student back to match the teacher."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from compressor.stages.base import Stage, StageSpec
from compressor.training.context import Context, Facts
from compressor.training.spec import RecoverySpec

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from compressor.training.batches import MaskedBatches, RowBatches


class ShareSpec(RecoverySpec, StageSpec):
    """Makes layers share their weights, as in ALBERT, and trains the student back to match the teacher.

    The weights of group g serve the layers with `layer * groups // layers == g`. Sharing all of a layer gives a plain
    ALBERT; sharing one of its halves gives a `compact_bert`, which `import compressor` makes known to `AutoModel…`.
    """

    stage: Literal["share"]
    """The kind of stage."""
    num_hidden_groups: Annotated[int, Field(ge=1)] = 1
    """Groups of layers; those of a group share."""
    share: Literal["all", "attention", "ffn"] = "all"
    """What layers of a group share; the rest stays each layer's own."""
    num_hidden_layers: Annotated[int, Field(ge=1)] | None = None
    """Layers of the student; by default the incoming checkpoint's. More or fewer cost no parameters where all is
    shared, only time."""
    layers: tuple[Annotated[int, Field(ge=0)], ...] | Literal["mean", "least_harm"] = "least_harm"
    """What each group starts from: one incoming layer for each group, the `mean` of those it replaces, or whichever of
    these changes the hidden states least, layer by layer, on a sample of the training rows."""


def run(source: Path, output: Path, spec: ShareSpec, context: Context) -> Facts:
    """Shares weights between layers, and recovers.

    Args:
        source: Checkpoint folder.
        output: Empty folder for the student.
        spec: The stage's keys.
        context: Teacher, rows or corpus, seed, progress.
    """
    from compressor.models.surgery.share_layers import Sharing, best_start, share
    from compressor.training import layer_search
    from compressor.training.distillation import distil

    def make(incoming: PreTrainedModel, batches: RowBatches | MaskedBatches) -> tuple[PreTrainedModel, Facts]:
        depth = spec.num_hidden_layers or int(incoming.config.num_hidden_layers)
        sharing = Sharing(spec.share, spec.num_hidden_groups, depth)
        facts: Facts = {}
        if spec.layers == "least_harm":
            with context.progress.step(f"{context.stage}: which layers to start from") as step:
                drift = layer_search.drift(incoming, layer_search.samples(batches), step)
                start, facts["tried"] = best_start(incoming, sharing, drift)
        else:
            start = list(spec.layers) if isinstance(spec.layers, tuple) else ["mean"] * spec.num_hidden_groups
        student = share(incoming, sharing, start)
        return student, {"start": start, **facts, "parameters": student.num_parameters()}

    return distil(source, output, spec, context, make)


STAGE = Stage(ShareSpec, run)
