"""Measures each file of `deploy.py`: time in turn with the others, size, quality, integers, share of peak."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import contenders
import kernels
import numpy as np
from contenders import CONTENDERS, FUSED
from given import REFERENCES, VALIDATION_ROWS, Given
from numpy.typing import NDArray

from compressor.files import file_digest
from compressor.gates.timings import Timings
from compressor.host import machine
from compressor.measure.token_rows import LABELS, TokenRows
from compressor.models.checkpoint import Checkpoint
from compressor.pipeline.store import Store
from compressor.progress import Progress
from compressor.runtimes import Session

LENGTHS = (32, 64, 128)
CLOCKS = {"wall": time.perf_counter_ns, "cpu": time.process_time_ns}
"""What a call is timed by; `cpu` leaves out the time of other processes, though not what they do to the caches."""
_WARM_UP_CALLS, _CONFIDENCE = 10, 0.95


@dataclass(frozen=True)
class Conditions:
    """How calls are timed.

    Attributes:
        runs: Rounds.
        settle: Untimed calls before each timed one: an app's next call finds its own weights in the caches, not those
            of another model.
        clock: One of `CLOCKS`.
    """

    runs: int
    settle: int
    clock: str


@dataclass(frozen=True)
class Speed:
    """One contender at one length.

    Attributes:
        p50_ms: Median latency.
        p95_ms: 95th percentile of the latency.
        speedup: Median of the fused fp32 file / this median.
        speedup_low: Lower bound of that, at 95 %; None after too few runs.
        speedup_high: Upper bound.
        multiply_adds: Of the products with weight matrices in one call.
        peak_share: Their time at the machine's int8 peak / the median.
    """

    p50_ms: float
    p95_ms: float
    speedup: float
    speedup_low: float | None
    speedup_high: float | None
    multiply_adds: int
    peak_share: float


def timed(
    sessions: Mapping[str, Any], inputs: kernels.Inputs, conditions: Conditions, progress: Progress
) -> dict[str, NDArray[np.float64]]:
    """Milliseconds per call of each, timed in turn: in each round every one once, in alternating order."""
    clock = CLOCKS[conditions.clock]
    for session in sessions.values():
        for _ in range(_WARM_UP_CALLS):
            session.predict(inputs)
    samples: dict[str, list[float]] = {name: [] for name in sessions}
    with progress.step(f"timing at length {inputs['input_ids'].shape[1]}", conditions.runs) as step:
        for run in range(conditions.runs):
            for name in sessions if run % 2 == 0 else reversed(sessions):
                for _ in range(conditions.settle):
                    sessions[name].predict(inputs)
                start = clock()
                sessions[name].predict(inputs)
                samples[name].append((clock() - start) / 1e6)
            step.update(run + 1)
    return {name: np.array(values) for name, values in samples.items()}


def accuracy(session: Session, given: Given) -> float:
    """Share of rows with the right label, one row in a call: dynamic int8 depends on the batch it runs in."""
    rows = TokenRows.load(given.rows / VALIDATION_ROWS)
    references = np.load(given.rows / REFERENCES)
    hits = 0
    for index, reference in enumerate(references):
        inputs = rows.batch([index])
        inputs.pop(LABELS)
        hits += int(session.predict(inputs)["logits"].argmax() == reference)
    return hits / len(references)


def facts(name: str, session: Session, files: Mapping[str, Path], given: Given, lengths: list[int]) -> dict[str, Any]:
    """The values that do not depend on the clock; cached, since scoring takes longer than timing."""
    from compressor.runtimes.onnx.coverage import quantized_coverage

    path = files[name]
    graph = files[CONTENDERS[name].arithmetic or name]

    def build(output: Path, work: Path) -> dict[str, Any]:
        calls = {
            length: kernels.profile(graph, kernels.full_batch(length, kernels.FEW_TOKENS), 1) for length in lengths
        }
        return {
            "accuracy": accuracy(session, given),
            "quantized_coverage": quantized_coverage(path) if path.suffix == ".onnx" else None,
            "multiply_adds": {str(n): sum(one.multiply_adds for one in call) for n, call in calls.items()},
        }

    inputs = {
        "files": [file_digest(part) for part in (*contenders.parts(path), graph)],
        "rows": given.rows.parent.name,
        "runtime": CONTENDERS[name].runtime,
        "code": [file_digest(Path(module)) for module in (__file__, kernels.__file__)],
        "host": machine.host(),
        "versions": machine.versions(),
    }
    return Store(given.folder / "facts").build(inputs, build)[0].facts


def measured(
    given: Given, files: Mapping[str, Path], names: list[str], conditions: Conditions, progress: Progress
) -> tuple[dict[str, dict[str, Any]], float]:
    """The table's values for each contender, and the machine's int8 peak in operations/s."""
    model = Checkpoint(given.checkpoint)
    vocab_size, lengths = int(model.config["vocab_size"]), [n for n in LENGTHS if n <= model.max_sequence_length()]
    sessions = {name: contenders.session(CONTENDERS[name], files[name]) for name in names}
    known = {}
    for name, session in sessions.items():
        with progress.step(f"scoring {name}"):
            known[name] = facts(name, session, files, given, lengths)
    products = {f"peak {shape}": kernels.Int8Product(shape) for shape in kernels.PEAK_SHAPES}
    samples = {
        length: timed({**sessions, **products}, kernels.full_batch(length, vocab_size), conditions, progress)
        for length in lengths
    }
    fastest_ms = {name: min(taken[name].min() for taken in samples.values()) for name in products}
    peak = max(product.operations / (fastest_ms[name] / 1e3) for name, product in products.items())
    found = {}
    for name in names:
        work = known[name]["multiply_adds"]
        found[name] = {
            "title": CONTENDERS[name].title,
            "file": str(files[name]),
            "size_bytes": sum(part.stat().st_size for part in contenders.parts(files[name])),
            **{metric: known[name][metric] for metric in ("accuracy", "quantized_coverage")},
            "lengths": {
                str(n): vars(_speed(taken[name], taken[FUSED], work[str(n)], peak)) for n, taken in samples.items()
            },
        }
    return found, peak


def _speed(samples: NDArray[np.float64], reference: NDArray[np.float64], work: int, peak: float) -> Speed:
    ratio = Timings(reference, 0.5).ratio(Timings(samples, 0.5), _CONFIDENCE)
    p50, p95 = np.quantile(samples, [0.5, 0.95])
    return Speed(p50, p95, ratio.value, ratio.low, ratio.high, work, 2 * work / peak / (p50 / 1e3))
