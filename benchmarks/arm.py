"""Runs int8 ONNX files on ARM cores, emulated, and compares their answers with those of x86. No ARM machine is needed.

    python benchmarks/arm.py artifacts/mobile_int8/model --texts texts.txt --root ~/arm

Needs an x86-64 Linux with Debian's apt-get and dpkg-deb, and no root. The first run fills `--root`; later ones use it
again. Several folders may be given, such as one with 7-bit and one with 8-bit weights. It prints

1. which instructions each core multiplies integers with, and how many numbers of a product with 7-bit and with 8-bit
   weights are wrong there, on this machine, and on an x86 that has AVX2 and no VNNI, which is emulated too;
2. for each int8 ONNX file and processor, how many texts get the label that they get on this machine, and how far logits
   differ. Texts are asked one by one.

It exits with 1 if an ARM core does not use its instruction, or is wrong. Emulation says nothing about speed. What
`session.x64quantprecision` costs on this machine, without emulation, is timed by `--cost`.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import click
import emulation
import numpy as np
import processors
from numpy.typing import NDArray
from processors import Calls, Core, Job, asked, instructions

from compressor.errors import CompressError
from compressor.runtimes.onnx import saturation

PRECISE = {"session.x64quantprecision": "1"}
"""Makes ONNX Runtime use weights in uint8 on x86, whose products it adds in 32 bits."""
ROWS, CLOSE = 200, 1e-5
_SHAPE = (64, 384, 384)
"""Rows, inputs and outputs of the product."""
_LIMITS = (63, 127)
"""Largest size of a weight with 7 and with 8 bits."""
_X86_STEP = 4
"""Of rows that the emulated x86 is asked: every fourth."""


@dataclass(frozen=True)
class Agreement:
    """How one processor's answers compare with another's.

    Attributes:
        rows: How many were compared.
        labels: How many get the same label, of a token or a span at every position; None for vectors.
        difference: Largest difference of two numbers.
        close: Rows all of whose numbers are equal to `CLOSE`.
    """

    rows: int
    labels: int | None
    difference: float
    close: int


def compared(answers: Calls, reference: Calls) -> Agreement:
    """Compares the answers to the same rows."""
    labels, differences = 0, []
    for given, expected in zip(answers, reference, strict=True):
        labels += all((given[name].argmax(-1) == expected[name].argmax(-1)).all() for name in expected)
        differences.append(max(float(np.abs(given[name] - expected[name]).max()) for name in expected))
    has_labels = not any("embedding" in name for name in reference[0])
    close = sum(difference <= CLOSE for difference in differences)
    return Agreement(len(differences), labels if has_labels else None, max(differences), close)


def table(found: Iterable[tuple[str, str, Agreement]]) -> Iterator[str]:
    """The lines of a Markdown table of files, processors and how their answers compare."""
    close = f"equal to {CLOSE:.0e}".replace("e-0", "e-")
    yield f"| file | processor | rows | labels equal | largest difference | rows {close} |"
    yield "|---|---|---|---|---|---|"
    for file, core, one in found:
        labels = "–" if one.labels is None else one.labels
        yield f"| {file} | {core} | {one.rows} | {labels} | {one.difference:.2g} | {one.close} |"


def product(
    path: Path, limit: int, shape: tuple[int, int, int] = _SHAPE
) -> tuple[NDArray[np.uint8], NDArray[np.int32]]:
    """Writes an ONNX file of one integer product, uint8 by constant int8.

    Args:
        path: The file.
        limit: Largest size of a weight; columns of nothing else are among them.
        shape: Rows, inputs and outputs.

    Returns:
        Activations `(rows, inputs)`, and the sums of their products, worked out in 64 bits. `(rows, outputs)`.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rows, inputs, outputs = shape
    random = np.random.default_rng(0)
    activations = random.integers(0, 256, (rows, inputs), dtype=np.uint8)
    weights = random.integers(-limit, limit + 1, (inputs, outputs)).astype(np.int8)
    activations[0], weights[:, 0], weights[:, 1] = 255, limit, -limit
    graph = helper.make_graph(
        [helper.make_node("MatMulInteger", ["activations", "weights"], ["sums"])],
        "product",
        [helper.make_tensor_value_info("activations", TensorProto.UINT8, [rows, inputs])],
        [helper.make_tensor_value_info("sums", TensorProto.INT32, [rows, outputs])],
        [numpy_helper.from_array(weights, "weights")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))
    return activations, (activations.astype(np.int64) @ weights.astype(np.int64)).astype(np.int32)


def products(cores: Sequence[Core], work: Path) -> Iterator[tuple[str, bool]]:
    """The lines of a Markdown table of how exact integer products are, each with whether it is as it has to be.

    On ARM all have to be exact, and made of the core's instruction.
    """
    yield "| processor | instruction | wrong with 7-bit weights | with 8-bit weights |", True
    yield "|---|---|---|---|", True
    jobs, expected = [], []
    for limit in _LIMITS:
        activations, sums = product(work / f"{limit}.onnx", limit)
        jobs.append(Job(work / f"{limit}.onnx", [{"activations": activations}]))
        expected.append(sums)
    for core in cores:
        logs = [work / "products.log", work / "nothing.log"] if core.instruction else []
        given = asked(core, jobs, *logs[:1])
        wrong = [int((answers[0]["sums"] != sums).sum()) for answers, sums in zip(given, expected, strict=True)]
        used, right = "–", True
        if logs:
            asked(core, [replace(job, calls=[]) for job in jobs], logs[1])
            own = instructions(logs[0]) - instructions(logs[1])
            used = core.instruction if core.instruction in own else "another"
            right = used == core.instruction and not any(wrong)
        yield f"| {core.title} | {used} | {wrong[0]:,} of {sums.size:,} | {wrong[1]:,} |", right


def agreements(
    files: Mapping[str, Path], calls: Mapping[str, Calls], cores: Sequence[Core]
) -> Iterator[tuple[str, str, Agreement]]:
    """How each file's answers on each processor compare with those on the first, for `table`.

    Args:
        files: The files, by name.
        calls: What each is asked.
        cores: The processors. The second, the emulated x86, is asked some of the rows, and of a file that saturates
            once more with `PRECISE`: instructions on 8 floats are slow to emulate.
    """
    here, x86, *others = cores
    jobs = [Job(path, calls[name]) for name, path in files.items()]
    reference = dict(zip(files, asked(here, jobs), strict=True))
    for core in others:
        for name, answers in zip(files, asked(core, jobs), strict=True):
            yield name, core.title, compared(answers, reference[name])
    for title, options in ((x86.title, {}), (f"{x86.title}, x64quantprecision=1", PRECISE)):
        asked_for = [name for name in files if not options or saturation.of_file(files[name])]
        some = asked(x86, [Job(files[name], calls[name][::_X86_STEP], options) for name in asked_for])
        for name, answers in zip(asked_for, some, strict=True):
            yield name, title, compared(answers, reference[name][::_X86_STEP])


def token_rows(folder: Path, texts: Sequence[str]) -> list[dict[str, NDArray[np.int64]]]:
    """Texts as the checkpoint's tokenizer reads them, each a call. `(1, sequence)` each."""
    from compressor.models import loading
    from compressor.models.checkpoint import Checkpoint

    tokenizer, longest = loading.load_tokenizer(folder), Checkpoint(folder).max_sequence_length()
    rows = (tokenizer(text, truncation=True, max_length=longest) for text in texts)
    calls = [{name: np.array([values], dtype=np.int64) for name, values in row.items()} for row in rows]
    return [{"token_type_ids": np.zeros_like(call["input_ids"]), **call} for call in calls]


def int8_files(folder: Path) -> dict[str, Path]:
    """The folder's int8 ONNX files, by names that say how large their weights are."""
    from compressor.runtimes.shipped import shipped

    found = {}
    for entry in shipped(folder):
        if (entry.runtime, entry.precision, entry.length) == ("onnxruntime", "int8", None):
            largest = saturation.of_file(folder / entry.file).get("largest_weight", "64 at most")
            found[f"{folder.resolve().parent.name}, {entry.file.name}, weights to {largest}"] = folder / entry.file
    if not found:
        raise CompressError(f"{folder} has no int8 ONNX file; name the model/ folder of a run with a quantize stage")
    return found


def cost(files: Mapping[str, Path], calls: Mapping[str, Calls], rounds: int) -> list[str]:
    """A Markdown table of what `PRECISE` costs on this machine: medians of rounds in turn, of the process's own time.

    Args:
        files: The files, by name.
        calls: What each is asked in a round.
        rounds: How many.
    """
    import time

    import onnxruntime
    from kernels import options

    lines = ["| file | ms a row | with session.x64quantprecision=1 | times the time |", "|---|---|---|---|"]
    for name, path in files.items():
        sessions = []
        for entries in ({}, PRECISE):
            given = options()
            for key, value in entries.items():
                given.add_session_config_entry(key, value)
            sessions.append(onnxruntime.InferenceSession(str(path), given, providers=["CPUExecutionProvider"]))
        inputs = [entry.name for entry in sessions[0].get_inputs()]
        took: list[list[float]] = [[], []]
        for turn in range(rounds + 1):  # the first warms up
            for index in (0, 1) if turn % 2 else (1, 0):
                start = time.process_time_ns()
                for call in calls[name]:
                    sessions[index].run(None, {key: call[key] for key in inputs})
                took[index].append((time.process_time_ns() - start) / 1e6 / len(calls[name]))
        plain, precise = (np.array(times[1:]) for times in took)
        ratio = np.median(precise / plain)
        lines.append(f"| {name} | {np.median(plain):.2f} | {np.median(precise):.2f} | {ratio:.2f} |")
    return lines


@click.command()
@click.argument("folders", nargs=-1, required=True, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option(
    "--texts", required=True, type=click.Path(exists=True, dir_okay=False, path_type=Path), help="A line each."
)
@click.option("--rows", type=click.IntRange(min=1), default=ROWS, show_default=True, help="Texts, evenly spread.")
@click.option("--root", type=click.Path(file_okay=False, path_type=Path), help="Folder of the emulator; made and kept.")
@click.option("--mirror", help="Address of a mirror of Debian, if apt's sources name none.")
@click.option("--cost", "rounds", type=click.IntRange(min=2), help="Rounds: time the option instead of emulating.")
def main(
    folders: tuple[Path, ...], texts: Path, rows: int, root: Path | None, mirror: str | None, rounds: int | None
) -> None:
    """Compare int8 ONNX files on ARM cores, emulated, with x86."""
    lines = [line for line in texts.read_text(encoding="utf-8").splitlines() if line.strip()]
    if not lines:
        raise click.BadParameter("has no text in it", param_hint="--texts")
    chosen = [lines[index] for index in np.unique(np.linspace(0, len(lines) - 1, rows).astype(int))]
    try:
        files, calls = dict[str, Path](), dict[str, Calls]()
        for folder in folders:
            found = int8_files(folder)
            files |= found
            calls |= dict.fromkeys(found, token_rows(folder, chosen))
        if rounds is not None:
            print("\n".join(cost(files, calls, rounds)))
            return
        if root is None:
            raise click.UsageError("--root is missing: name a folder for the emulator, which is made and kept there")
        root = root.resolve()
        emulation.prepare(root, mirror)
        cores = [processors.here(), processors.without_vnni(root), *processors.arm(root)]
        right = True
        with tempfile.TemporaryDirectory(prefix="compress-") as work:
            for line, as_wanted in products(cores, Path(work)):
                print(line, flush=True)
                right &= as_wanted
        print()
        for line in table(agreements(files, calls, cores)):
            print(line, flush=True)
    except CompressError as error:
        raise click.ClickException(str(error)) from None
    if not right:
        raise SystemExit("an ARM core is wrong, or does not use its instruction: see the first table")


if __name__ == "__main__":
    main()
