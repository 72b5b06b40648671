"""Parity: whether every format of a checkpoint gives the same answers, on real rows and on edge cases."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressor import runtimes
from compressor.gates.estimate import Evidence
from compressor.gates.exact import Exact
from compressor.gates.metrics import PARITY, Held
from compressor.measure.client import Client
from compressor.measure.parity_inputs import PADDED, Comparison, Endpoint, ParityInputs
from compressor.models import thresholds
from compressor.models.checkpoint import Checkpoint, input_names
from compressor.progress import Step
from compressor.runtimes import RUNTIMES, TARGETS, TEXT_RUNTIME
from compressor.runtimes.base import FLOAT32
from compressor.runtimes.shipped import shipped
from compressor.tasks.base import ABSENT_LOGIT
from compressor.tasks.scoring.cosine import cosines

ComparedLogits = dict[str, NDArray[np.float32]]
"""Compared logits of each set of rows, `(rows, items, choices)`, by the set's name; see `compressor.tasks`."""

_SAME_NUMBER, _STEPPED_NUMBER, _NEAR_NUMBER = 0.01, 0.05, 0.1
"""Shares of the spread that single numbers may differ by: of files that compute the same in floats; of the same
integers in two kernels, or for two lengths, where sums of another order bring activations on the edge of two steps to
the other one; and of one that rounds weights in its own way and the model in float."""
_SAME_VECTOR: dict[Held, float] = {"float": 0.9999, "padded": 0.99, "quantized": 0.99, "texts": 0.99, "evaluated": 0.95}
_NEAR_VECTOR = 0.95
"""Cosines from which two vectors of one text are the same answer, by what a file is held to, and where it rounds
weights in its own way."""
_TEXTS_SAMPLE = 500
"""Rows whose texts are asked of a file that holds its tokenizer, at most: each takes the time of a call."""
_EVALUATED_SAMPLE = 1000
"""Rows that a file is evaluated on, at most: MiniLM takes 20 ms for each."""

TORCH = Endpoint(runtimes.TORCH.name, runtimes.TORCH.file)
FLOAT = Endpoint("onnxruntime", TARGETS["onnx"].file)


def comparisons(deployed: Endpoint | None) -> Iterator[Comparison]:
    """Every format against torch, or against the quantized graph whose integers it holds.

    One that rounds weights in its own way is held to torch's labels: torch is nearer to it than the quantized graph.
    So is one that nothing here runs.

    Args:
        deployed: The quantized graph that is deployed; None where there is none.
    """
    for target, runtime in TARGETS.items():
        candidate, held = Endpoint(runtime.name, runtime.file), runtime.held(deployed is not None)
        if held == "quantized":
            reference = deployed if runtime.follows_quantized and deployed is not None else TORCH
            yield Comparison(target, candidate, reference, held)
        if held == "evaluated":
            yield Comparison(target, candidate, TORCH, held, _EVALUATED_SAMPLE)
        else:
            yield Comparison(target, candidate, TORCH)
    texts = Endpoint(TEXT_RUNTIME.name, TEXT_RUNTIME.file)
    for reference in (*([deployed] if deployed is not None else ()), FLOAT, TORCH):
        yield Comparison(TEXT_RUNTIME.name, texts, reference, "texts", _TEXTS_SAMPLE)


def present(folder: Path) -> list[Comparison]:
    """The comparisons that a checkpoint's folder has both sides of; of several for one format, the first.

    Where formats are exported, every file that is not in float is also compared with itself, given padded rows, and
    every graph of a fixed length with that of free sizes.
    """
    every = comparisons(next(iter(quantized_graphs(folder)), None))
    found = [entry for entry in every if all((folder / side.file).exists() for side in entry.sides)]
    names = [entry.name for entry in found]
    found = [entry for index, entry in enumerate(found) if entry.name not in names[:index]]
    files = shipped(folder) if found else []
    free = {(entry.runtime, entry.precision): entry for entry in reversed(files) if entry.length is None}
    for entry in files:
        side, quantized = Endpoint(entry.runtime, entry.file), entry.precision != FLOAT32
        if entry.length is not None:
            if (whole := free.get((entry.runtime, entry.precision))) is None:
                continue  # a folder may have lost it
            name = padded(entry.name) if quantized else entry.name
            reference = Endpoint(whole.runtime, whole.file)
            found.append(Comparison(name, side, reference, "padded" if quantized else "float", length=entry.length))
        elif quantized and entry.ran and not RUNTIMES[entry.runtime].takes_texts:
            found.append(Comparison(padded(entry.name), side, side, "padded"))
    return found


def padded(form: str) -> str:
    """The name of a file's comparison with itself."""
    return f"{form}_padded"


def endpoints(folder: Path, comparisons: Sequence[Comparison]) -> list[Endpoint]:
    """Everything that ships and runs: both sides of the comparisons, torch, and the quantized graphs."""
    sides = (side for entry in comparisons for side in entry.sides)
    return list(dict.fromkeys([TORCH, *sides, *quantized_graphs(folder)]))


def quantized_graphs(folder: Path) -> list[Endpoint]:
    """The quantized graphs of a checkpoint, the deployed one first."""
    return [Endpoint(FLOAT.runtime, Path(entry.file)) for entry in Checkpoint(folder).quantizations]


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
        client: Runs the measuring processes; what its device cannot run is run here.
        step: Progress, in rows.

    Raises:
        StageError: The file cannot be loaded or run.
    """
    own = [entry for entry in comparisons if side in entry.sides]
    client = client if client.runs(side.runtime) else client.local
    threads = client.cores
    job = {
        "task": task,
        "keep": "compared",
        "runtime": side.runtime,
        "path": str(folder / side.file),
        "offsets": thresholds.offsets(Checkpoint(folder)),
    }
    if side.runtime == TEXT_RUNTIME.name:
        sets = material.text_sets(own)
    else:
        sets = material.row_sets(own, untyped="omitted" if side == TORCH else "zeros")
    return client.predict({**job, "sets": sets, "threads": threads, "workers": threads}, step)


def compare(comparison: Comparison, answers: dict[Endpoint, ComparedLogits], material: ParityInputs) -> dict[str, Any]:
    """Compares a format with its reference.

    Returns:
        `label_agreement` (share of the answers to real rows, or to made-up ones where there are none), `max_abs_diff`
        of a logit and `min_cosine` of an answer's logits over all rows, `worst` (where the difference is), `kind`,
        `rows` (how many the labels are of), `against`. Of a file that takes texts, logarithms of probabilities stand
        for logits, and labels have to agree on made-up texts, too: the set that agrees least counts. Of multi-label
        models a row agrees if it is given the same labels, all of them; of vectors if their cosine is near 1. A format
        that gives something other than a number anywhere agrees with nothing.
    """
    given, expected = answers[comparison.candidate], answers[comparison.reference]
    against = str(comparison.reference)
    fits = None if comparison.length is None else material.fitting(comparison.length)
    if fits is not None or comparison.kind == "padded":
        given = {name: given[PADDED[name]] for name in PADDED if PADDED[name] in given}
        expected = {name: expected[name] if fits is None else expected[name][fits[name]] for name in given}
        for name in given:
            given[name], expected[name] = _same_shape(given[name], expected[name])
        against += ", unpadded"
    shared = [name for name in expected if name in given]
    made_up = "edges_alone" if comparison.kind != "texts" else "probes_alone"
    real_rows = material.real_rows(comparison)
    labelled = real_rows if real_rows in shared else made_up
    near = comparison.kind in ("quantized", "evaluated") and comparison.reference == TORCH
    stepped = comparison.kind in ("quantized", "padded")
    number = _NEAR_NUMBER if near else _STEPPED_NUMBER if stepped else _SAME_NUMBER
    same = partial(agreement, same_number=number, sets=material.sets)
    if material.vectors:
        same = partial(agreement, least_cosine=_NEAR_VECTOR if near else _SAME_VECTOR[comparison.kind])
    if comparison.kind == "texts":
        labelled = min(shared, key=lambda name: same(given[name], expected[name]))
    label_agreement = same(given[labelled], expected[labelled])
    if comparison.kind == "texts" and not material.vectors:
        given, expected = (
            {name: _log_probabilities(side[name], material.sets) for name in shared} for side in (given, expected)
        )
    differences = {name: _differences(given[name], expected[name]) for name in shared}
    worst = max(shared, key=lambda name: float(differences[name].max()))
    numbers = bool(np.isfinite(differences[worst]).all())
    row = int(differences[worst].argmax())
    return {
        "kind": comparison.kind,
        "rows": len(given[labelled]),
        "against": against,
        "label_agreement": label_agreement if numbers else 0.0,
        "max_abs_diff": float(differences[worst].max()),
        "min_cosine": min(float(_cosine(given[name], expected[name]).min()) for name in shared),
        "worst": material.place(comparison, worst, row if fits is None else fits[worst][row]),
    }


def agreement(
    given: NDArray[np.float32],
    expected: NDArray[np.float32],
    same_number: float = _SAME_NUMBER,
    sets: bool = False,
    least_cosine: float | None = None,
) -> float:
    """Share of equal choices, of logits `(rows, items, choices)`, without absent items.

    Args:
        given: Logits of one side.
        expected: Of the other.
        same_number: Share of the numbers' spread by which single numbers, as in regression, may differ and be equal.
        sets: Whether an answer is the set of all choices with a logit above 0, not the highest.
        least_cosine: Of vectors, the cosine from which they are equal.
    """
    if least_cosine is not None:
        return float((_cosine(given, expected) >= least_cosine).mean())
    if sets:
        return float(((given > 0) == (expected > 0)).all(axis=-1).mean())
    if expected.shape[-1] == 1:
        return float((np.abs(given - expected) <= same_number * expected.std()).mean())
    same = given.argmax(axis=-1) == expected.argmax(axis=-1)
    return float(same[~_nothing(expected).all(axis=-1)].mean())


def _same_shape(one: NDArray[np.float32], other: NDArray[np.float32]) -> tuple[NDArray[np.float32], ...]:
    """Logits without the items, or the choices, that padded or longer rows alone have: none of these rows has them."""
    part = tuple(slice(size) for size in np.minimum(one.shape, other.shape))
    return one[part], other[part]


def _log_probabilities(logits: NDArray[np.float32], sets: bool) -> NDArray[np.float32]:
    from scipy.special import log_expit, log_softmax

    with np.errstate(invalid="ignore"):  # an infinite logit contradicts the labels: the difference shows it
        return np.asarray(log_expit(logits) if sets else log_softmax(logits, axis=-1), np.float32)


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
    return cosines(*(np.where(nothing, 0, side) for side in (given, expected)))


def evidence(facts: Mapping[str, Any] | None) -> dict[str, Evidence]:
    """The evidence of the formats' comparisons: on a fixed set of rows, not a sample, so all of it is exact."""
    if facts is None:
        return {}
    found: dict[str, Evidence] = {}
    everything = int(facts["rows"]) + int(facts["edges"])
    for metric, held in PARITY.items():
        formats = [entry for entry in facts["formats"].values() if entry["kind"] in held]
        if not formats:
            continue
        if metric.endswith("label_agreement"):
            least = min(formats, key=lambda entry: entry["label_agreement"])
            found[metric] = Exact(least["label_agreement"], n=least["rows"])
        elif metric.endswith("max_abs_diff"):
            most = max(formats, key=lambda entry: entry["max_abs_diff"])
            found[metric] = Exact(most["max_abs_diff"], n=everything if "float" in held else most["rows"])
        else:
            found[metric] = Exact(min(entry["min_cosine"] for entry in formats), n=everything)
    return found


def no_token_types(checkpoint: Checkpoint) -> str:
    """How exported formats are run without token types, where torch gets no such input."""
    return "all zeros" if "token_type_ids" in input_names(checkpoint.family) else "there is no such input"
