"""Writes the formats that ship, beside the checkpoint."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import AfterValidator, Field

from compressor.errors import Add, StageError
from compressor.gates.metrics import (
    EVALUATED_PARITY,
    PADDED_DIFFERENCE,
    PADDED_LABELS,
    QUANTIZED_PARITY,
    Held,
    of_file,
)
from compressor.gates.spec import FLOAT, Gate
from compressor.models import vector_outputs
from compressor.models.checkpoint import Checkpoint
from compressor.runtimes import TARGETS, TEXT_RUNTIME, onnxruntime
from compressor.runtimes.baked_tokenizer import graph as baked
from compressor.runtimes.baked_tokenizer import wordpiece
from compressor.runtimes.base import FLOAT32
from compressor.runtimes.onnx import metadata
from compressor.runtimes.ort import runtime as ort
from compressor.runtimes.shipped import fixed, named, runs_on_tokens, size_bytes
from compressor.spec import OneOf, each_once
from compressor.stages.base import Stage, StageSpec
from compressor.tasks import MASKED_LM, TASKS, learned_from_rows
from compressor.training.context import Context, Facts

TargetName = Annotated[str, OneOf(TARGETS)]


class ExportSpec(StageSpec):
    """Writes the formats that ship and checks each against PyTorch."""

    stage: Literal["export"]
    """The kind of stage."""
    ships: ClassVar[bool] = True
    targets: Annotated[tuple[TargetName, ...], Field(min_length=1)] = ("onnx",)
    """Formats to write. After a quantize stage, `torchscript` holds the integers of the quantized ONNX graph and has to
    give its labels. `ort`: the ONNX file that ships, in ORT format for minimal builds of ONNX Runtime, with the list of
    the operators that it needs. `executorch`, an extra: a .pte file for XNNPACK. After a quantize stage it has
    products of int8 weights and of activations that are rounded token by token, or half precision; of weight-only
    schemes, tables in integers and products in float. It has to give torch's labels. `coreml`, an extra: an .mlpackage
    for iOS and macOS, an ML program with products in half precision. Its weights have the precision of the quantize
    stage, else half precision. Nothing here runs it: what was saved is evaluated operator by operator, and has to give
    torch's labels."""
    tokenizer: Literal["files", "baked"] = "files"
    """`files`: the app tokenizes. `baked`: writes one more ONNX file that contains the tokenizer: texts in, labels or
    vectors out. It needs the operators of onnxruntime-extensions, an extra; for text-classification and
    sentence-similarity, with a WordPiece tokenizer."""
    verification_rows: Annotated[int, Field(ge=0, le=256)] = 64
    """Validation rows that ship in `verification.json`, as token ids (and as texts, if a file holds its tokenizer) with
    each format's answers, so that `compress verify` can ask them again wherever the folder goes. Whoever has the folder
    can read these texts: 0 ships none, and only made-up rows are compared then."""

    fixed_lengths: Annotated[tuple[Annotated[int, Field(ge=1)], ...], AfterValidator(each_once)] = ()
    """Lengths, in tokens, of which each ONNX graph that ships gets a form for one row of that length, such as
    `onnx/model_quantized_64.onnx`: accelerators (QNN, Core ML, NNAPI) take graphs whose sizes are known. Apps pad rows
    to the length. `partitions[coreml]` and `partitions[nnapi]` say into how many pieces such a graph falls."""
    size_only: bool | tuple[str, ...] = False
    """Files that may be slower than the same format in float: `true` for all, or names such as `onnx_int4`. Any other
    file in int8 or int4 has to be faster, or the run fails."""

    def files(self, quantized: Mapping[str, bool]) -> dict[str, str]:
        """A file for each target, and of ONNX one for each precision beside the float one."""
        return self._free_files(quantized) | self.fixed_files(quantized)

    def _free_files(self, quantized: Mapping[str, bool]) -> dict[str, str]:
        deployed = next(iter(quantized), None)
        found = {named("onnx", precision): precision for precision in quantized}
        for target in self.targets:
            found[target] = TARGETS[target].precision(deployed)
        return found | ({TEXT_RUNTIME.name: deployed or FLOAT32} if self.tokenizer == "baked" else {})

    @property
    def longest_fixed(self) -> int:
        """Of `fixed_lengths`."""
        return max(self.fixed_lengths, default=0)

    def fixed_files(self, quantized: Mapping[str, bool]) -> dict[str, str]:
        """Of each ONNX graph, one for each of `fixed_lengths`."""
        free = self._free_files(quantized)
        graphs = {named("onnx", precision): precision for precision in (FLOAT32, *quantized)}
        return {
            f"{name}_{length}": precision
            for name, precision in graphs.items()
            if name in free
            for length in self.fixed_lengths
        }

    def file_gates(self, quantized: Mapping[str, bool]) -> dict[str, Gate]:
        """Integers have to be faster than floats of the same format, unless only size counts."""
        fast = [
            name
            for name, precision in self._free_files(quantized).items()
            if precision.startswith("int")
            and not quantized[precision]
            and name not in self.for_size
            and runs_on_tokens(name)
        ]
        gate = Gate(min_speedup=1.0, relative_to=FLOAT)
        return {} if self.size_only is True else {of_file(name, "latency_p50_ms"): gate for name in fast}

    @property
    def takes_no_blocks(self) -> tuple[str, ...]:
        """Of the targets."""
        return tuple(target for target in self.targets if not TARGETS[target].blocks)

    @property
    def for_size(self) -> tuple[str, ...]:
        """The names in `size_only`."""
        return () if isinstance(self.size_only, bool) else self.size_only

    @property
    def default_gates(self) -> dict[str, Gate]:
        """A parity miss fails the run."""
        return {
            "parity_label_agreement": Gate(min=0.995),
            "parity_max_abs_diff": Gate(max=1e-3),
            QUANTIZED_PARITY: Gate(min=0.99),
            PADDED_LABELS: Gate(min=0.99),
            PADDED_DIFFERENCE: Gate(max=0.1),
            EVALUATED_PARITY: Gate(min=0.99),
        }

    @property
    def recorded_rows(self) -> int:
        """As `verification_rows` says."""
        return self.verification_rows

    @property
    def libraries(self) -> tuple[str, ...]:
        """Those of the targets' extras, and of the one that bakes a tokenizer in."""
        needed = [library for target in self.targets for library in TARGETS[target].requires]
        return (*needed, *(baked.LIBRARIES if self.tokenizer == "baked" else ()))

    def held(self, quantized: Mapping[str, bool]) -> frozenset[Held]:
        """Of the targets, of a file that holds its tokenizer, and of all that are not in float."""
        found: set[Held] = {TARGETS[target].held(bool(quantized)) for target in self.targets}
        found |= {"texts"} if self.tokenizer == "baked" else set()
        small = (name for name, precision in self.files(quantized).items() if precision != FLOAT32)
        return frozenset(found | {"padded"} if any(map(runs_on_tokens, small)) else found)

    def check(self, task: str, incoming: Checkpoint | None, add: Add) -> None:
        """Whether the targets' libraries are installed, and the tokenizer can be baked into an ONNX file."""
        for target in self.targets:
            if missing := TARGETS[target].missing():
                what = f"has {target}, which needs {', '.join(missing)}, not installed here"
                add(("targets",), what, TARGETS[target].install, kind="not_installed")
        if self.tokenizer != "baked":
            return
        if not TASKS[task].HEAD.vectors and (
            task == MASKED_LM or (rows := learned_from_rows(task)).PER_TOKEN or rows.REGRESSION
        ):
            what = f"is baked: a label or a vector of each text comes out, and {task} does not give one"
            add(("tokenizer",), what, "use tokenizer: files", kind="unsupported")
        if not baked.installed():
            add(
                ("tokenizer",),
                "is baked, which needs the package onnxruntime-extensions",
                baked.INSTALL,
                kind="not_installed",
            )
        if incoming is not None and (why := wordpiece.unsupported_files(incoming.path)):
            self._refuse(why, add)

    def check_here(self, task: str, incoming: Checkpoint, pairs: bool, add: Add) -> None:
        """See `StageSpec.check_here`: bakes the tokenizer, and tries it."""
        if self.tokenizer == "baked" and (why := baked.fault(incoming.path, pairs)):
            self._refuse(why, add)

    def _refuse(self, why: str, add: Add) -> None:
        what = f"is baked, and the checkpoint's cannot be: {why}"
        add(("tokenizer",), what, "use tokenizer: files", kind="unsupported")


_ONNX = onnxruntime.RUNTIME.file


def run(source: Path, output: Path, spec: ExportSpec, context: Context) -> Facts:
    """Exports a checkpoint; a quantized graph that is there already goes along.

    Args:
        source: Checkpoint folder.
        output: Empty folder; gets the checkpoint, its tokenizer and a file for each target.
        spec: The stage's keys.
        context: What the files say of themselves; progress.
    """
    shutil.copytree(source, output, dirs_exist_ok=True)
    vector_outputs.give(output, context.precisions)
    graph, facts = _graph(output, spec, context)
    if spec.fixed_lengths:
        _fix_lengths(output, spec, context)
    for target in spec.targets:
        runtime = TARGETS[target]
        if runtime is not onnxruntime.RUNTIME:
            with context.progress.step(f"export: {target}"):
                runtime.export(output, output / runtime.file)
        facts[f"{target}_bytes"] = size_bytes(output / runtime.file)
    if spec.tokenizer == "baked":
        with context.progress.step("export: onnx with its tokenizer"):
            baked.write(output, graph, output / baked.FILE, context.pairs)
        facts["baked_bytes"] = (output / baked.FILE).stat().st_size
    floats = [target for target in spec.targets if not TARGETS[target].bytes_out]
    if floats and context.precisions:
        facts["notes"] = [f"{name} has no outputs of 8 bits: its file gives vectors as floats alone" for name in floats]
    if onnxruntime.RUNTIME.target not in spec.targets:
        (output / _ONNX).unlink(missing_ok=True)
    return facts


def _fix_lengths(output: Path, spec: ExportSpec, context: Context) -> None:
    """Writes the forms of a fixed length of each graph that ships."""
    from compressor.runtimes.onnx import fixed as fixing

    folder = Checkpoint(output)
    if spec.longest_fixed > (rows := folder.max_position_embeddings):
        what = f"fixed_lengths has {spec.longest_fixed}, but the position table has {rows} rows"
        raise StageError(f"{what}; give at most {rows}")
    graphs = [output / entry.file for entry in folder.quantizations]
    graphs += [output / _ONNX] if onnxruntime.RUNTIME.target in spec.targets else []
    with context.progress.step("export: onnx of fixed lengths"):
        for graph in graphs:
            for length in spec.fixed_lengths:
                fixing.write(graph, fixed(graph, length), length)


def _graph(output: Path, spec: ExportSpec, context: Context) -> tuple[Path, Facts]:
    """The ONNX file that ships, which others are made of: the quantized one, or the float one, written here."""
    facts: Facts = {}
    folder = Checkpoint(output)
    labels = list(context.labels) and folder.labels
    quantized = folder.quantized
    made_of_it = spec.tokenizer == "baked" or any(TARGETS[target] is ort.RUNTIME for target in spec.targets)
    if onnxruntime.RUNTIME.target in spec.targets or (made_of_it and quantized is None):
        with context.progress.step("export: onnx"):
            facts["rewrites"] = onnxruntime.export(output, output / _ONNX)
    for path in (output / _ONNX, quantized):
        if path is not None and path.is_file():
            metadata.describe(path, context.task, labels, context.recipe, context.key)
    return quantized or output / _ONNX, facts


STAGE = Stage(ExportSpec, run)
