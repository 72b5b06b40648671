"""Processors, emulated or this machine's own, and what runs ONNX files on them."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from emulation import PYTHON
from numpy.typing import NDArray

from compressor.errors import CompressError, printable

WORKER = Path(__file__).with_name("arm_worker.py")

Calls = Sequence[Mapping[str, NDArray[Any]]]
"""Arrays by name, for each call: what goes in, or what comes out."""


@dataclass(frozen=True)
class Core:
    """A processor of one kind.

    Attributes:
        title: What the table calls it.
        command: What runs a Python file on it; the file and its arguments follow.
        logged: The same, with a log of each instruction as it is first executed, in the file `{log}`; empty where there
            is none.
        instruction: What its integer products are made of; empty where that is not looked at.
    """

    title: str
    command: tuple[str, ...]
    logged: tuple[str, ...] = ()
    instruction: str = ""


_ARM = {"cortex-a53": "smlal", "cortex-a76": "udot", "neoverse-v1": "ummla"}
"""What each kind of core multiplies integers with: plain products, dot products, products of matrices (i8mm)."""


def here() -> Core:
    """This machine's own processor."""
    return Core("this x86", (sys.executable,))


def without_vnni(root: Path) -> Core:
    """An x86 with AVX2 and no VNNI, emulated; the emulator has no AVX512."""
    return Core("x86 with AVX2, no VNNI", (str(root / "qemu-x86_64"), "-cpu", "Haswell-noTSX", sys.executable))


def arm(root: Path) -> list[Core]:
    """The ARM cores."""
    python = root / "arm64" / "usr" / "bin" / f"python{PYTHON}"
    found = []
    for name, instruction in _ARM.items():
        start = (str(root / "qemu-aarch64"), "-cpu", name, "-L", str(root / "arm64"))
        start += ("-E", f"PYTHONPATH={root / 'site'}", "-U", "PYTHONHOME")
        log = ("-d", "in_asm", "-D", "{log}")
        found.append(Core(name, (*start, str(python)), (*start, *log, str(python)), instruction))
    return found


@dataclass(frozen=True)
class Job:
    """Calls of a file.

    Attributes:
        model: The .onnx file.
        calls: What goes in.
        options: Entries of the session's configuration.
    """

    model: Path
    calls: Calls
    options: Mapping[str, str] = field(default_factory=dict)


def asked(core: Core, jobs: Sequence[Job], log: Path | None = None) -> list[list[dict[str, NDArray[Any]]]]:
    """The outputs of files on a processor, for each job and call by name, from one process.

    Args:
        core: The processor.
        jobs: What is asked.
        log: Gets the instructions that were executed, each once; the core has to have a `logged` command.

    Raises:
        CompressError: The emulator or ONNX Runtime failed.
    """
    with tempfile.TemporaryDirectory(prefix="compress-") as folder:
        parts = []
        for index, job in enumerate(jobs):
            given, answers = (Path(folder) / f"{name}{index}.npz" for name in ("calls", "answers"))
            arrays: dict[str, Any] = {
                f"{place}.{name}": value for place, call in enumerate(job.calls) for name, value in call.items()
            }
            np.savez(given, count=np.array(len(job.calls)), **arrays)
            files = {"model": str(job.model.resolve()), "calls": str(given), "answers": str(answers)}
            parts.append({**files, "options": dict(job.options)})
        listed = Path(folder) / "jobs.json"
        listed.write_text(json.dumps(parts), encoding="utf-8")
        start = core.command if log is None else [part.format(log=log) for part in core.logged]
        done = subprocess.run(
            [*start, str(WORKER), str(listed)], capture_output=True, text=True, errors="replace", check=False
        )
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no output"])[-1]
            what = f"{core.title} failed with exit code {done.returncode}: {printable(last)}"
            names = ", ".join(sorted({str(job.model) for job in jobs}))
            raise CompressError(f"{what}; it was asked to run {names}. If it fails with all files, delete --root")
        return [_outputs(Path(part["answers"]), len(job.calls)) for part, job in zip(parts, jobs, strict=True)]


def _outputs(answers: Path, count: int) -> list[dict[str, NDArray[Any]]]:
    """The arrays of a file of answers, call by call; vectors in bytes, which are rounded ones, are left out."""
    found: list[dict[str, NDArray[Any]]] = [{} for _ in range(count)]
    with np.load(answers, allow_pickle=False) as arrays:
        for key in arrays.files:
            index, _, name = key.partition(".")
            if arrays[key].itemsize > 1:
                found[int(index)][name] = arrays[key]
    return found


def instructions(log: Path) -> set[str]:
    """The names of the instructions in the emulator's log: `0x…:  6e80a400  umlal ...`."""
    words = (line.split() for line in log.read_text(encoding="utf-8", errors="replace").splitlines())
    return {word[2] for word in words if len(word) > 2 and word[0].endswith(":") and word[0].startswith("0x")}
