"""The data of a plan: for each task its rows or its corpus, and their key."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from compressor.data.spec import DEFAULT_MAX_SEQUENCE_LENGTH, HubDataset
from compressor.pipeline.code_digest import made_with
from compressor.pipeline.entry import key_of
from compressor.pipeline.keys import source_inputs
from compressor.recipe.document import Recipe
from compressor.recipe.resolve import Resolved
from compressor.tasks import MASKED_LM
from compressor.training.spec import TrainingSpec

_TOKENS_CODE = ("compressor.measure.token_rows", "compressor.models.loading")
_ROWS_CODE = ("compressor.data.splits", "compressor.tasks", *_TOKENS_CODE)
_CORPUS_CODE = (
    *("compressor.data.corpus.packing", "compressor.data.corpus.masking", "compressor.data.corpus.stream"),
    *_TOKENS_CODE,
)
_ROWS_OWN, _CORPUS_OWN = ("compressor.pipeline.task_rows",), ("compressor.pipeline.corpus_sequences",)
"""Modules that read texts and make tokens of them: all that the data of a run is made with is in its one key."""


@dataclass(frozen=True)
class Data:
    """Rows or a corpus.

    Attributes:
        train: The training rows' or the corpus' file, or hub data set at the commit that was resolved.
        validation: The held-out rows' file, or hub data set at its commit; None for a split of `train`.
        retrieval: The file or folder of a retrieval set, or hub data set at its commit; None where there is none.
        inputs: The inputs of the key.
        selects: Whether some of what could be trained on is held out, to choose variants of a model on.
    """

    train: Path | HubDataset
    validation: Path | HubDataset | None
    inputs: dict[str, Any]
    selects: bool
    retrieval: Path | HubDataset | None = None

    @property
    def key(self) -> str:
        """The key in the store."""
        return key_of(self.inputs)


def plan_data(resolved: Resolved, online: bool) -> dict[str, Data]:
    """The data of each task that a stage of the recipe has, the recipe's own task first.

    Args:
        resolved: The recipe.
        online: Whether hub data sets may be looked up.
    """
    recipe = resolved.recipe
    found: dict[str, Data] = {}
    if resolved.train is not None:
        found[recipe.task] = _rows(resolved, resolved.train, online)
    if resolved.corpus is not None and any(recipe.task_of(stage) == MASKED_LM for stage in recipe.stages):
        found[MASKED_LM] = _corpus(resolved, resolved.corpus, online)
    return found


def _rows(resolved: Resolved, train: Path | HubDataset, online: bool) -> Data:
    recipe, validation = resolved.recipe, None
    raw = recipe.data.train is None
    train, digest = source_inputs(train, "data.corpus" if raw else "data.train", online)
    held_out: dict[str, Any] | None = None
    found: Path | HubDataset | None = None
    more: dict[str, Any] = {}
    if resolved.validation is not None:
        validation, held_out = source_inputs(resolved.validation, "data.validation", online)
    if raw and (corpus := recipe.data.corpus_spec) is not None:
        more["corpus"] = corpus.model_dump(mode="json", exclude={"source"})
    if resolved.retrieval is not None and (searched := recipe.data.retrieval_spec) is not None:
        found, digest_of = source_inputs(resolved.retrieval, "data.retrieval", online)
        more["retrieval"] = {**digest_of, "spec": searched.model_dump(mode="json", exclude={"source"})}
    inputs: dict[str, Any] = {
        "kind": "data",
        "task": recipe.task,  # the same columns are read in another way for another task
        "train": digest,
        "validation": held_out,
        "spec": recipe.data.model_dump(mode="json", exclude={"train", "validation", "corpus", "retrieval"}),
        **more,
        "seed": recipe.seed,
        "labels": "of the data" if resolved.makes_teacher else "of the head",
        **made_with(*_ROWS_CODE, own=_ROWS_OWN),
    }
    return replace(_data(train, validation, inputs, recipe, recipe.task), retrieval=found)


def _corpus(resolved: Resolved, corpus: Path | HubDataset, online: bool) -> Data:
    recipe, spec = resolved.recipe, resolved.recipe.data.corpus_spec
    assert spec is not None, "a corpus that was found is in the recipe"
    corpus, digest = source_inputs(corpus, "data.corpus", online)
    inputs: dict[str, Any] = {
        "kind": "corpus",
        "corpus": digest,
        "spec": spec.model_dump(mode="json", exclude={"source"}),
        "score_length": score_length(recipe),
        "seed": recipe.seed,
        **made_with(*_CORPUS_CODE, own=_CORPUS_OWN),
    }
    return _data(corpus, None, inputs, recipe, MASKED_LM)


def _data(
    train: Path | HubDataset, validation: Path | HubDataset | None, inputs: dict[str, Any], recipe: Recipe, task: str
) -> Data:
    stages = [stage for stage in recipe.stages if recipe.task_of(stage) == task]
    chooses = any(stage.trial == "quality" for stage in stages) or (task != MASKED_LM and recipe.data.tune_thresholds)
    selects = chooses and any(stage.trains for stage in stages)
    return Data(train, validation, {**inputs, "selects": True} if selects else inputs, selects)


def score_length(recipe: Recipe) -> int:
    """Tokens of the held-out sequences of a corpus: as many as the shortest that a pretraining stage trains on."""
    stages = [stage for stage in recipe.stages if recipe.task_of(stage) == MASKED_LM]
    lengths = [stage.max_sequence_length for stage in stages if isinstance(stage, TrainingSpec) and stage.trains]
    return min(length or DEFAULT_MAX_SEQUENCE_LENGTH for length in lengths or [None])
