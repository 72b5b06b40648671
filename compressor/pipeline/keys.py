"""What the keys of a run's stages and measurements are made of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from compressor import __version__
from compressor.data import hub
from compressor.data.spec import HubDataset
from compressor.files import file_digest
from compressor.host import BUILD_LIBRARIES, host, processor, versions
from compressor.pipeline.code_digest import code_digest
from compressor.recipe.document import Recipe
from compressor.stages.base import StageSpec
from compressor.stages.export import ExportSpec
from compressor.stages.prune import PruneSpec
from compressor.stages.quantize import QuantizeSpec

UNKNOWN = "unknown until it is downloaded"


CURRENT = "current"
"""What a stage is called beside the model of another run."""


_TRIAL_CODE = ("compressor.measure.trial", "compressor.measure.worker")


_MEASURE_CODE = ("compressor.measure.measurement", "compressor.measure.worker")


def _trial_inputs(recipe: Recipe, spec: StageSpec) -> dict[str, Any]:
    """What a stage that tries models out depends on besides: how they are exported and if need be timed or scored."""
    measure = recipe.measure.model_dump(mode="json")
    conditions: dict[str, Any] = {"runtime": measure["runtime"]}
    if isinstance(spec, QuantizeSpec) and spec.accuracy is not None:
        conditions |= {"batch_size": measure["batch_size"], "processor": processor()}
    elif not isinstance(spec, PruneSpec) or spec.target is None or spec.target.num_parameters is not None:
        return {}
    elif spec.target.latency_p50_ms:
        conditions = {**measure, "host": host()}
    return {"trial": {**conditions, "code": code_digest(*_TRIAL_CODE)}}


def _export_inputs(recipe: Recipe, spec: StageSpec) -> dict[str, Any]:
    """What exported files say of their making, besides what is in their key anyway."""
    return {"made_by": {"recipe": recipe.name, "compressor": __version__}} if isinstance(spec, ExportSpec) else {}


def _measure_inputs(recipe: Recipe, task: str, data: str, key: str, baseline: str, previous: str) -> dict[str, Any]:
    return {
        "kind": "measure",
        "data": data,
        "task": task,
        "measure": recipe.measure.model_dump(mode="json"),
        "code": code_digest(*_MEASURE_CODE, "compressor.tasks"),
        "versions": versions(BUILD_LIBRARIES),
        "host": host(),
        "checkpoint": key,
        "references": {"baseline": baseline, "previous": previous},
    }


def _rows_digest(source: Path | HubDataset, online: bool) -> dict[str, Any]:
    if isinstance(source, Path):
        return {"format": source.suffix, "sha256": file_digest(source)}
    named = source.model_dump(mode="json", exclude={"revision"})
    return {**named, "commit": hub.dataset_commit(source, online) or UNKNOWN}


def _pinned(source: Path | HubDataset, digest: Mapping[str, Any]) -> Path | HubDataset:
    """A hub data set at the very commit that was resolved, so that what is read is what the key says."""
    return source if isinstance(source, Path) else source.model_copy(update={"revision": digest["commit"]})
