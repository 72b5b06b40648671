"""Parts of a recipe that several of its others have: gates, and what names raw text.

Strict and frozen; attribute docstrings become help.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from compressor.metrics import RULES

Scalar = bool | int | float | str


class Spec(BaseModel):
    """Base of every part of a recipe: strict, frozen, no unknown keys."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, use_attribute_docstrings=True
    )


class _AbsoluteRules(Spec):
    """Rules about the value alone."""

    min: float | None = None
    """The value is at least this."""
    max: float | None = None
    """The value is at most this."""


class _RelativeRules(Spec):
    """Rules about the value and a reference."""

    max_drop: float | None = None
    """Reference minus value is at most this, in the metric's own unit."""
    min_retention: float | None = None
    """Value / reference is at least this."""
    min_speedup: float | None = None
    """Reference / value is at least this; both timed in turn in one process."""
    max_ratio: float | None = None
    """Value / reference is at most this."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Confidence of each of the two one-sided bounds."""

    @property
    def limits(self) -> dict[str, float]:
        """The rules that are set, with their limits."""
        return {rule: limit for rule in RULES if (limit := getattr(self, rule, None)) is not None}

    @model_validator(mode="after")
    def _has_a_rule(self) -> Self:
        if not self.limits:
            allowed = [rule for rule in RULES if rule in type(self).model_fields]
            raise ValueError(f"no rule; give at least one of {', '.join(allowed)}")
        return self


class Gate(_RelativeRules, _AbsoluteRules):
    """Limits for one metric. `pass` and `fail` need the whole interval on one side, else it is `inconclusive`."""

    relative_to: Literal["baseline", "previous"] = "baseline"
    """The reference: the teacher, or the stage before this one."""


class RegressionGate(_RelativeRules):
    """Limits for one metric of the last stage, whose reference is the model of the run that `--baseline` names."""

    relative_to: ClassVar[str] = "run"


class HubDataset(Spec):
    """A data set on the Hugging Face hub."""

    hub: str
    """Data set id, such as `nyu-mll/glue`."""
    name: str | None = None
    """Configuration of the data set, such as `sst2`."""
    split: str
    """Split, such as `train`."""
    revision: str | None = None
    """Commit, tag or branch; the commit it resolves to is written into the lock."""


Source = str | HubDataset


class TextSpec(Spec):
    """Raw text, read as a stream: memory does not grow with it."""

    source: Source
    """txt, csv, tsv, jsonl or parquet file (relative to the recipe), `package:PKG/path`, or a data set on the hub."""
    text: str = "text"
    """Column with the text; a txt file has none, each of its lines is a text."""
    where: dict[str, Scalar] = Field(default_factory=dict)
    """Keep only rows whose columns have these values."""
    fraction: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Keep this share of the texts, drawn by a hash of the text."""
