"""The settings of quantization that several schemes share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from compressor.spec import Spec

INTEGER_SCHEMES = ("dynamic_int8", "static_int8", "qat_int8")
"""Schemes whose products are int8 throughout, with a scale for each channel; the others store weights small."""


NEURAL_COMPRESSOR_SCHEMES = ("static_int8", "weight_only_int8", "weight_only_int4")
"""What the backend of that name can do."""


_NEURAL_COMPRESSOR_LIBRARIES = ("neural-compressor", "torchao")
"""Its observers are torchao's."""


class CalibrationSpec(Spec):
    """How the ranges of the activations are found, on training rows."""

    method: Literal["min_max", "percentile", "entropy"] = "min_max"
    """`min_max`: all that was seen; `percentile`: without the outermost values; `entropy`: the range whose int8 form
    diverges least from what was seen."""
    percentile: Annotated[float, Field(gt=50, lt=100)] = 99.99
    """Percentile: share of the values, in percent, that lie inside."""
    samples: Annotated[int, Field(ge=1)] = 256
    """Training rows that are read, evenly spread; of a language model, sequences of the corpus."""

    @model_validator(mode="after")
    def _has_a_percentile(self) -> CalibrationSpec:
        if self.method != "percentile" and "percentile" in self.model_fields_set:
            raise ValueError(f"percentile is for method: percentile, not {self.method}; drop it or change the method")
        return self


class AccuracySpec(Spec):
    """What quantization may cost: matrices stay in float, the most sensitive first, until it costs no more."""

    max_drop: Annotated[float, Field(ge=0)]
    """Most that the task's main metric may lose on the validation rows against the same checkpoint in float."""
