"""Error rates of gates: how often one passes, fails and is inconclusive if the true difference is known.

Latency: a file is compared with a copy of itself, and with one whose graph has extra work that makes it 10 % slower,
calibrated by timing. A repetition does what `compress run --baseline` does: fresh measuring processes that time both
in turn, the ratio with its bounds, the gate. Quality: the file's answers are compared with a copy in which
2 points of the answers were replaced by wrong ones, on rows drawn anew in each repetition; alone, and with further
answers that change in both directions, as between two trainings of one recipe.

CHECKPOINT is a folder that ships, such as `artifacts/mobile_int8/model`; by default a BERT-mini with random weights in
int8, since neither speed nor statistics depend on the weights. Nothing is downloaded.

    python benchmarks/gate_fidelity.py

Brackets hold Wilson's 95 % intervals of the rates. Exits 1 unless a file fails against itself in at most 1 % of the
repetitions with a tolerance of 10 %, and the slower one fails in at least 95 % with one of 5 %, and never passes.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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
from compressor.gates.spec import RegressionGate
from compressor.gates.timings import Timings
from compressor.measure import measurement as measuring
from compressor.measure.client import Client, shares
from compressor.measure.spec import MeasureSpec
from compressor.measure.token_rows import TokenRows
from compressor.models.checkpoint import QUANTIZED_ONNX, Checkpoint
from compressor.progress import Progress
from compressor.tasks import text_classification

Floats = NDArray[np.float64]

RUNTIME, TASK = "onnxruntime", "text-classification"
SLOWDOWN, TOLERANCES = 0.10, (0.10, 0.05)
LOSS, MAX_DROP, ACCURACY = 0.02, 0.01, 0.8
CHURN = 0.04
"""Share of the rows that two equally good trainings of one recipe answer differently."""
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

    from compressor.quantization import Settings, dynamic_int8
    from compressor.runtimes import onnxruntime

    logging.disable_progress_bar()
    torch.manual_seed(0)
    sizes = {"hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 1024}
    BertForSequenceClassification(BertConfig(**sizes, num_labels=2)).save_pretrained(folder)
    exported = folder / "float.onnx"
    onnxruntime.export(folder, exported)
    (folder / QUANTIZED_ONNX).parent.mkdir()
    dynamic_int8.write(exported, folder / QUANTIZED_ONNX, Settings())
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


def quality_cases(answers: NDArray[np.float32], repeats: int) -> Iterator[Case]:
    """The verdicts of a gate on answers `(rows, labels)` and on copies with some of them replaced."""
    random, rows = np.random.default_rng(0), len(answers)
    right, labels = random.random(rows) < ACCURACY, answers.argmax(axis=1)
    references = np.where(right, labels, (labels + 1) % answers.shape[1])
    names = [str(label) for label in range(answers.shape[1])]
    gate, to_and_fro = RegressionGate(max_drop=MAX_DROP), CHURN / 2
    changes = {
        "the same answers": (0.0, 0.0),
        f"{CHURN:.0%} of the answers differ": (to_and_fro, to_and_fro),
        f"{LOSS:.0%} fewer right": (LOSS, 0.0),
        f"{LOSS:.0%} fewer right, {CHURN:.0%} more differ": (LOSS + to_and_fro, to_and_fro),
    }
    for compared, (lost, won) in changes.items():
        exchanged = [random.permutation(np.flatnonzero(which)) for which in (right, ~right)]
        changed = np.concatenate([exchanged[0][: round(lost * rows)], exchanged[1][: round(won * rows)]])
        other = answers.copy()
        other[changed] = np.roll(answers[changed], 1, axis=1)
        verdicts: Counter[str] = Counter()
        for _ in range(repeats):
            drawn = random.integers(0, rows, rows)
            right_labels = {"labels": references[drawn]}
            ours, theirs = (text_classification.score(said[drawn], right_labels, names) for said in (other, answers))
            verdicts[verdict("accuracy", gate, ours["accuracy"], theirs["accuracy"])] += 1
        yield Case(compared, f"max_drop {MAX_DROP:g}", lost - won, verdicts)


def answered(timer: Timer, rows: int, work: Path) -> NDArray[np.float32]:
    """The file's answers to rows of random tokens. `(rows, labels)`."""
    random, longest = np.random.default_rng(0), timer.spec.sequence_length
    lengths = random.integers(3, max(4, longest), rows)
    asked = [{"input_ids": random.integers(1, timer.vocab_size, length).tolist()} for length in lengths]
    TokenRows.of(asked, 0).save(work / "rows.npz")
    with timer.progress.step(f"answering {rows} rows", rows) as step:
        return measuring.answers(timer.file, TASK, work / "rows.npz", timer.spec, step)


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
@click.option("--rows", default=2000, show_default=True, help="Validation rows.")
@click.option("--samples", type=click.Path(path_type=Path), help="Keep the timings in this .npz, or judge those there.")
def main(
    folder: Path | None, runs: int, repeats: int, sequence_length: int, threads: int, rows: int, samples: Path | None
) -> None:
    """Count how often gates pass, fail and are inconclusive if the true difference is known."""
    spec = MeasureSpec(runtime=RUNTIME, threads=threads, sequence_length=sequence_length, runs=runs)
    with tempfile.TemporaryDirectory(prefix="compress-") as temporary, Progress(Console(stderr=True)) as progress:
        work = Path(temporary)
        folder = folder or bert_mini(work / "mini")
        file = measuring.deployed_file(folder, RUNTIME)
        if file is None:
            raise click.BadParameter(f"{folder} has no ONNX file", param_hint="CHECKPOINT")
        config: dict[str, Any] = Checkpoint(folder).config
        timer = Timer(file, int(config["vocab_size"]), spec, progress)
        answers = answered(timer, rows, work)
        timed = _kept(samples) or timings(timer, repeats, work)
    if samples is not None:
        np.savez(samples, allow_pickle=False, **timed)
    latency = list(latency_cases(timed))
    print("| compared | gate | in truth | n | pass | fail | inconclusive |\n|---|---|---|---|---|---|---|")
    for case in (*latency, *quality_cases(answers, repeats)):
        print(case.line(), flush=True)
    shape = timed[SAME]
    print(f"\n({shape.shape[-1]} calls of {np.median(shape):.2f} ms in a repetition; {rows} validation rows)")
    if problems := missed({name: [case for case in latency if case.compared == name] for name in timed}):
        sys.exit("missed: " + "; ".join(problems))


if __name__ == "__main__":
    main()
