"""A recipe's gates: limits for one metric."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from compressor.gates.metrics import RULES
from compressor.spec import Spec

REGRESSION = "regression"
"""Name of the comparison with another run, in recipes and in reports."""
FLOAT: Literal["float"] = "float"
"""Name of the same format in float, among what a file that ships is compared with."""

Limit = Annotated[float, Field(allow_inf_nan=False)]


class _AbsoluteRules(Spec):
    """Rules about the value alone."""

    min: Limit | None = None
    """The value is at least this."""
    max: Limit | None = None
    """The value is at most this."""


class _RelativeRules(Spec):
    """Rules about the value and a reference."""

    max_drop: Limit | None = None
    """Reference minus value is at most this, in the metric's own unit."""
    min_retention: Limit | None = None
    """Value / reference is at least this."""
    min_speedup: Limit | None = None
    """Reference / value is at least this; both timed in turn in one process."""
    max_ratio: Limit | None = None
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

    relative_to: Literal["baseline", "previous", "float"] = "baseline"
    """The reference: the teacher, or the stage before this one; for the latency of a quantized file that ships
    (`torchscript.latency_p50_ms`), also the same format in float."""


class RegressionGate(_RelativeRules):
    """Limits for one metric of the last stage, whose reference is the model of the run that `--baseline` names."""

    relative_to: ClassVar[str] = "run"
