"""Error rates of gates: how often one passes, fails and is inconclusive if the true difference is known.

Latency: a file is compared with a copy of itself, and with one whose graph has extra work that makes it 10 % slower,
calibrated by timing. A repetition does what `compress run --baseline` does: fresh measuring processes that time both
in turn, the ratio with its bounds, the gate. Quality: the right answers of two models are drawn, of which the true
accuracies and the share of rows that only one answers right are known. The candidate is as good as the reference, or
1 point worse, on 872 and on 10,000 rows.

CHECKPOINT is a folder that ships, such as `artifacts/mobile_int8/model`; by default a BERT-mini with random weights in
int8, since neither speed nor statistics depend on the weights. Nothing is downloaded.

    python benchmarks/gate_fidelity.py
    python benchmarks/gate_fidelity.py --only quality    # no timing: on any machine

Brackets hold Wilson's 95 % intervals of the rates. Exits 1 unless a file fails against itself in at most 1 % of the
repetitions with a tolerance of 10 %, and the slower one fails in at least 95 % with one of 5 %, and never passes; and
unless no gate on quality errs in more than 5 % of the draws, as far as their number can tell.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import click
import numpy as np
import slower
from numpy.typing import NDArray
from rich.console import Console
from scipy.stats import binomtest

from compressor.gates.estimate import Evidence
from compressor.gates.judge import judge
from compressor.gates.rows import Rows
from compressor.gates.spec import RegressionGate
from compressor.gates.timings import Timings
from compressor.measure import measurement as measuring
from compressor.measure.client import Client, shares
from compressor.measure.spec import MeasureSpec
from compressor.models.checkpoint import Checkpoint
from compressor.progress import Progress

Floats = NDArray[np.float64]

RUNTIME = "onnxruntime"
SLOWDOWN, TOLERANCES = 0.10, (0.10, 0.05)
ACCURACY, DROP, DROPS = 0.86, 0.01, (0.005, 0.01, 0.02)
"""The reference's accuracy, what the worse candidate loses of it, and the drops that gates allow."""
ROWS = 872, 10_000
DIFFERING = 0.02, 0.05, 0.10
"""Shares of the rows that only one of the two answers right."""
MOST_ERRORS, EDGE = 0.05, 1e-4
SURELY = 0.999
"""Confidence that a rate is too high, of dozens of which many are what they may be."""
PROCESSES = 4
"""Measuring processes of a repetition, as many as a run has."""
CALIBRATION = 4
"""Repetitions that time each candidate for the slower file."""
MOST_FALSE_FAILURES, LEAST_CAUGHT = 0.01, 0.95
SAME, SLOWER = "the same file", f"{SLOWDOWN:.0%} slower"


@dataclass(frozen=True)
class Case:
    """A line of the table.

    Attributes:
        compared: The candidate that is compared with the file.
        rule: The gate's rule and limit.
        truth: The compared quantity, over all repetitions.
        verdicts: Counts of each verdict.
    """

    compared: str
    rule: str
    truth: float
    verdicts: Counter[str]

    def rate(self, verdict: str) -> float:
        """The rate of a verdict."""
        return self.verdicts[verdict] / self.verdicts.total()

    def line(self) -> str:
        """The case in Markdown."""
        cells = [self.compared, self.rule, f"{self.truth:.3f}", str(self.verdicts.total())]
        for verdict in ("pass", "fail", "inconclusive"):
            interval = binomtest(self.verdicts[verdict], self.verdicts.total()).proportion_ci(method="wilson")
            cells.append(f"{self.rate(verdict):.1%} [{interval.low:.1%}, {interval.high:.1%}]")
        return "| " + " | ".join(cells) + " |"


def bert_mini(folder: Path) -> Path:
    """A classifier of BERT-mini's shape with random weights, in dynamic int8."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification
    from transformers.utils import logging

    from compressor.models import quantized
    from compressor.models.quantized import ONNX_FILES, QuantizedFile
    from compressor.quantization import Settings, dynamic_int8
    from compressor.runtimes import onnxruntime

    logging.disable_progress_bar()
    torch.manual_seed(0)
    sizes = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 1024}
    BertForSequenceClassification(BertConfig(**sizes, num_labels=2)).save_pretrained(folder)
    exported = folder / "float.onnx"
    onnxruntime.export(folder, exported)
    entry = QuantizedFile("dynamic_int8", "int8", str(ONNX_FILES["int8"]), True, 8, True, None, ())
    (folder / entry.file).parent.mkdir()
    dynamic_int8.write(exported, folder / entry.file, Settings())
    quantized.write(folder, [entry])
    return folder


@dataclass(frozen=True)
class Timer:
    """Times files as `compress run --baseline` does.

    Attributes:
        file: The file that others are compared with.
        vocab_size: Size of its vocabulary.
        spec: Conditions.
        progress: Shows progress.
    """

    file: Path
    vocab_size: int
    spec: MeasureSpec
    progress: Progress

    def __call__(self, other: Path, repeats: int, what: str) -> Floats:
        """Milliseconds of another file and of the file, in turn, in fresh processes. `(repeats, 2, runs)`."""
        conditions = self.spec.model_dump(include={"threads", "batch_size", "sequence_length", "runs"})
        files = [{"name": str(path), "runtime": RUNTIME, "path": str(path)} for path in (other, self.file)]
        job = {"vocab_size": self.vocab_size, "files": files, **conditions}
        found = []
        with self.progress.step(what, repeats) as step, Client(timing_processes=PROCESSES) as client:
            for done in range(repeats):
                samples = client.latency(job)
                found.append(np.stack([samples[str(path)] for path in (other, self.file)]).astype(np.float64))
                step.update(done + 1)
        return np.stack(found)


def ratio(samples: Floats) -> float:
    """How many times as long the first takes as the second: the median over the repetitions."""
    return float(np.median([Timings(ours, 0.5).ratio(Timings(theirs, 0.5), 0.95).value for ours, theirs in samples]))


def timings(timer: Timer, repeats: int, work: Path) -> dict[str, Floats]:
    """Timings of the file against itself and against a slower one."""
    copy = Path(shutil.copyfile(timer.file, work / "copy.onnx"))  # a file under one path is timed once
    made = work / "slower.onnx"

    def compared(candidate: Path) -> float:
        return ratio(timer(candidate, CALIBRATION, "calibrating the slower file"))

    slower.calibrate(timer.file, made, 1 + SLOWDOWN, compared)
    return {name: timer(path, repeats, f"timing {name}") for name, path in ((SAME, copy), (SLOWER, made))}


def verdict(metric: str, gate: RegressionGate, ours: Evidence, theirs: Evidence) -> str:
    """The verdict of a gate."""
    (result,) = judge(metric, gate, ours, {gate.relative_to: theirs})
    return result.verdict


def latency_cases(timed: Mapping[str, Floats]) -> Iterator[Case]:
    """The verdicts of gates with each tolerance."""
    for compared, samples in timed.items():
        processes = tuple(shares(samples.shape[-1], PROCESSES))
        evidence = [[Timings(entry, 0.5, processes) for entry in repetition] for repetition in samples]
        for limit in (1 + tolerance for tolerance in TOLERANCES):
            gate = RegressionGate(max_ratio=limit)
            verdicts = Counter(verdict("latency_p50_ms", gate, ours, theirs) for ours, theirs in evidence)
            yield Case(compared, f"max_ratio {limit:g}", ratio(samples), verdicts)


def accuracy(right: list[float], counts: NDArray[np.int64]) -> Rows:
    """The accuracy on rows of several kinds, of which each is answered right or is not."""
    hits = np.repeat(right, counts)[:, None]
    return Rows(hits, lambda sums: sums[..., 0] / len(hits), binomial=True)


def quality_cases(draws: int) -> Iterator[Case]:
    """The verdicts of gates on rows that are drawn anew for each."""
    random = np.random.default_rng(0)
    gates = [RegressionGate(max_drop=limit) for limit in DROPS]
    gates += [RegressionGate(min_retention=round(1 - limit / ACCURACY, 5)) for limit in DROPS]
    for rows, differing, drop in product(ROWS, DIFFERING, (0.0, DROP)):
        lost, won = (differing + drop) / 2, (differing - drop) / 2
        shares = [ACCURACY - lost, lost, won, 1 - ACCURACY - won]  # right in both, in theirs, in ours, in neither
        verdicts: list[Counter[str]] = [Counter() for _ in gates]
        for _ in range(draws):
            counts = random.multinomial(rows, shares)
            ours, theirs = (accuracy(right, counts) for right in ([1.0, 0.0, 1.0, 0.0], [1.0, 1.0, 0.0, 0.0]))
            for gate, found in zip(gates, verdicts, strict=True):
                found[verdict("accuracy", gate, ours, theirs)] += 1
        compared = f"{drop * 100:g} points worse, {differing:.0%} of {rows} rows differ"
        for gate, found in zip(gates, verdicts, strict=True):
            ((rule, limit),) = gate.limits.items()
            yield Case(compared, f"{rule} {limit:g}", drop if rule == "max_drop" else 1 - drop / ACCURACY, found)


def erring(cases: Iterable[Case]) -> list[str]:
    """The gates that pass what exceeds their limit, or fail what does not, more often than they may."""
    found = []
    for case in cases:
        rule, limit = case.rule.split()
        spare = float(limit) - case.truth if rule == "max_drop" else case.truth - float(limit)
        for error in ("pass",) * (spare < EDGE) + ("fail",) * (spare > -EDGE):
            interval = binomtest(case.verdicts[error], case.verdicts.total()).proportion_ci(SURELY, method="wilson")
            if interval.low > MOST_ERRORS:
                found.append(f"{case.compared}, {case.rule}: {error} in {case.rate(error):.1%}")
    return found


def missed(cases: Mapping[str, list[Case]]) -> list[str]:
    """The requirements that are not met."""
    same, slow = cases[SAME][0], cases[SLOWER][-1]
    found = []
    if same.rate("fail") > MOST_FALSE_FAILURES:
        found.append(f"a file fails against itself in {same.rate('fail'):.1%}")
    if slow.rate("fail") < LEAST_CAUGHT:
        found.append(f"the slower file fails in {slow.rate('fail'):.1%} only")
    if slow.verdicts["pass"]:
        found.append(f"the slower file passes in {slow.rate('pass'):.1%}")
    return found


def _kept(path: Path | None) -> dict[str, Floats] | None:
    if path is None or not path.is_file():
        return None
    with np.load(path, allow_pickle=False) as kept:
        return {name: kept[name] for name in kept.files}


@click.command()
@click.argument("folder", metavar="[CHECKPOINT]", required=False, type=click.Path(path_type=Path, file_okay=False))
@click.option("--runs", default=200, show_default=True, help="Timed calls of each file in a repetition.")
@click.option("--repeats", default=100, show_default=True, help="Repetitions of each case.")
@click.option("--sequence-length", default=64, show_default=True, help="Tokens of a timed row.")
@click.option("--threads", default=1, show_default=True, help="Of the runtime.")
@click.option("--draws", default=2000, show_default=True, help="Of validation rows, for each case of quality.")
@click.option("--only", type=click.Choice(["latency", "quality"]), help="One of the two parts.")
@click.option("--samples", type=click.Path(path_type=Path), help="Keep the timings in this .npz, or judge those there.")
def main(
    folder: Path | None,
    runs: int,
    repeats: int,
    sequence_length: int,
    threads: int,
    draws: int,
    only: str | None,
    samples: Path | None,
) -> None:
    """Count how often gates pass, fail and are inconclusive if the true difference is known."""
    spec = MeasureSpec(runtime=RUNTIME, threads=threads, sequence_length=sequence_length, runs=runs)
    timed = {} if only == "quality" else _kept(samples) or _timed(folder, spec, repeats)
    if samples is not None and timed:
        np.savez(samples, allow_pickle=False, **timed)
    latency = list(latency_cases(timed))
    quality = [] if only == "latency" else list(quality_cases(draws))
    print("| compared | gate | in truth | n | pass | fail | inconclusive |\n|---|---|---|---|---|---|---|")
    for case in (*latency, *quality):
        print(case.line())
    problems = erring(quality)
    if timed:
        print(f"\n({timed[SAME].shape[-1]} calls of {np.median(timed[SAME]):.2f} ms in a repetition)")
        problems += missed({name: [case for case in latency if case.compared == name] for name in timed})
    if problems:
        sys.exit("missed: " + "; ".join(problems))


def _timed(folder: Path | None, spec: MeasureSpec, repeats: int) -> dict[str, Floats]:
    with tempfile.TemporaryDirectory(prefix="compress-") as temporary, Progress(Console(stderr=True)) as progress:
        work = Path(temporary)
        folder = folder or bert_mini(work / "mini")
        file = measuring.deployed_file(folder, RUNTIME)
        if file is None:
            raise click.BadParameter(f"{folder} has no ONNX file", param_hint="CHECKPOINT")
        config: dict[str, Any] = Checkpoint(folder).config
        return timings(Timer(file, int(config["vocab_size"]), spec, progress), repeats, work)


if __name__ == "__main__":
    main()
