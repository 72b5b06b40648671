"""Turns the checkpoint's weights into integers, as an ONNX graph beside the float checkpoint."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Literal

from compressor.errors import Add
from compressor.gates.spec import Gate
from compressor.host.machine import installed
from compressor.models import layout, quantized, vector_outputs
from compressor.models.checkpoint import Checkpoint
from compressor.models.families import FAMILIES
from compressor.models.quantized import ONNX_FILES, QuantizedFile
from compressor.models.shape import Shape
from compressor.quantization import Ranges, Scheme, Settings, neural_compressor
from compressor.quantization.base import unmatched
from compressor.quantization.spec import BACKENDS, QuantizationSpec
from compressor.stages.base import Stage, StageSpec
from compressor.training.context import Context, Facts

if TYPE_CHECKING:
    from compressor.quantization.sensitivity import GraphQuantizer

_TEXTS = 32
"""Training rows that tell which activations need a range for each token."""


class QuantizeSpec(QuantizationSpec, StageSpec):
    """Turns weights into integers in the exported graph.

    `qat_int8` trains before, with weights and activations rounded as they will be, to match the teacher, and takes the
    keys of training stages; the other schemes do not train and have no use for those.
    """

    stage: Literal["quantize"]
    """The kind of stage."""
    quantizes: ClassVar[bool] = True

    @property
    def libraries(self) -> tuple[str, ...]:
        """The backend's, where an extra brings it."""
        return neural_compressor.LIBRARIES if self.backend == neural_compressor.NAME else ()

    @property
    def default_gates(self) -> dict[str, Gate]:
        """A silent loss of quantization fails the run."""
        asked = self.accuracy is not None or self.keep_float or not self.embeddings
        return {} if asked or not self.how.integer else {"quantized_coverage": Gate(min=0.95)}

    @property
    def precisions(self) -> dict[str, bool]:
        """Of its files."""
        return {scheme.precision: self.size_only for scheme in self.schemes}

    @property
    def leaves_blocks(self) -> str | None:
        """The deployed scheme, if it is weight-only."""
        return self.how.name if self.how.in_blocks else None

    @property
    def trial(self) -> Literal["size", "latency", "quality"] | None:
        """Quality, where `accuracy` has to be held."""
        return "quality" if self.accuracy is not None else None

    def leaves(self, shape: Shape, teacher: Shape, ready: Shape | None, add: Add) -> Shape:
        """See `StageSpec.leaves`. Which blocks layers share is not known before, so any that there may be counts."""
        plain = FAMILIES[shape.family].blocks_setting == "num_hidden_layers"
        names = layout.matrix_names([FAMILIES[shape.family]] if plain else FAMILIES.values(), shape.layers)
        if found := unmatched(self.keep_float, names):
            add(("keep_float",), f"has {found[0]!r}, which matches no matrix", found[1], kind="unknown")
        return shape

    def check(self, task: str, incoming: Checkpoint | None, add: Add) -> None:
        """Whether the backend is installed."""
        if absent := [library for library in self.libraries if not installed(library)]:
            what = f"{self.backend} needs {', '.join(absent)}, not installed here"
            add(("backend",), what, f"{neural_compressor.INSTALL}, or use {BACKENDS[0]}", kind="not_installed")


def run(source: Path, output: Path, spec: QuantizeSpec, context: Context) -> Facts:
    """Quantizes the checkpoint's ONNX graph; the float checkpoint goes along.

    Args:
        source: Checkpoint folder.
        output: Empty folder; gets the checkpoint, trained on if the scheme is, a graph for each scheme, and what was
            chosen for them.
        spec: The stage's keys.
        context: Rows, what tries files out, progress.

    Raises:
        StageError: `keep_float` names what is not there, `accuracy` cannot be held, or a library is not installed.
    """
    from compressor.quantization import weight_matrices
    from compressor.quantization.sensitivity import GraphQuantizer
    from compressor.runtimes import onnxruntime

    facts: Facts = {}
    ranges: Ranges | None = None
    if spec.trains:
        from compressor.quantization import qat
        from compressor.training.processes import rank

        trained = spec.only(next(scheme for scheme in spec.schemes if scheme.trained))
        ranges, facts = qat.train(source, output, trained, _settings(trained), context)
        if rank() > 0:  # of processes that train together, the first alone has written the checkpoint
            return facts
    else:
        shutil.copytree(source, output, dirs_exist_ok=True)
    vector_outputs.give(output, context.precisions)
    write = _by_neural_compressor if spec.backend == neural_compressor.NAME else _by_ourselves
    with tempfile.TemporaryDirectory(dir=context.work) as folder:
        exported = Path(folder) / "model.onnx"
        with context.progress.step("quantize: exporting"):
            facts["rewrites"] = onnxruntime.export(output, exported)
        if spec.keep_float:
            weight_matrices.check_patterns(spec.keep_float, weight_matrices.read(exported)[1])
        entries = []
        for scheme in reversed(spec.schemes):  # the deployed one last: its facts are the stage's
            one = spec.only(scheme)
            settings, target = _settings(one), output / ONNX_FILES[scheme.precision]
            quantizer = GraphQuantizer(exported, output, one, settings, ranges if scheme.trained else None)
            made, kept = write(quantizer, target, context)
            facts |= made
            entries.append(_record(one, settings.with_float(kept)))
        before = exported.stat().st_size
    quantized.write(output, entries[::-1])
    sizes = {entry.precision: (output / entry.file).stat().st_size for entry in reversed(entries)}
    facts |= {"file_bytes": sizes} if len(sizes) > 1 else {}
    return {"float_bytes": before, "quantized_bytes": sizes[spec.how.precision], **facts}


def _record(spec: QuantizeSpec, settings: Settings) -> QuantizedFile:
    """What formats that are made later need to know of the quantized graph."""
    how = spec.how
    return QuantizedFile(
        scheme=how.name,
        precision=how.precision,
        file=ONNX_FILES[how.precision].as_posix(),
        integer_products=how.integer,
        embeddings=_bits_of_tables(how, settings),
        per_channel=settings.per_channel,
        block_size=settings.block_size if how.in_blocks else None,
        keep_float=settings.keep_float,
    )


def _bits_of_tables(scheme: Scheme, settings: Settings) -> int:
    if not settings.embeddings:
        return 32
    return 4 if scheme.integer and settings.embeddings == "int4" else scheme.bits


def _settings(spec: QuantizeSpec) -> Settings:
    return Settings(
        bits=spec.how.bits,
        per_channel=spec.per_channel,
        embeddings=spec.embeddings,
        reduce_range=spec.reduce_range,
        block_size=spec.block_size,
        keep_float=spec.keep_float,
    )


def _by_ourselves(quantizer: GraphQuantizer, target: Path, context: Context) -> tuple[Facts, tuple[str, ...]]:
    """Writes the quantized graph, with ranges from training rows and matrices in float where they are asked for.

    Returns:
        Facts for the report, and the matrices that `accuracy` leaves in float.
    """
    from dataclasses import replace

    from compressor.quantization import calibration, mixed_precision, row_ranges, weight_matrices

    spec = quantizer.spec
    facts: Facts = {}
    kept: tuple[str, ...] = ()
    if spec.how.calibrated and quantizer.ranges is None:
        with context.progress.step("quantize: calibrating") as step:
            sample = calibration.rows(quantizer.checkpoint, spec, context)
            quantizer = replace(quantizer, ranges=calibration.ranges(quantizer.graph, sample, spec.calibration, step))
        facts["calibration"] = {**spec.calibration.model_dump(), "samples": len(sample)}
    if spec.how.dynamic:
        with context.progress.step("quantize: ranges of tokens") as step:
            sample = calibration.rows(quantizer.checkpoint, spec, context, _TEXTS)
            uneven = row_ranges.wanted(quantizer.graph, sample, step)
        quantizer = replace(quantizer, settings=replace(quantizer.settings, row_ranges=uneven))
        facts["row_ranges"] = list(uneven)
    if spec.accuracy is not None:
        found = weight_matrices.read(quantizer.graph)[1]
        kept, selected = mixed_precision.select(quantizer, found, spec.accuracy.max_drop, context)
        facts |= selected
    with context.progress.step(f"quantize: {spec.how.name}"):
        quantizer.write(target, kept)
    return facts, kept


def _by_neural_compressor(quantizer: GraphQuantizer, target: Path, context: Context) -> tuple[Facts, tuple[str, ...]]:
    """The same with neural-compressor's algorithms; it finds what stays in float with its own tuning.

    Of int4 some matrices get 8 bits instead; they count as float.
    """
    from compressor.quantization.neural_compressor import backend as neural

    neural.check_installed()
    spec = quantizer.spec
    algorithm, facts = neural_compressor.ALGORITHMS[spec.how.name](quantizer, context)
    with context.progress.step(f"quantize: {spec.how.name}, neural-compressor"):
        if spec.accuracy is None:
            return facts | neural.write(algorithm, target), ()

        def score(path: Path) -> float:
            return context.trial.quality(quantizer.checkpoint, path, quantizer.graph)

        limit = neural.Limit(spec.accuracy.max_drop, score, score(quantizer.graph))
        tuned = neural.tune(algorithm, target, limit)
        return facts | tuned, tuple(tuned["exceptions"])


STAGE = Stage(QuantizeSpec, run)
