"""How often each bound of a gate holds: simulated rows, groups of rows and processes whose truth is known.

Each line is one setting: the shares of simulated measurements in which the lower and the upper 95 % bound lie on the
right side of the truth, and in which a gate whose limit is the truth fails or passes wrongly.

    python benchmarks/bounds.py [--trials 2000] [--only WORD]
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from compressor.gates.estimate import Estimate
from compressor.gates.exact import Spread
from compressor.gates.rows import Rows
from compressor.gates.timings import Timings
from compressor.tasks import text_classification

CONFIDENCE = 0.95
Random = np.random.Generator


@dataclass(frozen=True)
class Setting:
    """A kind of measurement whose truth is known.

    Attributes:
        name: What is measured, and how the numbers come about.
        truth: The quantity that the bounds are about.
        draw: One simulated measurement, estimated.
        cost: Trials per trial that is asked for; below 1 for slow ones.
    """

    name: str
    truth: float
    draw: Callable[[Random], Estimate]
    cost: float = 1.0


def accuracy(hits: NDArray[np.bool_], groups: NDArray[np.int64] | None = None) -> Rows:
    """The share of hits."""
    n = len(hits)
    return Rows(hits.astype(np.float64)[:, None], lambda sums: sums[..., 0] / n, binomial=True, groups=groups)


def grouped(random: Random, share: float, groups: int, size: int, likeness: float) -> NDArray[np.bool_]:
    """Events in groups: beta-binomial with this share, and this correlation of two rows of one group."""
    if likeness == 0:
        return random.random(groups * size) < share
    scale = (1 - likeness) / likeness
    rates = random.beta(share * scale, (1 - share) * scale, groups)
    return random.random((groups, size)).ravel() < np.repeat(rates, size)


def shares() -> Iterator[Setting]:
    """Accuracy, its drop and its retention, of independent rows and of rows in groups."""
    for n, share in ((100, 0.9), (872, 0.86), (2000, 0.98)):
        yield Setting(
            f"accuracy {share}, {n} rows", share, lambda r, n=n, p=share: accuracy(r.random(n) < p).estimate(CONFIDENCE)
        )
    for groups, size, likeness in ((60, 5, 0.3), (300, 5, 0.3), (2000, 5, 0.1)):
        yield Setting(
            f"accuracy 0.85, {groups} groups of {size} rows, correlation {likeness}",
            0.85,
            lambda r, g=groups, s=size, k=likeness: accuracy(
                grouped(r, 0.85, g, s, k), np.repeat(np.arange(g), s)
            ).estimate(CONFIDENCE),
        )
    for n, lost, won in (
        (100, 0.01, 0.0),
        (100, 0.02, 0.01),
        (400, 0.06, 0.03),
        (872, 0.02, 0.01),
        (2000, 0.001, 0.001),
        (10_000, 0.02, 0.01),
    ):
        for kind in ("drop", "retention"):
            yield _paired(kind, n, 1, 0.0, lost, won)
    for groups, size, likeness in ((60, 5, 0.3), (300, 5, 0.3), (2000, 5, 0.1)):
        for kind in ("drop", "retention"):
            yield _paired(kind, groups, size, likeness, 0.05, 0.02)
    yield _paired("drop", 300, 5, 0.3, 0.004, 0.002)


def _paired(kind: str, groups: int, size: int, likeness: float, lost: float, won: float) -> Setting:
    right = 0.85
    identity = np.repeat(np.arange(groups), size) if size > 1 else None

    def draw(random: Random) -> Estimate:
        theirs = grouped(random, right, groups, size, likeness)
        flips = (
            grouped(random, lost / right, groups, size, likeness),
            grouped(random, won / (1 - right), groups, size, likeness),
        )
        mine = np.where(theirs, ~flips[0], flips[1])
        ours, reference = accuracy(mine, identity), accuracy(theirs, identity)
        return ours.drop(reference, CONFIDENCE) if kind == "drop" else ours.ratio(reference, CONFIDENCE)

    rows = f"{groups} rows" if size == 1 else f"{groups} groups of {size} rows, correlation {likeness}"
    truth = lost - won if kind == "drop" else (right - lost + won) / right
    return Setting(f"{kind}, {rows}, {lost:.1%} lost, {won:.1%} won", truth, draw)


def formulas() -> Iterator[Setting]:
    """Macro F1 and Matthews correlation, and their drops, by the bootstrap."""
    for n, count, noise in ((400, 3, 0.2), (2000, 3, 0.2), (1000, 20, 0.2)):
        matrix = np.full((count, count), noise / count) + np.eye(count) * (1 - noise)
        truth = _scored(np.random.default_rng(1), 2_000_000, matrix)
        for metric in ("f1", "matthews_correlation"):
            yield Setting(
                f"{metric}, {count} labels, {n} rows",
                truth[metric].value,
                lambda r, n=n, m=metric, k=matrix: _scored(r, n, k)[m].estimate(CONFIDENCE),
                cost=0.25,
            )
    for n in (400, 2000):
        yield Setting(f"drop of f1, 3 labels, {n} rows, 3 % differ", 0.0, lambda r, n=n: _f1_drop(r, n), cost=0.25)


def _scored(random: Random, n: int, matrix: NDArray[np.float64]) -> dict[str, Rows]:
    right = random.integers(len(matrix), size=n)
    return text_classification.score(_said(random, right, matrix), {"labels": right}, [])


def _said(random: Random, right: NDArray[np.int64], matrix: NDArray[np.float64]) -> NDArray[np.float32]:
    said = (random.random(len(right))[:, None] > matrix[right].cumsum(axis=1)).sum(axis=1)
    return np.eye(len(matrix), dtype=np.float32)[np.minimum(said, len(matrix) - 1)]


def _f1_drop(random: Random, n: int) -> Estimate:
    """A tenth of the rows are answered anew, as well as before."""
    matrix = np.full((3, 3), 0.2 / 3) + np.eye(3) * 0.8
    right = random.integers(3, size=n)
    theirs = _said(random, right, matrix)
    mine = np.where(random.random(n)[:, None] < 0.1, _said(random, right, matrix), theirs)
    scores = [text_classification.score(answers, {"labels": right}, [])["f1"] for answers in (mine, theirs)]
    return scores[0].drop(scores[1], CONFIDENCE)


def latencies() -> Iterator[Setting]:
    """Speed-ups and times of calls that are spread over processes, each with an effect of its own."""
    for processes, rounds, effect in ((4, 50, 0.0), (4, 50, 0.006), (4, 50, 0.02), (4, 15, 0.006), (1, 200, 0.006)):
        yield Setting(
            f"speed-up, {processes} processes of {rounds} rounds, each {effect:.1%} off",
            2.0,
            lambda r, p=processes, n=rounds, e=effect: _speedup(r, p, n, e),
        )
        yield Setting(
            f"p50, {processes} processes of {rounds} rounds, each {effect:.1%} off",
            1.0,
            lambda r, p=processes, n=rounds, e=effect: _timed(r, p, n, e, 0.5).estimate(CONFIDENCE),
        )
    yield Setting(
        "p95, 4 processes of 50 rounds, each 0.6% off",
        float(np.exp(np.hypot(0.03, 0.006) * 1.6448536)),
        lambda r: _timed(r, 4, 50, 0.006, 0.95).estimate(CONFIDENCE),
    )
    yield Setting(
        "peak memory, 3 processes", 100.0, lambda r: Spread(tuple(r.normal(100, 0.5, 3))).estimate(CONFIDENCE)
    )
    yield Setting(
        "ratio of peak memory, 3 processes each",
        0.5,
        lambda r: Spread(tuple(r.normal(50, 0.5, 3))).ratio(Spread(tuple(r.normal(100, 0.5, 3))), CONFIDENCE),
    )


def _timed(random: Random, processes: int, rounds: int, effect: float, quantile: float) -> Timings:
    own = np.repeat(random.normal(0, effect, processes), rounds)
    return Timings(np.exp(own + random.normal(0, 0.03, len(own))), quantile, (rounds,) * processes)


def _speedup(random: Random, processes: int, rounds: int, effect: float) -> Estimate:
    load = np.exp(random.normal(0, 0.05, processes * rounds))
    slow, fast = (_timed(random, processes, rounds, effect / 2**0.5, 0.5) for _ in range(2))
    mine, theirs = (
        Timings(timing.samples * load * scale, 0.5, timing.processes) for timing, scale in ((fast, 1.0), (slow, 2.0))
    )
    return theirs.ratio(mine, CONFIDENCE)


def covered(setting: Setting, trials: int) -> tuple[int, float, float]:
    """Trials, and the shares of them whose lower and upper bound hold."""
    count = max(1, round(trials * setting.cost))
    random = np.random.default_rng(0)
    low, high = 0, 0
    for _ in range(count):
        bounds = setting.draw(random)
        low += bounds.low is None or bounds.low <= setting.truth + 1e-12
        high += bounds.high is None or bounds.high >= setting.truth - 1e-12
    return count, low / count, high / count


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=2000)
    parser.add_argument("--only", default="")
    arguments = parser.parse_args()
    print(f"{'lower':>7} {'upper':>7} {'trials':>7}  setting")
    for setting in (*shares(), *formulas(), *latencies()):
        if arguments.only in setting.name:
            trials, low, high = covered(setting, arguments.trials)
            print(f"{low:7.1%} {high:7.1%} {trials:7}  {setting.name}", flush=True)


if __name__ == "__main__":
    main()
