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

import json
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import emulation
import numpy as np
from emulation import Core
from numpy.typing import NDArray

from compressor.errors import CompressError, printable
from compressor.runtimes.onnx import saturation

PRECISE = {"session.x64quantprecision": "1"}
"""Makes ONNX Runtime use weights in uint8 on x86, whose products it adds in 32 bits."""
ROWS, CLOSE = 200, 1e-5
WORKER = Path(__file__).with_name("arm_worker.py")
_SHAPE = (64, 384, 384)
"""Rows, inputs and outputs of the product."""
_LIMITS = {"7 bits": 63, "8 bits": 127}

Calls = Sequence[Mapping[str, NDArray[Any]]]
"""Arrays by name, for each call: what goes in, or what comes out."""


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


def table(lines: Iterable[tuple[str, str, Agreement]]) -> str:
    """A Markdown table of files, processors and how their answers compare."""
    close = f"equal to {CLOSE:.0e}".replace("e-0", "e-")
    found = [
        f"| file | processor | rows | labels equal | largest difference | rows {close} |",
        "|---|---|---|---|---|---|",
    ]
    for file, core, one in lines:
        labels = "–" if one.labels is None else one.labels
        found.append(f"| {file} | {core} | {one.rows} | {labels} | {one.difference:.2g} | {one.close} |")
    return "\n".join(found)


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


def asked(core: Core, model: Path, calls: Calls, options: Mapping[str, str], log: Path | None = None) -> list[Any]:
    """The outputs of a file on a processor, for each call by name.

    Args:
        core: The processor.
        model: The .onnx file.
        calls: What goes in.
        options: Entries of the session's configuration.
        log: Gets the instructions that were executed, each once; the core has to have a `logged` command.

    Raises:
        CompressError: The emulator or ONNX Runtime failed.
    """
    with tempfile.TemporaryDirectory(prefix="compress-") as folder:
        job, given, answers = (Path(folder) / name for name in ("job.json", "calls.npz", "answers.npz"))
        arrays: dict[str, Any] = {
            f"{index}.{name}": value for index, call in enumerate(calls) for name, value in call.items()
        }
        np.savez(given, count=np.array(len(calls)), **arrays)
        parts = {"model": str(model.resolve()), "calls": str(given), "answers": str(answers), "options": dict(options)}
        job.write_text(json.dumps([parts]), encoding="utf-8")
        start = core.command if log is None else [part.format(log=log) for part in core.logged]
        done = subprocess.run(
            [*start, str(WORKER), str(job)], capture_output=True, text=True, errors="replace", check=False
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no output"])[-1]
            what = f"{model.name} failed with exit code {done.returncode} on {core.title}: {printable(last)}"
            raise CompressError(f"{what}; delete the folder --root to make it again")
        found: list[dict[str, NDArray[Any]]] = [{} for _ in calls]
        with np.load(answers, allow_pickle=False) as made:
            for key in made.files:
                index, _, name = key.partition(".")
                if made[key].dtype.kind != "u" and made[key].itemsize > 1:  # vectors in bytes are rounded ones
                    found[int(index)][name] = made[key]
        return found


def instructions(log: Path) -> set[str]:
    """The names of the instructions in the emulator's log: `0x…:  6e80a400  umlal ...`."""
    words = (line.split() for line in log.read_text(encoding="utf-8", errors="replace").splitlines())
    return {word[2] for word in words if len(word) > 2 and word[0].endswith(":") and word[0].startswith("0x")}


def products(cores: Sequence[Core], work: Path) -> tuple[list[str], bool]:
    """A Markdown table of how exact integer products are, and whether ARM's are and use the core's instruction."""
    lines = ["| processor | instruction | wrong with 7-bit weights | with 8-bit weights |", "|---|---|---|---|"]
    right = True
    for core in cores:
        wrong, used = [], "–"
        for limit in _LIMITS.values():
            activations, sums = product(work / "product.onnx", limit)
            (given,) = asked(core, work / "product.onnx", [{"activations": activations}], {})
            wrong.append(int((given["sums"] != sums).sum()))
        if core.instruction:
            call = {"activations": activations}
            found = []
            for index, calls in enumerate(([], [call])):
                asked(core, work / "product.onnx", calls, {}, work / f"log{index}")
                found.append(instructions(work / f"log{index}"))
            used = core.instruction if core.instruction in found[1] - found[0] else "another"
            right &= used == core.instruction and not any(wrong)
        lines.append(f"| {core.title} | {used} | {wrong[0]:,} of {sums.size:,} | {wrong[1]:,} |")
    return lines, right


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


def cost(files: Mapping[str, Path], calls: Calls, rounds: int) -> list[str]:
    """A Markdown table of what `PRECISE` costs on this machine: medians of rounds in turn, of the process's own time.

    Args:
        files: The files, by name.
        calls: What goes in; a round asks for all of it.
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
                for call in calls:
                    sessions[index].run(None, {key: call[key] for key in inputs})
                took[index].append((time.process_time_ns() - start) / 1e6 / len(calls))
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
        files = {folder: int8_files(folder) for folder in folders}
        calls = {folder: token_rows(folder, chosen) for folder in folders}
        if rounds is not None:
            for folder, found in files.items():
                print("\n".join(cost(found, calls[folder], rounds)))
            return
        if root is None:
            raise click.UsageError("--root is missing: name a folder for the emulator, which is made and kept there")
        root = root.resolve()
        emulation.prepare(root, mirror)
        cores = [emulation.here(), emulation.without_vnni(root), *emulation.arm(root)]
        with tempfile.TemporaryDirectory(prefix="compress-") as work:
            exact, right = products(cores, Path(work))
        print("\n".join(exact), flush=True)
        found = []
        for folder, paths in files.items():
            for name, path in paths.items():
                reference = asked(cores[0], path, calls[folder], {})
                for core in cores[1:]:
                    found.append((name, core.title, compared(asked(core, path, calls[folder], {}), reference)))
                precise = asked(cores[1], path, calls[folder], PRECISE)
                found.append((name, f"{cores[1].title}, x64quantprecision=1", compared(precise, reference)))
        print(f"\n{table(found)}")
    except CompressError as error:
        raise click.ClickException(str(error)) from None
    if not right:
        raise SystemExit("an ARM core is wrong, or does not use its instruction: see the first table")


if __name__ == "__main__":
    main()
