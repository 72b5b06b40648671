"""The files of a checkpoint's folder that ship, and their names in reports and gates."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path

from compressor.models import quantized
from compressor.runtimes import RUNTIMES, TARGETS, TEXT_RUNTIME
from compressor.runtimes.base import FLOAT32


@dataclass(frozen=True)
class Format:
    """A file that ships.

    Attributes:
        name: The name in reports and in gates, such as `onnx_int8`.
        runtime: What runs it.
        file: Its path in the checkpoint's folder.
        precision: What its weights are stored in.
        length: Tokens of the one row that it takes, for accelerators; None where sizes are free.
    """

    name: str
    runtime: str
    file: Path
    precision: str = FLOAT32
    length: int | None = None

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


def runs_on_tokens(name: str) -> bool:
    """Whether a file that ships, by its name, is run here, and given token ids: others are not timed or padded."""
    return name != TEXT_RUNTIME.name and (name not in TARGETS or TARGETS[name].runs_here)


def shipped(folder: Path) -> list[Format]:
    """The files of a checkpoint's folder that can be run, but for the checkpoint itself."""
    onnx, chosen = TARGETS["onnx"], quantized.read(folder)
    deployed = chosen[0].precision if chosen else None
    found = [Format("onnx", onnx.name, onnx.file)]
    found += [Format(named("onnx", entry.precision), onnx.name, Path(entry.file), entry.precision) for entry in chosen]
    found += [
        replace(graph, name=f"{graph.name}_{length}", file=fixed(graph.file, length), length=length)
        for graph in found
        for length in _lengths(folder / graph.file)
    ]
    found += [
        Format(target, runtime.name, runtime.file, runtime.precision(deployed))
        for target, runtime in TARGETS.items()
        if runtime is not onnx
    ]
    found.append(Format(TEXT_RUNTIME.name, TEXT_RUNTIME.name, TEXT_RUNTIME.file, deployed or FLOAT32))
    return [entry for entry in found if (folder / entry.file).exists()]


def fixed(graph: Path, length: int) -> Path:
    """Where an ONNX graph's form of a fixed length is: `model_quantized_64.onnx` beside `model_quantized.onnx`."""
    return graph.with_name(f"{graph.stem}_{length}{graph.suffix}")


def _lengths(graph: Path) -> list[int]:
    """The fixed lengths of which an ONNX graph has a form."""
    names = (re.fullmatch(rf"{re.escape(graph.stem)}_(\d+)", other.stem) for other in graph.parent.glob("*.onnx"))
    return sorted(int(name[1]) for name in names if name is not None)


def size_bytes(path: Path) -> int:
    """Bytes of a file, or of all files of a folder that is one to its users."""
    files = [path] if path.is_file() else [each for each in path.rglob("*") if each.is_file()]
    return sum(each.stat().st_size for each in files)
