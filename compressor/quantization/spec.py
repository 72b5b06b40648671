"""Settings of quantization."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from compressor.models.quantized import ONNX_FILES
from compressor.quantization import SCHEMES, Scheme, neural_compressor
from compressor.quantization.base import Embeddings
from compressor.spec import OneOf, Spec
from compressor.training.spec import RecoverySpec

BACKENDS = ("onnxruntime", neural_compressor.NAME)
"""Libraries that choose integers and ranges; the first is the default."""

_SchemeName = Annotated[str, OneOf(SCHEMES)]
_SCHEMES_HELP = " ".join(f"`{scheme.name}`: {scheme.help}" for scheme in SCHEMES.values()) + (
    " A list writes a file for each precision; the first is deployed: measured, and what other formats are made of."
)


class CalibrationSpec(Spec):
    """How the ranges of the activations are found, on training rows."""

    method: Literal["min_max", "percentile", "entropy"] = "min_max"
    """`min_max`: the full observed range; `percentile`: without the outermost values; `entropy`: the range whose int8
    histogram has the smallest divergence from the observed one."""
    percentile: Annotated[float, Field(gt=50, lt=100)] = 99.99
    """For `percentile`: share of the values inside the range, in percent."""
    samples: Annotated[int, Field(ge=1)] = 256
    """Number of training rows to read, evenly spread; for a language model, sequences of the corpus."""

    @model_validator(mode="after")
    def _has_a_percentile(self) -> CalibrationSpec:
        if self.method != "percentile" and "percentile" in self.model_fields_set:
            raise ValueError(f"percentile is for method: percentile, not {self.method}; drop it or change the method")
        return self


class AccuracySpec(Spec):
    """Accuracy budget: the most sensitive matrices stay in float until the drop is within it."""

    max_drop: Annotated[float, Field(ge=0)]
    """Largest allowed drop of the primary metric against the same checkpoint in float; of sentence-similarity, of the
    mean cosine of texts' vectors with those in float, which is 1 before. Rows that neither judge nor teach decide: in a
    recipe that trains, up to a tenth of the training rows are held out for it, at most as many as there are validation
    rows; else training rows do."""


class QuantizationSpec(RecoverySpec):
    """Turns weights into integers in the exported graph.

    `qat_int8` trains before, with weights and activations rounded as they will be, to match the teacher, and takes the
    keys of training stages; the other schemes do not train and have no use for those.
    """

    scheme: Annotated[_SchemeName | tuple[_SchemeName, ...], Field(description=_SCHEMES_HELP)] = "dynamic_int8"
    backend: Annotated[str, OneOf(BACKENDS)] = BACKENDS[0]
    """Library that chooses integers and ranges. neural_compressor is an extra, for static_int8 and the weight-only
    schemes."""
    per_channel: bool = True
    """One scale per output channel instead of one per matrix."""
    embeddings: Embeddings = True
    """Quantize the embedding tables too: they are half of a small BERT. `int4`, with int8 schemes: the tokens' table
    gets 4 bits, in blocks of 128 with a scale each; products stay int8."""
    reduce_range: bool = False
    """7-bit weights; for x86 devices without VNNI, where 8-bit products can saturate."""
    block_size: Literal[16, 32, 64, 128] = 32
    """Weight-only schemes: number of consecutive weights that share a scale."""
    keep_float: tuple[str, ...] = ()
    """Matrices that stay in float: names or patterns such as `bert.encoder.layer.0.*`, as the report
    shows them."""
    calibration: CalibrationSpec = Field(default_factory=CalibrationSpec)
    """static_int8 and qat_int8: how the ranges of the activations are found."""
    accuracy: AccuracySpec | None = None
    """Accuracy budget of the stage: it keeps the most sensitive matrices in float to stay within it."""
    size_only: bool = False
    """Whether its files may be slower than the same formats in float. Otherwise the export stage fails a run whose int8
    or int4 file is."""
    epochs: Annotated[float, Field(ge=0)] = 1.0
    """qat_int8: passes over the training rows."""

    @property
    def trains(self) -> bool:
        """Only quantization-aware training does."""
        return any(scheme.trained for scheme in self.schemes) and super().trains

    @property
    def schemes(self) -> tuple[Scheme, ...]:
        """The schemes' entries in the table, the deployed one first."""
        return tuple(SCHEMES[name] for name in ([self.scheme] if isinstance(self.scheme, str) else self.scheme))

    @property
    def how(self) -> Scheme:
        """The deployed scheme."""
        return self.schemes[0]

    def only(self, scheme: Scheme) -> Self:
        """These settings with one scheme."""
        return self.model_copy(update={"scheme": scheme.name})

    @model_validator(mode="after")
    def _makes_sense(self) -> QuantizationSpec:
        given = self.model_fields_set
        self._check_files()
        if "objective" in given:
            raise ValueError("objective is for stages before it: what is quantized does the recipe's own task; drop it")
        for keys, applies in (
            (set(RecoverySpec.model_fields), "trained"),
            ({"calibration"}, "calibrated"),
            ({"block_size"}, "in_blocks"),
            ({"per_channel", "reduce_range"}, "integer"),
        ):
            if not any(getattr(scheme, applies) for scheme in self.schemes) and (wrong := sorted(keys & given)):
                schemes = ", ".join(name for name, scheme in SCHEMES.items() if getattr(scheme, applies))
                raise ValueError(f"{', '.join(wrong)} applies to {schemes}, not to {self._names}; drop it")
        if self.embeddings == "int4" and not any(scheme.integer for scheme in self.schemes):
            schemes = ", ".join(name for name, scheme in SCHEMES.items() if scheme.integer)
            others = f"{self._names} stores tables as it stores matrices"
            raise ValueError(f"embeddings: int4 applies to {schemes}; {others}: drop it, or use weight_only_int4")
        if self.backend == neural_compressor.NAME:
            self._check_neural_compressor()
        return self

    @property
    def _names(self) -> str:
        return ", ".join(scheme.name for scheme in self.schemes)

    def _check_files(self) -> None:
        """Refuses schemes that need the same file."""
        if not self.schemes:
            raise ValueError("scheme is an empty list; name at least one scheme")
        files: dict[str, str] = {}
        for scheme in self.schemes:
            other = files.setdefault(scheme.precision, scheme.name)
            if other != scheme.name or self._names.split(", ").count(scheme.name) > 1:
                file = ONNX_FILES[scheme.precision].as_posix()
                raise ValueError(f"scheme has {other} and {scheme.name}, which both write {file}; drop one of them")

    def _check_neural_compressor(self) -> None:
        """Refuses settings that the library does not support."""
        allowed = ", ".join(neural_compressor.ALGORITHMS)
        if absent := [scheme.name for scheme in self.schemes if scheme.name not in neural_compressor.ALGORITHMS]:
            raise ValueError(
                f"backend neural_compressor does not support {absent[0]}; it supports {allowed}; or use onnxruntime"
            )
        if self.calibration.method == "percentile":
            what = "backend neural_compressor does not support calibration.method: percentile"
            raise ValueError(f"{what}; it supports min_max, entropy; or use onnxruntime")
        if self.reduce_range:
            raise ValueError(
                "backend neural_compressor does not support reduce_range: its weights have 8 bits; use onnxruntime"
            )
