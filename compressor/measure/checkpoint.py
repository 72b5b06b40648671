"""Measures one checkpoint: its deployed file's quality, speed, memory, size, coverage, and its formats' parity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressor.checkpoint import QUANTIZED_ONNX, Checkpoint
from compressor.evidence import Evidence, Exact, Spread, Timings
from compressor.measure import process
from compressor.measure.rows import TokenRows, by_length, edge_cases, in_order
from compressor.progress import Progress
from compressor.recipe import MeasureSpec
from compressor.runtimes import RUNTIMES, TARGETS
from compressor.tasks import Scoring

_MEMORY_PROCESSES = 3
_PARITY_TOKENS = 2048
_LATENCY_QUANTILES = {"latency_p50_ms": 0.5, "latency_p95_ms": 0.95}


def deployed_file(folder: Path, runtime: str) -> Path | None:
    """The file in a checkpoint folder that ships for a runtime; None when the checkpoint has yet to be exported."""
    candidates = [QUANTIZED_ONNX] if runtime == "onnxruntime" else []
    return next((folder / name for name in (*candidates, RUNTIMES[runtime].file) if (folder / name).is_file()), None)


@dataclass(frozen=True)
class Subject:
    """A checkpoint to be measured.

    Attributes:
        name: The stage's name, for progress.
        task: What the checkpoint does.
        folder: The checkpoint.
        file: Its deployed file.
    """

    name: str
    task: str
    folder: Path
    file: Path


def measure(
    subject: Subject,
    references: Mapping[str, Path],
    vocab_size: int,
    rows: Path,
    spec: MeasureSpec,
    output: Path,
    progress: Progress,
) -> dict[str, Any]:
    """Measures a checkpoint and writes the raw evidence.

    Args:
        subject: What is measured.
        references: Deployed files that are timed in turn with it, by name (`baseline`, `previous`).
        vocab_size: Tokens that all of them know.
        rows: The validation rows, tokenized (`TokenRows`).
        spec: Conditions.
        output: Empty folder; gets `answers.npy` and `latency.npz`.
        progress: Tells the user.

    Returns:
        The small facts: sizes, counts, memory, coverage, parity.
    """
    tokens = TokenRows.load(rows)
    job = {"runtime": spec.runtime, "path": str(subject.file), "threads": spec.threads}
    with progress.step(f"{subject.name}: scoring {len(tokens)} rows", len(tokens)) as step:
        sets = [{"name": "rows", "rows": str(rows), "batches": in_order(len(tokens), spec.batch_size)}]
        predict = {"kind": "predict", "task": subject.task, "keep": "answers", "sets": sets, "workers": _cores()}
        answers = process.run({**job, **predict}, step)["rows"]
    np.save(output / "answers.npy", answers)

    call = {
        "threads": spec.threads,
        "batch_size": spec.batch_size,
        "sequence_length": spec.sequence_length,
        "vocab_size": vocab_size,
    }
    files = [
        {"name": name, "runtime": spec.runtime, "path": str(path)}
        for name, path in {**references, "self": subject.file}.items()
    ]
    with progress.step(f"{subject.name}: timing {spec.runs} runs", spec.runs) as step:
        samples: dict[str, Any] = process.run(
            {**job, **call, "kind": "latency", "files": files, "runs": spec.runs}, step
        )
    np.savez(output / "latency.npz", **samples)

    with progress.step(f"{subject.name}: memory", _MEMORY_PROCESSES) as step:
        memory = []
        for done in range(_MEMORY_PROCESSES):
            memory.append(float(process.run({**job, **call, "kind": "memory"})["peak_rss_bytes"]))
            step.update(done + 1)
    facts: dict[str, Any] = {
        "size_bytes": subject.file.stat().st_size,
        "num_parameters": Checkpoint(subject.folder).num_parameters,
        "peak_rss_bytes": memory,
        "quantized_coverage": _coverage(subject.file),
    }
    formats = {
        runtime: subject.folder / RUNTIMES[runtime].file
        for runtime in TARGETS.values()
        if (subject.folder / RUNTIMES[runtime].file).is_file()
    }
    if formats:
        facts["parity"] = _parity(subject, formats, tokens, rows, output, progress)
    return facts


def _parity(
    subject: Subject, formats: Mapping[str, Path], tokens: TokenRows, rows: Path, output: Path, progress: Progress
) -> dict[str, Any]:
    """Holds every float format against torch: labels on the validation rows, logits on those and on the edges."""
    checkpoint = Checkpoint(subject.folder)
    edges = edge_cases(checkpoint.max_position_embeddings, int(checkpoint.config["vocab_size"]), tokens.pad_token_id)
    edges_file = output / "edges.npz"
    edges.save(edges_file)
    batches = {
        "rows": (rows, by_length(tokens.lengths, _PARITY_TOKENS)),
        "alone": (edges_file, [[index] for index in range(len(edges))]),
        "together": (edges_file, by_length(edges.lengths, 4 * int(edges.lengths.max()))),
    }
    sets = [{"name": name, "rows": str(file), "batches": listed} for name, (file, listed) in batches.items()]
    answers: dict[str, dict[str, NDArray[np.float32]]] = {}
    for runtime, path in {"torch": subject.folder, **formats}.items():
        predict = {"kind": "predict", "task": subject.task, "keep": "compared", "sets": sets}
        job = {**predict, "runtime": runtime, "path": str(path)}
        with progress.step(f"{subject.name}: parity, {runtime}", len(tokens)) as step:
            answers[runtime] = process.run({**job, "threads": _cores(), "workers": _cores()}, step)
    edges_file.unlink()
    reference = answers.pop("torch")
    by_format = {
        runtime: {
            "label_agreement": _agreement(given["rows"], reference["rows"]),
            "max_abs_diff": max(float(np.abs(given[name] - reference[name]).max()) for name in batches),
        }
        for runtime, given in answers.items()
    }
    return {"rows": len(tokens), "edges": len(edges), "formats": by_format}


def _agreement(given: NDArray[np.float32], reference: NDArray[np.float32]) -> float:
    return float((given.argmax(axis=-1) == reference.argmax(axis=-1)).mean())


def _coverage(file: Path) -> float:
    if file.suffix != ".onnx":
        return 0.0
    from compressor.runtimes import onnx

    return onnx.quantized_coverage(file)


def _cores() -> int:
    from compressor.fingerprint import host

    return int(host()["cores"])


def evidence(
    folder: Path, facts: Mapping[str, Any], task: Scoring, references: NDArray[np.int64], against: str = "self"
) -> dict[str, Evidence]:
    """The evidence of a measurement, metric by metric.

    Args:
        folder: What `measure` wrote.
        facts: What `measure` returned.
        task: Scores the answers.
        references: Right answers of the rows.
        against: `self`, or the name of a reference for its timings from the same process.
    """
    found: dict[str, Evidence] = {}
    if against == "self":
        found.update(task.score(np.load(folder / "answers.npy"), references))
    with np.load(folder / "latency.npz", allow_pickle=False) as samples:
        for metric, quantile in _LATENCY_QUANTILES.items():
            found[metric] = Timings(samples[against].astype(np.float64), quantile)
    if against != "self":
        return found
    for metric in ("size_bytes", "num_parameters", "quantized_coverage"):
        found[metric] = Exact(float(facts[metric]))
    found["peak_rss_bytes"] = Spread(tuple(facts["peak_rss_bytes"]))
    if parity := facts.get("parity"):
        formats: Sequence[Mapping[str, float]] = list(parity["formats"].values())
        # A fixed set of rows is compared, not sampled from: the share is exact.
        agreement = min(entry["label_agreement"] for entry in formats)
        found["parity_label_agreement"] = Exact(agreement, n=int(parity["rows"]))
        found["parity_max_abs_diff"] = Exact(
            max(entry["max_abs_diff"] for entry in formats), n=int(parity["rows"]) + int(parity["edges"])
        )
    return found
