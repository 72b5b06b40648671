"""Stages: functions from a checkpoint on disk to a new checkpoint on disk. One file each.

To add one: a file with the stage's keys (a `StageSpec`), its `run(source, output, spec, context) -> Facts` and a
`Stage` of both, and a line in `_STAGES` below. `run` reads the checkpoint folder `source`, fills the empty folder
`output`, and knows nothing of gates, measurements, the store or other stages. The spec says what a recipe's checks need
to know: what the stage may follow, what it needs of the incoming checkpoint, and the shape that it leaves.
"""

from __future__ import annotations

from compressor.stages import distill, export, factorize, finetune, prune, quantize, share
from compressor.stages.base import Stage, StageSpec

__all__ = ["STAGES", "Stage", "StageSpec"]

_STAGES = (
    finetune.STAGE,
    distill.STAGE,
    share.STAGE,
    factorize.STAGE,
    prune.STAGE,
    quantize.STAGE,
    export.STAGE,
)

STAGES: dict[str, Stage] = {stage.kind: stage for stage in _STAGES}
"""Stages by their names in recipes."""
