"""Times files and folders side by side, as `compress run` times stages."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from compressor.errors import Problem, RecipeError
from compressor.gates.estimate import Estimate
from compressor.gates.timings import Timings
from compressor.measure.client import DISTURBED, PROCESSES, Client
from compressor.models.checkpoint import Checkpoint
from compressor.progress import Step
from compressor.runtimes import RUNTIMES, TEXT_RUNTIME
from compressor.runtimes.shipped import shipped

_RUNTIME_BY_SUFFIX = {
    runtime.file.suffix: name for name, runtime in RUNTIMES.items() if runtime.target and runtime.runs_here
}
_NEVER_RUN = {runtime.file.suffix for runtime in RUNTIMES.values() if not runtime.runs_here}
_CONFIDENCE = 0.95
_FALLBACK_VOCABULARY = 1000


@dataclass(frozen=True)
class Timed:
    """The timings of one path.

    Attributes:
        path: The file.
        runtime: What ran it.
        size_bytes: Size of the file that ran.
        p50: Median latency, ms.
        p95: 95th percentile of the latency, ms.
        speedup: Latency of the first file / of this one, a ratio of medians of the same rounds.
    """

    path: str
    runtime: str
    size_bytes: int
    p50: Estimate
    p95: Estimate
    speedup: Estimate


def bench(
    paths: Sequence[Path], *, threads: int, batch_size: int, sequence_length: int, runs: int, client: Client, step: Step
) -> list[Timed]:
    """Times every path in turn, in fresh processes; of a folder, every file that ships.

    Args:
        paths: Checkpoint folders with an exported format, .onnx, .ort, .pt and .pte files. A graph of one row of a
            fixed length is timed with such a row.
        threads: Threads of each runtime.
        batch_size: Rows per call.
        sequence_length: Tokens per row.
        runs: Timed calls of each.
        client: Runs the measuring processes.
        step: Progress, in rounds.

    Raises:
        RecipeError: A path is not something that can be timed, or the sequence is longer than it takes.
    """
    files = [found for path in paths for found in _files(path, client)]
    fixed = [_one_row(file) for file, _ in files]
    known = [(path, config) for path in paths if (config := _config(path)) is not None]
    for path, config in known:
        if sequence_length > config.max_position_embeddings:
            hint = f"at most {config.max_position_embeddings}"
            raise RecipeError([Problem("--sequence-length", f"is {sequence_length}, too long for {path}", hint)])
    job: dict[str, Any] = {
        "threads": threads,
        "batch_size": batch_size,
        "sequence_length": sequence_length,
        "runs": runs,
        "vocab_size": min([int(config.config["vocab_size"]) for _, config in known] or [_FALLBACK_VOCABULARY]),
        "files": [
            {"name": str(index), "path": str(file), "runtime": runtime, **fixed[index]}
            for index, (file, runtime) in enumerate(files)
        ],
    }
    samples = client.latency(job, step)
    processes, why = tuple(samples[PROCESSES].tolist()), str(samples[DISTURBED])
    medians = [Timings(samples[str(index)], 0.5, processes, why) for index in range(len(files))]
    return [
        Timed(
            path=str(file),
            runtime=runtime,
            size_bytes=file.stat().st_size,
            p50=median.estimate(_CONFIDENCE),
            p95=Timings(median.samples, 0.95, processes, why).estimate(_CONFIDENCE),
            speedup=medians[0].ratio(median, _CONFIDENCE),
        )
        for (file, runtime), median in zip(files, medians, strict=True)
    ]


def _files(path: Path, client: Client) -> list[tuple[Path, str]]:
    """What is timed for a path, and what runs it."""
    if path.suffix in _NEVER_RUN:
        what = "cannot be timed: nothing here runs it"
        raise RecipeError([Problem(str(path), what, "time it on a device", kind="unsupported")])
    if path.is_dir():
        if found := [(path / entry.file, entry.runtime) for entry in shipped(path) if client.runs(entry.runtime)]:
            return found
        raise RecipeError(
            [
                Problem(
                    str(path),
                    "has no exported format that runs here",
                    "export it first: onnx/…, torchscript/… or executorch/…",
                    kind="missing",
                )
            ]
        )
    if not path.is_file():
        raise RecipeError([Problem(str(path), "no such file or folder", kind="not_found")])
    if path.name == TEXT_RUNTIME.file.name:
        return [(path, TEXT_RUNTIME.name)]
    if path.suffix not in _RUNTIME_BY_SUFFIX:
        allowed = f"allowed: checkpoint folders, {', '.join(_RUNTIME_BY_SUFFIX)}"
        raise RecipeError([Problem(str(path), "cannot be timed", allowed, kind="unsupported")])
    return [(path, _RUNTIME_BY_SUFFIX[path.suffix])]


def _one_row(file: Path) -> dict[str, int]:
    """The batch of a graph of a fixed length, whatever is asked for."""
    from compressor.runtimes.onnx import fixed

    length = fixed.length_of(file) if file.suffix == ".onnx" else None
    return {} if length is None else {"batch_size": 1, "sequence_length": length}


def _config(path: Path) -> Checkpoint | None:
    """The checkpoint that a path belongs to, for its vocabulary and longest sequence."""
    for folder in (path, path.parent, path.parent.parent):
        if (folder / "config.json").is_file():
            return Checkpoint(folder)
    return None
