"""Size and speed of a student with the shape of DistilBERT, compared with BERT-base.

Makes a BERT-base with random weights (time does not depend on their values), builds the student as `distill` does from
every other layer as a DistilBERT, exports both to ONNX and times them in turn in one fresh process, as `compress run`
does. Nothing is downloaded. To print the table:

    python benchmarks/student_geometry.py

"encoder" counts embeddings and layers: no pooler, no classifier. A speed-up is a ratio of medians of the same rounds,
its bounds are one-sided at 95 %. Exits 1 if the encoder is not 39 % smaller and 1.6 times as fast.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console

from compressor.gates.estimate import Estimate
from compressor.measure import bench
from compressor.progress import Progress

if TYPE_CHECKING:
    from transformers import PreTrainedModel

LEAST_REDUCTION, LEAST_SPEEDUP = 0.39, 1.6
HEADS = ("classifier.", "pre_classifier.", "bert.pooler.")
"""Beginnings of the names of the parameters that are not the encoder's."""

PAPER = (
    "| BERT-base, Sanh et al. 2019 | 110 M | – | – | – | 668 s for STS-B | – |",
    "| DistilBERT, Sanh et al. 2019 | 66 M | 40 % | – | – | 410 s for STS-B | 1.63x |",
)
"""Source: Sanh et al. 2019, "DistilBERT", table 3: time for STS-B's development set on a CPU, batch size 1."""


def teacher_and_student() -> dict[str, PreTrainedModel]:
    """A BERT-base classifier with two labels, and a DistilBERT of every other of its layers."""
    import torch
    from transformers import BertConfig, BertForSequenceClassification

    from compressor.models.surgery.select_layers import chosen_layers, reduce_depth

    torch.manual_seed(0)
    teacher = BertForSequenceClassification(BertConfig(num_labels=2))
    layers = chosen_layers(teacher.config.num_hidden_layers, None, "every_other")
    return {"BERT-base": teacher, "student": reduce_depth(teacher, layers, "distilbert")}


def parameters(model: PreTrainedModel) -> tuple[int, int]:
    """Parameters of the encoder, and with the head."""
    sizes = {name: parameter.numel() for name, parameter in model.named_parameters()}
    return sum(size for name, size in sizes.items() if not name.startswith(HEADS)), sum(sizes.values())


def exported(model: PreTrainedModel, folder: Path) -> Path:
    """The model's ONNX file, in a checkpoint folder of its own."""
    from compressor.runtimes import onnxruntime

    model.save_pretrained(folder)
    path = folder / "onnx" / "model.onnx"
    onnxruntime.export(folder, path)
    return path


def speedup_cell(speedup: Estimate) -> str:
    """A speed-up with its bounds, as far as there are any."""
    if speedup.low is None or speedup.high is None:
        return f"{speedup.value:.2f}x"
    return f"{speedup.value:.2f}x [{speedup.low:.2f}, {speedup.high:.2f}]"


def rows(names: Sequence[str], counts: Sequence[tuple[int, int]], timed: Sequence[bench.Timed]) -> list[str]:
    """A line of the table for each model; the first is what the others are compared with."""
    lines = []
    for name, count, time in zip(names, counts, timed, strict=True):
        encoder, total = (f"{value / 1e6:.2f} M" for value in count)
        fewer, fewer_total, faster = "–", "–", "–"
        if name != names[0]:
            fewer, fewer_total = (
                f"{1e2 * (1 - mine / whole):.1f} %" for mine, whole in zip(count, counts[0], strict=True)
            )
            faster = speedup_cell(time.speedup)
        lines.append(f"| {name} | {encoder} | {fewer} | {total} | {fewer_total} | {time.p50.value:.1f} ms | {faster} |")
    return lines


@click.command()
@click.option("--sequence-length", type=click.IntRange(2, 512), default=128, show_default=True, help="Tokens per row.")
@click.option("--runs", type=click.IntRange(min=1), default=200, show_default=True, help="Timed calls of each.")
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads of the runtime.")
def main(sequence_length: int, runs: int, threads: int) -> None:
    """Compare a BERT-base with its DistilBERT: parameters, and latency at batch 1 in ONNX Runtime."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    with tempfile.TemporaryDirectory(prefix="compress-") as folder, Progress(Console(stderr=True)) as progress:
        with progress.step("building and exporting"):
            models = teacher_and_student()
            counts = [parameters(model) for model in models.values()]
            paths = [exported(model, Path(folder) / name) for name, model in models.items()]
        with progress.step("timing", runs) as step:
            timed = bench.bench(
                paths, threads=threads, batch_size=1, sequence_length=sequence_length, runs=runs, step=step
            )
    print("| model | encoder | fewer | with head | fewer | p50 | speed-up |\n|---|---|---|---|---|---|---|")
    print("\n".join([*rows(list(models), counts, timed), *PAPER]))
    print(f"\n(length {sequence_length}, batch 1, threads: {threads}, {runs} rounds)")
    reduction, speedup = 1 - counts[1][0] / counts[0][0], timed[1].speedup.value
    if reduction < LEAST_REDUCTION or speedup < LEAST_SPEEDUP:
        limits = f"at least {1e2 * LEAST_REDUCTION:.0f} % and {LEAST_SPEEDUP}x"
        sys.exit(f"missed: {1e2 * reduction:.1f} % fewer, {speedup:.2f}x as fast; limits: {limits}")


if __name__ == "__main__":
    main()
