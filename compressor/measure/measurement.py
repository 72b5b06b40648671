"""Measures one checkpoint: its deployed file's quality, speed, memory, size, coverage, and its formats' parity."""

from __future__ import annotations

import tempfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressor.gates.estimate import Evidence
from compressor.gates.exact import Exact, Spread
from compressor.measure import formats, parity, recorded_answers
from compressor.measure.client import DISTURBED, Client
from compressor.measure.parity_inputs import ALONE, TEXTS_FILE, ParityInputs
from compressor.measure.spec import MeasureSpec
from compressor.measure.token_rows import EDGES, TokenRows, in_order
from compressor.models import thresholds
from compressor.models.checkpoint import Checkpoint
from compressor.progress import Progress, Step
from compressor.runtimes import RUNTIMES
from compressor.runtimes.onnx import saturation
from compressor.runtimes.shipped import Format, shipped
from compressor.tasks.base import References, Scoring

REPEATABLE = ("size_bytes", "num_parameters", "quantized_coverage")
"""Metrics that depend on the folder alone, not on data or the machine."""

_FORMAT_PROCESSES = 2
"""Processes in which the peak memory of each file that ships is taken: the fewest that give a bound."""
_PARITY_ALONE = 32
"""Fewest real rows that every format answers one at a time."""


def deployed_file(folder: Path, runtime: str) -> Path | None:
    """The file in a checkpoint folder that ships for a runtime; None if the checkpoint was not exported for it."""
    quantized = Checkpoint(folder).quantized if runtime == "onnxruntime" else None
    return next((path for path in (quantized, folder / RUNTIMES[runtime].file) if path and path.is_file()), None)


@dataclass(frozen=True)
class Subject:
    """A checkpoint to measure.

    Attributes:
        name: The stage's name, for progress.
        task: The checkpoint's task.
        folder: The checkpoint.
        file: Its deployed file.
        recorded_rows: Number of rows whose answers are recorded, for `compress verify`.
        parity: Whether its formats are compared with each other.
        floats: Of a checkpoint that ships, the float form of each of its files that has another, by the file's name;
            None where files are not measured one by one.
    """

    name: str
    task: str
    folder: Path
    file: Path
    recorded_rows: int = 0
    parity: bool = True
    floats: Mapping[str, Path] | None = None


def measure(
    subject: Subject,
    references: Mapping[str, Path],
    vocab_size: int,
    rows: Path,
    spec: MeasureSpec,
    output: Path,
    client: Client,
    progress: Progress,
) -> dict[str, Any]:
    """Measures a checkpoint and writes the raw evidence.

    Args:
        subject: The checkpoint.
        references: Deployed files that are timed in turn with it, by name.
        vocab_size: Size of the smallest of their vocabularies.
        rows: The validation rows, tokenized (`TokenRows`).
        spec: Conditions.
        output: Empty folder; gets `answers.npy`, `latency.npz` and, if any are to be recorded, the recorded answers.
        client: Runs the measuring processes.
        progress: Shows progress.

    Returns:
        The small facts: sizes, counts, memory, coverage, parity.
    """
    tokens = TokenRows.load(rows)
    files_that_ship = shipped(subject.folder) if subject.floats is not None else []
    with progress.step(f"{subject.name}: scoring {len(tokens)} rows", len(tokens)) as step:
        given = answers(subject.file, subject.folder, subject.task, rows, spec, client, step)
        np.save(output / "answers.npy", given)

    call: dict[str, Any] = {
        "threads": spec.threads,
        "batch_size": spec.batch_size,
        "sequence_length": spec.sequence_length,
        "vocab_size": vocab_size,
    }
    files = [
        {"name": name, "runtime": spec.runtime, "path": str(path)}
        for name, path in {**references, "self": subject.file}.items()
    ]
    here = [entry for entry in files_that_ship if client.runs(entry.runtime)]
    files += formats.timed(here, subject.folder, subject.floats or {})
    with progress.step(f"{subject.name}: timing {spec.runs} runs", spec.runs) as step:
        samples: dict[str, Any] = client.latency({**call, "files": files, "runs": spec.runs}, step)
    np.savez(output / "latency.npz", **samples)

    with progress.step(f"{subject.name}: memory") as step:
        memory = client.peak_memory({**call, "runtime": spec.runtime, "path": str(subject.file)}, step)
    facts: dict[str, Any] = {**repeatable(subject.folder, subject.file), "peak_rss_bytes": memory}
    facts["disturbed"] = str(samples[DISTURBED])
    facts["saturation"] = saturation.of_file(subject.file) if subject.file.suffix in saturation.SUFFIXES else None
    if files_that_ship:
        facts["formats"] = _formats(files_that_ship, subject, rows, call, memory, spec, output, client, progress)
    if subject.parity and parity.present(subject.folder):
        facts["parity"] = _parity(subject, rows, output, client.local, progress)
    return facts


def _formats(
    files: Sequence[Format],
    subject: Subject,
    rows: Path,
    call: Mapping[str, Any],
    memory: Sequence[float],
    spec: MeasureSpec,
    output: Path,
    client: Client,
    progress: Progress,
) -> list[dict[str, Any]]:
    """Measures each file that ships but for its time; see `compressor.measure.formats.evidence`.

    Times are there, and so are the answers and the memory of the deployed file.
    """
    found = []
    for entry in files:
        path = subject.folder / entry.file
        facts = {**formats.described(entry, path), "ran": client.runs(entry.runtime), "sample": None}
        job = {**call, **formats.one_row(entry), "runtime": entry.runtime, "path": str(path)}
        if entry.length is not None and facts["ran"]:
            facts["peak_rss_bytes"] = client.peak_memory(job, processes=_FORMAT_PROCESSES)
        elif facts["ran"]:
            facts["sample"] = formats.sampled(output, entry, rows, spec.batch_size)
            with progress.step(f"{subject.name}: {entry.name}") as step:
                if path == subject.file:
                    given = np.load(output / "answers.npy")
                    facts |= {"sample": None, "peak_rss_bytes": list(memory)}
                else:
                    of = (path, subject.folder, subject.task)
                    given = answers(*of, rows, spec, client, step, entry.runtime, facts["sample"])
                    facts["peak_rss_bytes"] = client.peak_memory(job, processes=_FORMAT_PROCESSES)
                np.save(output / f"{formats.answers_name(entry.name)}.npy", given)
        found.append(facts)
    return found


def answers(
    file: Path,
    checkpoint: Path,
    task: str,
    rows: Path,
    spec: MeasureSpec,
    client: Client,
    step: Step | None = None,
    runtime: str | None = None,
    sample: Sequence[int] | None = None,
) -> NDArray[np.float32]:
    """A deployed file's answer to each row, in batches of the size that ships.

    Args:
        file: The file.
        checkpoint: The checkpoint's folder, whose thresholds decide.
        task: Its task.
        rows: The rows, tokenized (`TokenRows`).
        spec: Conditions.
        client: Runs the measuring processes.
        step: Progress, in rows.
        runtime: What runs it; None for the runtime that is measured.
        sample: Indices of the rows; None for all.
    """
    chosen = list(range(len(TokenRows.load(rows)))) if sample is None else list(sample)
    batches = [[chosen[index] for index in batch] for batch in in_order(len(chosen), spec.batch_size)]
    name = runtime or spec.runtime
    source = {"texts": str(rows.with_name(TEXTS_FILE))} if RUNTIMES[name].takes_texts else {"rows": str(rows)}
    job = {
        "task": task,
        "keep": "answers",
        "runtime": name,
        "path": str(file),
        "threads": spec.threads,
        "workers": client.cores,
        "offsets": thresholds.offsets(Checkpoint(checkpoint)),
        "sets": [{"name": "rows", **source, "batches": batches}],
    }
    return np.asarray(client.predict(job, step)["rows"])


def _parity(subject: Subject, rows: Path, output: Path, client: Client, progress: Progress) -> dict[str, Any]:
    """Compares every format with its reference, and records some answers for `compress verify`."""
    comparisons, checkpoint = parity.present(subject.folder), Checkpoint(subject.folder)
    tokens = TokenRows.load(rows)
    answers_of = {}
    with tempfile.TemporaryDirectory(prefix="compress-") as work:
        chosen = max(subject.recorded_rows, _PARITY_ALONE)
        material = ParityInputs.of(checkpoint, rows, chosen, Path(work))
        for side in parity.endpoints(subject.folder, comparisons):
            with progress.step(f"{subject.name}: parity, {side}", len(tokens)) as step:
                answers_of[side] = parity.run_endpoint(
                    subject.folder, subject.task, side, comparisons, material, client, step
                )
    if subject.recorded_rows:
        given = {str(side): found[ALONE] for side, found in answers_of.items() if ALONE in found}
        recorded_answers.write(
            output / recorded_answers.FILE, subject.task, tokens.take(material.chosen), given, material.chosen_texts()
        )
    return {
        "rows": len(tokens),
        "edges": len(EDGES),
        "no_token_types": parity.no_token_types(checkpoint),
        "formats": {entry.name: parity.compare(entry, answers_of, material) for entry in comparisons},
    }


def repeatable(folder: Path, file: Path) -> dict[str, float]:
    """The measurements that any machine can repeat without data.

    Args:
        folder: The checkpoint.
        file: Its deployed file.
    """
    return {
        "size_bytes": file.stat().st_size,
        "num_parameters": Checkpoint(folder).num_parameters,
        "quantized_coverage": _coverage(file),
    }


def _coverage(file: Path) -> float:
    if file.suffix != ".onnx":
        return 0.0
    from compressor.runtimes.onnx import coverage

    return coverage.quantized_coverage(file)


def evidence(
    folder: Path,
    facts: Mapping[str, Any],
    task: Scoring,
    references: References,
    labels: Sequence[str],
    against: str = "self",
    in_brackets: Collection[str] = (),
) -> dict[str, Evidence]:
    """The evidence of a measurement, metric by metric.

    Args:
        folder: The output folder of `measure`.
        facts: The result of `measure`.
        task: Scores the answers.
        references: The right answers.
        labels: Names of the head's outputs.
        against: `self`, or the name of a reference for its timings from the same process.
        in_brackets: Metrics of single labels, or of smaller vectors, that are wanted too.
    """
    found = formats.timings(folder, against)
    if against != "self":
        return found
    found |= formats.scored(np.load(folder / "answers.npy"), task, references, labels, in_brackets)
    found.update(formats.placement(formats.for_accelerators(facts.get("formats", ()))))
    for metric in REPEATABLE:
        found[metric] = Exact(float(facts[metric]))
    found["peak_rss_bytes"] = Spread(tuple(facts["peak_rss_bytes"]))
    found.update(parity.evidence(facts.get("parity")))
    return found
