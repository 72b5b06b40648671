"""Every file that ships, measured: its time beside its float form's, its memory, and its answers to the rows."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressor.gates.estimate import Evidence
from compressor.gates.exact import Exact, Spread
from compressor.gates.metrics import PADDED_DIFFERENCE, PADDED_LABELS, node_share, partitions
from compressor.gates.timings import Timings
from compressor.measure.client import DISTURBED, PROCESSES
from compressor.measure.parity import padded
from compressor.measure.parity_inputs import spread
from compressor.measure.token_rows import REFERENCES_FILE, TokenRows
from compressor.runtimes.base import FLOAT32
from compressor.runtimes.onnx import saturation
from compressor.runtimes.shipped import Format, size_bytes
from compressor.tasks.base import GROUPS, QUERIES, References, Scoring
from compressor.tasks.scoring import per_label, vectors

_FILE, _FLOAT = "format:", "float:"
"""Before the names of files and of their float forms, among what is timed in turn."""
_QUALITY_S = 60.0
"""A file that would take longer for all rows answers some of them."""
_LATENCY_QUANTILES = {"latency_p50_ms": 0.5, "latency_p95_ms": 0.95}


def timed(shipped: Sequence[Format], folder: Path, floats: Mapping[str, Path]) -> list[dict[str, Any]]:
    """What is timed in turn: each file that runs here, and its float form."""
    running = [entry for entry in shipped if entry.ran]
    files: list[dict[str, Any]] = [
        {
            "name": f"{_FILE}{entry.name}",
            "runtime": entry.runtime,
            "path": str(folder / entry.file),
            **one_row(entry),
        }
        for entry in running
    ]
    return files + [
        {"name": f"{_FLOAT}{entry.name}", "runtime": entry.runtime, "path": str(floats[entry.name])}
        for entry in running
        if entry.name in floats
    ]


def one_row(entry: Format) -> dict[str, int]:
    """The batch of a file that takes one row of a fixed length, for a job of the measuring process."""
    return {} if entry.length is None else {"batch_size": 1, "sequence_length": entry.length}


def for_accelerators(entries: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """Of the files, the deployed graph, in its longest fixed length if it has any; None where no graph ships."""
    graphs = [entry for entry in entries if "taken" in entry]
    if not graphs:
        return None
    deployed = next((entry for entry in graphs if entry["precision"] != FLOAT32), graphs[0])["precision"]
    return max((entry for entry in graphs if entry["precision"] == deployed), key=lambda entry: entry["length"] or 0)


def placement(entry: Mapping[str, Any] | None) -> dict[str, Evidence]:
    """The evidence of what execution providers would take of a graph."""
    found: dict[str, Evidence] = {}
    for provider, given in (entry or {}).get("taken", {}).items():
        found[partitions(provider)] = Exact(float(given["partitions"]), n=given["every"])
        found[node_share(provider)] = Exact(given["nodes"] / given["every"], n=given["every"])
    return found


def described(entry: Format, path: Path) -> dict[str, Any]:
    """A file's own facts, for JSON: its entry, its size, and of a graph what it is to processors.

    `saturation` is of a file that ONNX Runtime runs, `taken` (what accelerators would take) of an ONNX graph.
    """
    found = {**asdict(entry), "file": entry.file.as_posix(), "size_bytes": size_bytes(path)}
    if path.suffix in saturation.SUFFIXES:
        found["saturation"] = saturation.of_file(path)
    if entry.runtime == "onnxruntime":
        from compressor.runtimes.onnx import partitions

        found["taken"] = {provider: asdict(given) for provider, given in partitions.taken(path).items()}
    return found


def sampled(output: Path, entry: Format, rows: Path, batch_size: int) -> list[int] | None:
    """The rows that a file answers which takes long for one; None for all. Of queries whole ones.

    Args:
        output: The folder with the times.
        entry: The file.
        rows: The rows, with what they are scored against beside them.
        batch_size: Rows of a timed call.
    """
    count = len(TokenRows.load(rows))
    with np.load(rows.with_name(REFERENCES_FILE), allow_pickle=False) as references:
        if any(len(references[name]) != count for name in references.files):
            return None  # a question has several rows, which cannot be drawn one by one
        query = references[QUERIES] if QUERIES in references.files else np.arange(count)
    median = timings(output, f"{_FILE}{entry.name}")["latency_p50_ms"].estimate(0.95).value
    affordable = int(_QUALITY_S * 1e3 / max(median, 1e-3)) * batch_size
    if affordable >= count:
        return None
    units, unit = np.unique(query, return_inverse=True)
    chosen = spread(len(units), max(1, affordable * len(units) // count))
    found: list[int] = np.flatnonzero(np.isin(unit, chosen)).tolist()
    return found


def evidence(
    folder: Path,
    facts: Mapping[str, Any],
    entry: Mapping[str, Any],
    task: Scoring,
    references: References,
    labels: Sequence[str],
    in_brackets: Collection[str] = (),
) -> dict[str, Evidence]:
    """The evidence of one file, metric by metric.

    Args:
        folder: The output folder of `compressor.measure.measurement.measure`.
        facts: Its result.
        entry: The file's entry of `facts["formats"]`.
        task: Scores the answers.
        references: The right answers.
        labels: Names of the head's outputs.
        in_brackets: Metrics of single labels, or of smaller vectors, that are wanted too.
    """
    found: dict[str, Evidence] = {"size_bytes": Exact(float(entry["size_bytes"]))}
    compared = (facts.get("parity") or {}).get("formats", {})
    found |= _parity(compared.get(entry["name"])) | _padded(compared.get(padded(entry["name"])))
    found |= placement(entry)
    if not entry["ran"]:
        return found
    found |= timings(folder, f"{_FILE}{entry['name']}")
    found["peak_rss_bytes"] = Spread(tuple(entry["peak_rss_bytes"]))
    if entry["length"] is not None:
        return found  # its answers are its free form's, as parity says
    answers = np.load(folder / f"{answers_name(entry['name'])}.npy")
    return found | scored(answers, task, taken(references, entry["sample"]), labels, in_brackets)


def scored(
    answers: NDArray[np.float32],
    task: Scoring,
    references: References,
    labels: Sequence[str],
    in_brackets: Collection[str] = (),
) -> dict[str, Evidence]:
    """The task's metrics of some answers; rows that belong together count as less evidence."""
    found, groups = task.score(answers, references, labels), references.get(GROUPS)
    found |= per_label.score(task, answers, references, labels, in_brackets)
    found |= vectors.score_smaller(answers, references, in_brackets)
    if groups is None:
        return dict(found)
    return {name: rows if rows.groups is not None else replace(rows, groups=groups) for name, rows in found.items()}


def timings(folder: Path, name: str) -> dict[str, Evidence]:
    """The times of one of the files that were timed in turn."""
    with np.load(folder / "latency.npz", allow_pickle=False) as samples:
        processes = tuple(samples[PROCESSES].tolist())
        times, why = samples[name].astype(np.float64), str(samples[DISTURBED])
    return {metric: Timings(times, quantile, processes, why) for metric, quantile in _LATENCY_QUANTILES.items()}


def float_timings(folder: Path, name: str) -> dict[str, Evidence] | None:
    """The times of a file's float form; None where it has none."""
    with np.load(folder / "latency.npz", allow_pickle=False) as samples:
        there = f"{_FLOAT}{name}" in samples.files
    return timings(folder, f"{_FLOAT}{name}") if there else None


def taken(references: References, sample: Sequence[int] | None) -> References:
    """The right answers to a sample of the rows; None for all."""
    return references if sample is None else {name: array[list(sample)] for name, array in references.items()}


def answers_name(form: str) -> str:
    """Name of the array of a file's answers."""
    return f"answers_{form}"


def _parity(entry: Mapping[str, Any] | None) -> dict[str, Evidence]:
    if entry is None:
        return {}
    found: dict[str, Evidence] = {
        "parity_label_agreement": Exact(entry["label_agreement"], n=entry["rows"]),
        "parity_min_cosine": Exact(entry["min_cosine"], n=entry["rows"]),
    }
    if entry["kind"] in ("float", "evaluated"):
        found["parity_max_abs_diff"] = Exact(entry["max_abs_diff"], n=entry["rows"])
    return found


def _padded(entry: Mapping[str, Any] | None) -> dict[str, Evidence]:
    if entry is None:
        return {}
    rows = entry["rows"]
    return {
        PADDED_LABELS: Exact(entry["label_agreement"], n=rows),
        PADDED_DIFFERENCE: Exact(entry["max_abs_diff"], n=rows),
    }
