"""The files of a checkpoint's folder that ship, and their names in reports and gates."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from compressor.models import quantized
from compressor.runtimes import RUNTIMES, TARGETS, TEXT_RUNTIME

FLOAT32 = "float32"


@dataclass(frozen=True)
class Format:
    """A file that ships.

    Attributes:
        name: The name in reports and in gates, such as `onnx_int8`.
        runtime: What runs it.
        file: Its path in the checkpoint's folder.
        precision: What its weights are stored in.
    """

    name: str
    runtime: str
    file: Path
    precision: str = FLOAT32

    @property
    def quantized(self) -> bool:
        """Whether its weights are integers."""
        return self.precision.startswith("int")

    @property
    def ran(self) -> bool:
        """Whether a machine like this one can run it."""
        return RUNTIMES[self.runtime].runs_here


def named(target: str, precision: str) -> str:
    """The name of a target's file: ONNX files of several precisions lie side by side, of the others there is one."""
    return f"{target}_{precision}" if target == "onnx" and precision != FLOAT32 else target


def shipped(folder: Path) -> list[Format]:
    """The files of a checkpoint's folder that can be run, but for the checkpoint itself."""
    onnx, chosen = TARGETS["onnx"], quantized.read(folder)
    deployed = chosen[0].precision if chosen else FLOAT32
    found = [Format("onnx", onnx.name, onnx.file)]
    found += [Format(named("onnx", entry.precision), onnx.name, Path(entry.file), entry.precision) for entry in chosen]
    found += [
        Format(target, runtime.name, runtime.file, deployed if runtime.quantizes else FLOAT32)
        for target, runtime in TARGETS.items()
        if runtime is not onnx
    ]
    found.append(Format(TEXT_RUNTIME.name, TEXT_RUNTIME.name, TEXT_RUNTIME.file, deployed))
    return [entry for entry in found if (folder / entry.file).exists()]


def size_bytes(path: Path) -> int:
    """Bytes of a file, or of all files of a folder that is one to its users."""
    return path.stat().st_size if path.is_file() else sum(each.stat().st_size for each in path.rglob("*"))
