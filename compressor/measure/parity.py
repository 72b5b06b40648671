"""Parity: whether every format of a checkpoint gives the same answers, on real rows and on edge cases."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from compressor import runtimes
from compressor.host import host
from compressor.measure.client import Client
from compressor.measure.token_rows import EDGES, TokenRows, by_length, edge_cases
from compressor.models.checkpoint import QUANTIZED_ONNX, Checkpoint, input_names
from compressor.progress import Step
from compressor.runtimes import TARGETS
from compressor.tasks.base import ABSENT_LOGIT

ComparedLogits = dict[str, NDArray[np.float32]]
"""Compared logits of each set of rows, `(rows, items, choices)`, by the set's name; see `compressor.tasks`."""

ROWS, SINGLE, ALONE = "rows", "single", "alone"
"""Names of sets of real rows: all in batches, all one at a time, some one at a time."""

_BATCH_TOKENS = 2048
_SAME_NUMBER = 0.01
_EDGE_SETS = {"edges_alone": "batch 1", "edges_together": "one batch", "untyped": "no token types"}


@dataclass(frozen=True)
class Endpoint:
    """A file and its runtime: one of the two sides of a comparison.

    Attributes:
        runtime: The runtime.
        file: The file's path in a checkpoint's folder; for torch, the folder itself.
    """

    runtime: str
    file: Path

    def __str__(self) -> str:
        """`torch`, or the file."""
        return self.runtime if self.file == Path() else self.file.as_posix()


@dataclass(frozen=True)
class Comparison:
    """A format and its reference.

    Attributes:
        name: The format's name in reports.
        candidate: The format.
        reference: The reference.
        kind: `float` formats must give the reference's logits, in any batches. `quantized` ones must give the labels of
            a quantized reference, one row at a time: activations are rounded by the range of the whole batch.
        sample: Real rows, at most and evenly spread, that a quantized format is run on; None for all.
    """

    name: str
    candidate: Endpoint
    reference: Endpoint
    kind: Literal["float", "quantized"] = "float"
    sample: int | None = None

    @property
    def real_rows(self) -> str:
        """Name of the set of real rows that both are asked."""
        if self.kind == "float":
            return ROWS
        return SINGLE if self.sample is None else f"{SINGLE}_{self.sample}"


TORCH = Endpoint(runtimes.TORCH.name, runtimes.TORCH.file)
QUANTIZED = Endpoint("onnxruntime", QUANTIZED_ONNX)


def _comparisons() -> Iterator[Comparison]:
    """Every exported format against torch, or against the quantized graph whose integers it holds."""
    for target, runtime in TARGETS.items():
        candidate = Endpoint(runtime.name, runtime.file)
        if runtime.follows_quantized:
            yield Comparison(target, candidate, QUANTIZED, "quantized", runtime.quantized_rows)
        yield Comparison(target, candidate, TORCH)


COMPARISONS = tuple(_comparisons())
"""Comparisons, made where both files are there; of several for one format, the first."""


def present(folder: Path) -> list[Comparison]:
    """The comparisons that a checkpoint's folder has both sides of."""
    found = [entry for entry in COMPARISONS if all((folder / side.file).exists() for side in _endpoints(entry))]
    names = [entry.name for entry in found]
    return [entry for index, entry in enumerate(found) if entry.name not in names[:index]]


def endpoints(folder: Path, comparisons: Sequence[Comparison]) -> list[Endpoint]:
    """Everything that ships and takes token ids: both sides of the comparisons, torch, and the quantized graph."""
    extra = [QUANTIZED] if (folder / QUANTIZED.file).is_file() else []
    return list(dict.fromkeys([TORCH, *(side for entry in comparisons for side in _endpoints(entry)), *extra]))


def _endpoints(comparison: Comparison) -> tuple[Endpoint, Endpoint]:
    return comparison.reference, comparison.candidate


@dataclass(frozen=True)
class ParityInputs:
    """The inputs that all formats of a checkpoint are run on.

    Attributes:
        rows: File of real rows (`TokenRows`); None where there are only edges.
        edges: File of the edge cases (`EDGES`).
        chosen: Indices of the real rows that are also run one at a time.
        lengths: Tokens of each real row.
        edge_lengths: Tokens of each edge.
    """

    rows: Path | None
    edges: Path
    chosen: tuple[int, ...]
    lengths: NDArray[np.int64]
    edge_lengths: NDArray[np.int64]

    @classmethod
    def of(cls, checkpoint: Checkpoint, rows: Path | None, chosen: int, work: Path) -> ParityInputs:
        """Makes the inputs: real rows, if there are any, and the edge cases of a checkpoint.

        Args:
            checkpoint: Gives the longest sequence and the size of the vocabulary.
            rows: File of real rows.
            chosen: How many of them are also run one at a time, evenly spread.
            work: Folder for the edges.
        """
        tokens = TokenRows.load(rows) if rows else None
        pad = tokens.pad_token_id if tokens else int(checkpoint.config.get("pad_token_id") or 0)
        types = max(1, checkpoint.token_types)
        edges = edge_cases(checkpoint.max_position_embeddings, checkpoint.vocab_size, pad, types)
        edges_file = work / "edges.npz"
        edges.save(edges_file)
        count = len(tokens) if tokens else 0
        lengths = tokens.lengths if tokens else np.zeros(0, np.int64)
        return cls(rows, edges_file, tuple(spread(count, chosen)), lengths, edges.lengths)

    def row_sets(self, comparisons: Sequence[Comparison], untyped: str) -> list[dict[str, Any]]:
        """The sets of rows for a measuring process.

        Args:
            comparisons: The comparisons that the answers are for.
            untyped: How inputs without token types are passed: `omitted` or `zeros`.
        """
        edges = [[index] for index in range(len(EDGES))]
        asked: list[tuple[str, Path | None, list[list[int]]]] = [("edges_alone", self.edges, edges)]
        if any(entry.kind == "float" for entry in comparisons):
            together = by_length(self.edge_lengths, 4 * int(self.edge_lengths.max()))
            asked += [("edges_together", self.edges, together), ("untyped", self.edges, edges)]
            asked += [(ROWS, self.rows, by_length(self.lengths, _BATCH_TOKENS))]
        samples = {entry.real_rows: entry.sample for entry in comparisons if entry.kind == "quantized"}
        for name, limit in samples.items():
            asked += [(name, self.rows, [[index] for index in spread(len(self.lengths), limit)])]
        asked += [(ALONE, self.rows, [[index] for index in self.chosen])]
        return [
            {
                "name": name,
                "rows": str(file),
                "batches": batches,
                "token_types": untyped if name == "untyped" else "given",
            }
            for name, file, batches in asked
            if file is not None and batches
        ]


def run_endpoint(
    folder: Path,
    task: str,
    side: Endpoint,
    comparisons: Sequence[Comparison],
    material: ParityInputs,
    client: Client,
    step: Step | None = None,
) -> ComparedLogits:
    """The answers of one side.

    Args:
        folder: The checkpoint.
        task: The task, which selects the outputs to compare.
        side: The format to run.
        comparisons: All comparisons; those with this side decide which rows it is run on.
        material: The rows.
        client: Runs the measuring processes.
        step: Progress, in rows.

    Raises:
        StageError: The file cannot be loaded or run.
    """
    own = [entry for entry in comparisons if side in _endpoints(entry)]
    threads = int(host()["cores"])
    job = {
        "task": task,
        "keep": "compared",
        "runtime": side.runtime,
        "path": str(folder / side.file),
    }
    sets = material.row_sets(own, untyped="omitted" if side == TORCH else "zeros")
    return client.predict({**job, "sets": sets, "threads": threads, "workers": threads}, step)


def compare(comparison: Comparison, answers: dict[Endpoint, ComparedLogits], material: ParityInputs) -> dict[str, Any]:
    """Compares a format with its reference.

    Returns:
        `label_agreement` (share of the answers to real rows, or to the edges where there are none), `max_abs_diff` of a
        logit and `min_cosine` of an answer's logits over all rows and edges, `worst` (where the difference is), `kind`,
        `rows` (how many the labels are of), `against`.
    """
    given, expected = answers[comparison.candidate], answers[comparison.reference]
    shared = [name for name in expected if name in given]
    labelled = comparison.real_rows if comparison.real_rows in shared else "edges_alone"
    differences = {name: _differences(given[name], expected[name]) for name in shared}
    worst = max(shared, key=lambda name: float(differences[name].max()))
    return {
        "kind": comparison.kind,
        "rows": len(given[labelled]),
        "against": str(comparison.reference),
        "label_agreement": agreement(given[labelled], expected[labelled]),
        "max_abs_diff": float(differences[worst].max()),
        "min_cosine": min(float(_cosine(given[name], expected[name]).min()) for name in shared),
        "worst": _place(comparison, worst, int(differences[worst].argmax()), material),
    }


def agreement(given: NDArray[np.float32], expected: NDArray[np.float32]) -> float:
    """Share of equal choices, of logits `(rows, items, choices)`, without absent items.

    Single numbers, as in regression, are equal when they differ by at most a hundredth of the numbers' spread.
    """
    if expected.shape[-1] == 1:
        return float((np.abs(given - expected) <= _SAME_NUMBER * expected.std()).mean())
    same = given.argmax(axis=-1) == expected.argmax(axis=-1)
    return float(same[~_nothing(expected).all(axis=-1)].mean())


def spread(count: int, limit: int | None) -> list[int]:
    """Indices of at most so many of some rows, evenly spread; all of them for None."""
    wanted = count if limit is None else min(limit, count)
    chosen: list[int] = np.unique(np.linspace(0, count - 1, wanted).round().astype(np.int64)).tolist()
    return chosen


def _nothing(logits: NDArray[np.float32]) -> NDArray[np.bool_]:
    return np.asarray(logits == np.float32(ABSENT_LOGIT))


def _differences(given: NDArray[np.float32], expected: NDArray[np.float32]) -> NDArray[np.float32]:
    """The largest difference of each row. `(rows,)`.

    NaN differs from everything: its difference is infinite, so that no comparison drops it.
    """
    with np.errstate(invalid="ignore"):
        differences = np.abs(given - expected)
    differences[_nothing(given) & _nothing(expected)] = 0
    return np.asarray(np.nan_to_num(differences, nan=np.inf, posinf=np.inf).max(axis=(-2, -1)))


def _cosine(given: NDArray[np.float32], expected: NDArray[np.float32]) -> NDArray[np.float64]:
    """Cosine of the logits of each item, `(rows, items)`; 1 for absent items."""
    nothing = _nothing(given) & _nothing(expected)
    a, b = (np.where(nothing, 0, side).astype(np.float64) for side in (given, expected))
    lengths = np.linalg.norm(a, axis=-1) * np.linalg.norm(b, axis=-1)
    products = (a * b).sum(axis=-1)
    same = (a == b).all(axis=-1).astype(np.float64)  # of zero vectors
    cosine = np.divide(products, lengths, out=same, where=lengths != 0)
    return np.asarray(np.nan_to_num(cosine, nan=-1.0))


def _place(comparison: Comparison, name: str, index: int, inputs: ParityInputs) -> str:
    """Where a difference is: a real row, by its index, or an edge case."""
    if name in _EDGE_SETS:
        return f"{EDGES[index]}, {_EDGE_SETS[name]}"
    if name == ALONE:
        return f"row {inputs.chosen[index]}"
    sampled = name != ROWS
    return f"row {spread(len(inputs.lengths), comparison.sample)[index] if sampled else index}"


def no_token_types(checkpoint: Checkpoint) -> str:
    """How exported formats are run without token types, where torch gets no such input."""
    return "all zeros" if "token_type_ids" in input_names(checkpoint.family) else "there is no such input"
