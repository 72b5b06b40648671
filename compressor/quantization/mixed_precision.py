"""Selects matrices that stay in float, so that quantization costs no more accuracy than a recipe allows."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from compressor.errors import StageError
from compressor.files import write_atomic
from compressor.progress import Step
from compressor.quantization.sensitivity import GraphQuantizer, divergences
from compressor.quantization.weight_matrices import Matrix
from compressor.training.context import Context, Facts

_ROUNDING = 1e-9
"""Rounding error of a difference of two shares."""
_FLOAT = "float"


@dataclass(frozen=True)
class Candidate:
    """A matrix that can stay in float.

    Attributes:
        name: The matrix.
        divergence: What quantizing it alone does to the answers; see `divergences`.
        multiply_adds: Its share of the model's, as if each were done for every token; of a table 0.
        size: Its share of the bytes of all matrices.
    """

    name: str
    divergence: float
    multiply_adds: float
    size: float

    @property
    def price(self) -> float:
        """Divergence per gain: integers make a product faster and smaller, and a table smaller."""
        return self.divergence / (self.multiply_adds + self.size)


def select(
    quantizer: GraphQuantizer, matrices: Sequence[Matrix], max_drop: float, context: Context
) -> tuple[tuple[str, ...], Facts]:
    """The fewest matrices that have to stay in float: tried in order of accuracy lost per speed and size gained.

    Args:
        quantizer: What is quantized.
        matrices: All of its graph.
        max_drop: Most that the task's main metric may lose against the float graph; of vectors, their mean cosine with
            its own.
        context: Training rows for what each matrix loses; the files are tried on some of them.

    Returns:
        Their names, dearest first; and what was found, for the report.

    Raises:
        StageError: Even with all of them in float it loses more.
    """
    order = candidates(quantizer, matrices, divergences(quantizer, _quantized(quantizer, matrices), context))
    names = [candidate.name for candidate in order]
    with context.progress.step("quantize: what has to stay in float") as step:
        score = _Scores(quantizer, names, context, step)
        whole = score.of_float()

        def holds(kept: int) -> bool:
            return whole - score(kept) <= max_drop + _ROUNDING

        count = fewest(holds, len(names))
    if count is None:
        raise StageError(
            f"accuracy.max_drop is {max_drop:g}, but with every matrix in float what {quantizer.spec.how.name} writes "
            f"still scores {score(len(names)):.4f}, the float graph {whole:.4f}; allow more, or choose another scheme"
        )
    facts: Facts = {
        "max_drop": max_drop,
        "float": whole,
        "quantized": score(0),
        "chosen": score(count),
        "kept": count,
        "matrices": [
            {
                "name": candidate.name,
                "divergence": candidate.divergence,
                "multiply_adds": round(candidate.multiply_adds, 6),
                "size": round(candidate.size, 6),
            }
            for candidate in order
        ],
        "tried": [{"kept": kept, "score": value} for kept, value in score.known()],
    }
    return tuple(names[:count]), {"selection": facts}


def _quantized(quantizer: GraphQuantizer, matrices: Sequence[Matrix]) -> list[Matrix]:
    """Those that the settings do not leave in float."""
    settings = quantizer.settings
    return [
        matrix
        for matrix in matrices
        if not settings.stays_float(matrix.name) and (settings.embeddings or not matrix.table)
    ]


def candidates(quantizer: GraphQuantizer, matrices: Sequence[Matrix], divergence: dict[str, float]) -> list[Candidate]:
    """Matrices in the order in which they stay in float."""
    work = {matrix.name: 0 if matrix.table else matrix.elements * len(matrix.nodes) for matrix in matrices}
    size = {matrix.name: matrix.elements for matrix in matrices}
    every, stored = max(1, sum(work.values())), sum(size.values())
    found = [Candidate(name, divergence[name], work[name] / every, size[name] / stored) for name in divergence]
    return sorted(found, key=lambda candidate: (-candidate.price, candidate.name))


def fewest(holds: Callable[[int], bool], most: int) -> int | None:
    """The least count that holds where the one below it does not, by doubling and then bisection.

    Doubling comes first since few are usually enough, and since what is tried there is least apart from what is sought.

    Args:
        holds: Whether a count does.
        most: The largest count.

    Returns:
        The count, which has been tried; None when even the largest does not hold.
    """
    low, high = -1, 0
    while not holds(high):
        if high == most:
            return None
        low, high = high, min(most, max(1, 2 * high))
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


class _Scores:
    """The quality on the rows that choose, by how many matrices stay in float; kept for after a kill.

    Args:
        quantizer: What is quantized.
        names: Matrices in the order in which they stay in float.
        context: Tries files, and has a work folder, which belongs to these very keys of the stage.
        step: Progress, in files.
    """

    def __init__(self, quantizer: GraphQuantizer, names: Sequence[str], context: Context, step: Step) -> None:
        self._quantizer, self._names, self._context, self._step = quantizer, names, context, step
        self._file = context.work / "scores.json"
        self._known: dict[str, float] = {}
        if self._file.is_file():
            self._known = json.loads(self._file.read_text(encoding="utf-8"))

    def __call__(self, kept: int) -> float:
        """With so many in float."""
        if str(kept) not in self._known:
            with tempfile.TemporaryDirectory(dir=self._context.work) as folder:
                target = Path(folder) / "model.onnx"
                self._quantizer.write(target, self._names[:kept])
                self._keep(str(kept), target)
        return self._known[str(kept)]

    def of_float(self) -> float:
        """Of the float graph."""
        if _FLOAT not in self._known:
            self._keep(_FLOAT, self._quantizer.graph)
        return self._known[_FLOAT]

    def known(self) -> list[tuple[int, float]]:
        """The trials, by the number of matrices that stay in float."""
        return sorted((int(kept), value) for kept, value in self._known.items() if kept != _FLOAT)

    def _keep(self, name: str, file: Path) -> None:
        self._known[name] = self._context.trial.quality(self._quantizer.checkpoint, file, self._quantizer.graph)
        write_atomic(self._file, json.dumps(self._known))
        self._step.update(len(self._known))
