"""Turns the checkpoint's weights into integers, as an ONNX graph beside the float checkpoint."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from compressor.models import checkpoint
from compressor.quantization import Ranges, Settings
from compressor.training.context import Context, Facts

if TYPE_CHECKING:
    from compressor.quantization.sensitivity import Subject
from typing import Annotated, Literal

from pydantic import Field, model_validator

from compressor.gates.spec import Gate
from compressor.quantization.spec import (
    _NEURAL_COMPRESSOR_LIBRARIES,
    INTEGER_SCHEMES,
    NEURAL_COMPRESSOR_SCHEMES,
    AccuracySpec,
    CalibrationSpec,
)
from compressor.stages.base import StageSpec
from compressor.training.spec import RecoverySpec


class QuantizeSpec(RecoverySpec):
    """Turns weights into integers in the exported graph.

    `qat_int8` trains before, with weights and activations rounded as they will be, to match the teacher, and takes the
    keys of training stages; the other schemes do not train and have no use for those.
    """

    stage: Literal["quantize"]
    """The kind of stage."""
    scheme: Literal["dynamic_int8", "static_int8", "qat_int8", "weight_only_int8", "weight_only_int4", "fp16"] = (
        "dynamic_int8"
    )
    """`dynamic_int8`: int8 weights, activations quantized on the fly to uint8. `static_int8`: their ranges are found
    beforehand, on training rows. `qat_int8`: the same, and training has got used to it. `weight_only_int8`,
    `weight_only_int4`: small weights, with a scale for every `block_size` of them. `fp16`: half precision, multiplied
    as floats."""
    backend: Literal["onnxruntime", "neural_compressor"] = "onnxruntime"
    """Which library chooses integers and ranges. neural_compressor is an extra, for static_int8 and the
    weight-only schemes."""
    per_channel: bool = True
    """One scale per output channel instead of one per matrix."""
    embeddings: bool = True
    """Quantize the embedding tables too: they are half of a small BERT."""
    reduce_range: bool = False
    """7-bit weights; for x86 devices without VNNI, where 8-bit products can saturate."""
    block_size: Literal[16, 32, 64, 128] = 32
    """Weight-only: neighbouring weights that have a scale of their own together."""
    keep_float: tuple[str, ...] = ()
    """Matrices that stay in float: names or patterns such as `bert.encoder.layer.0.*`, as the report
    shows them."""
    calibration: CalibrationSpec = Field(default_factory=CalibrationSpec)
    """static_int8 and qat_int8: how the ranges of the activations are found."""
    accuracy: AccuracySpec | None = None
    """Find the fastest mix of integers and floats that loses no more than this."""
    epochs: Annotated[float, Field(ge=0)] = 1.0
    """qat_int8: passes over the training rows."""

    @property
    def trains(self) -> bool:
        """Only quantization-aware training does."""
        return self.scheme == "qat_int8" and super().trains

    @property
    def libraries(self) -> tuple[str, ...]:
        """The backend's, where an extra brings it."""
        return _NEURAL_COMPRESSOR_LIBRARIES if self.backend == "neural_compressor" else ()

    @property
    def default_gates(self) -> dict[str, Gate]:
        """A silent loss of quantization fails the run."""
        asked = self.accuracy is not None or self.keep_float or not self.embeddings
        return {} if asked or self.scheme not in INTEGER_SCHEMES else {"quantized_coverage": Gate(min=0.95)}

    @model_validator(mode="after")
    def _makes_sense(self) -> QuantizeSpec:
        given = self.model_fields_set
        if "objective" in given:
            raise ValueError("objective is for stages before it: what is quantized does the recipe's own task; drop it")
        learning = set(RecoverySpec.model_fields) - set(StageSpec.model_fields)
        groups = (
            (learning, ("qat_int8",)),
            ({"calibration"}, ("static_int8", "qat_int8")),
            ({"block_size"}, ("weight_only_int8", "weight_only_int4")),
            ({"per_channel", "reduce_range"}, INTEGER_SCHEMES),
        )
        for keys, schemes in groups:
            if self.scheme not in schemes and (wrong := sorted(keys & given)):
                raise ValueError(f"{', '.join(wrong)} is for {', '.join(schemes)}, not for {self.scheme}; drop it")
        if self.backend == "neural_compressor":
            self._check_neural_compressor()
        return self

    def _check_neural_compressor(self) -> None:
        """Refuses what that library has not."""
        allowed = ", ".join(NEURAL_COMPRESSOR_SCHEMES)
        if self.scheme not in NEURAL_COMPRESSOR_SCHEMES:
            raise ValueError(f"backend neural_compressor has no {self.scheme}; it has {allowed}; or use onnxruntime")
        if self.calibration.method == "percentile":
            what = "backend neural_compressor has no calibration.method: percentile"
            raise ValueError(f"{what}; it has min_max, entropy; or use onnxruntime")
        if self.reduce_range:
            raise ValueError("backend neural_compressor has no reduce_range: its weights have 8 bits; use onnxruntime")


def run(source: Path, output: Path, spec: QuantizeSpec, context: Context) -> Facts:
    """Quantizes the checkpoint's ONNX graph; the float checkpoint goes along.

    Args:
        source: Checkpoint folder.
        output: Empty folder; gets the checkpoint, trained on if the scheme is, and `onnx/model_quantized.onnx`.
        spec: The stage's keys.
        context: Rows, what tries files out, progress.

    Raises:
        StageError: `keep_float` names what is not there, `accuracy` cannot be held, or a library is not installed.
    """
    from compressor.quantization import weight_matrices
    from compressor.quantization.sensitivity import Subject
    from compressor.runtimes import onnxruntime

    facts: Facts = {}
    ranges: Ranges | None = None
    settings = _settings(spec)
    if spec.trains:
        from compressor.quantization import qat
        from compressor.training.trainer import rank

        ranges, facts = qat.train(source, output, spec, settings, context)
        if rank() > 0:  # of processes that train together, the first alone has written the checkpoint
            return facts
    else:
        shutil.copytree(source, output, dirs_exist_ok=True)
    target = output / checkpoint.QUANTIZED_ONNX
    write = _by_neural_compressor if spec.backend == "neural_compressor" else _by_ourselves
    with tempfile.TemporaryDirectory(dir=context.work) as folder:
        exported = Path(folder) / "model.onnx"
        with context.progress.step("quantize: exporting"):
            onnxruntime.export(output, exported)
        if spec.keep_float:
            weight_matrices.check_patterns(spec.keep_float, weight_matrices.read(exported)[1])
        facts |= write(Subject(exported, output, spec, settings, ranges), target, context)
        before = exported.stat().st_size
    return {"float_bytes": before, "quantized_bytes": target.stat().st_size, **facts}


def _settings(spec: QuantizeSpec) -> Settings:
    return Settings(
        bits=4 if spec.scheme == "weight_only_int4" else 8,
        per_channel=spec.per_channel,
        embeddings=spec.embeddings,
        reduce_range=spec.reduce_range,
        block_size=spec.block_size,
        keep_float=spec.keep_float,
    )


def _by_ourselves(subject: Subject, target: Path, context: Context) -> Facts:
    """Writes the quantized graph, with ranges from training rows and matrices in float where they are asked for."""
    from dataclasses import replace

    from compressor.quantization import calibration, mixed_precision, weight_matrices

    spec = subject.spec
    facts: Facts = {}
    kept: tuple[str, ...] = ()
    if spec.scheme in ("static_int8", "qat_int8") and subject.ranges is None:
        with context.progress.step("quantize: calibrating") as step:
            sample = calibration.rows(subject.checkpoint, spec, context)
            subject = replace(subject, ranges=calibration.ranges(subject.graph, sample, spec.calibration, step))
        facts["calibration"] = {**spec.calibration.model_dump(), "samples": len(sample)}
    if spec.accuracy is not None:
        found = weight_matrices.read(subject.graph)[1]
        kept, told = mixed_precision.select(subject, found, spec.accuracy.max_drop, context)
        facts |= told
    with context.progress.step(f"quantize: {spec.scheme}"):
        subject.write(target, kept)
    return facts


def _by_neural_compressor(subject: Subject, target: Path, context: Context) -> Facts:
    """The same with neural-compressor's algorithms; it finds what stays in float with its own tuning."""
    from compressor.quantization import calibration
    from compressor.quantization.neural_compressor import backend as neural
    from compressor.quantization.neural_compressor.static import Static
    from compressor.quantization.neural_compressor.weight_only import WeightOnly

    neural.check_installed()
    spec = subject.spec
    facts: Facts = {}
    algorithm: neural.Algorithm
    if spec.scheme == "static_int8":
        sample = calibration.rows(subject.checkpoint, spec, context)
        facts["calibration"] = {**spec.calibration.model_dump(), "samples": len(sample)}
        algorithm = Static(subject.checkpoint, subject.graph, subject.settings, spec.calibration.method, sample)
    else:
        algorithm = WeightOnly(subject.graph, subject.settings)
    with context.progress.step(f"quantize: {spec.scheme}, neural-compressor"):
        if spec.accuracy is None:
            return facts | neural.write(algorithm, target)

        def score(path: Path) -> float:
            return context.trial.quality(subject.checkpoint, [path])[0]

        limit = neural.Limit(spec.accuracy.max_drop, score, score(subject.graph))
        return facts | neural.tune(algorithm, target, limit)
