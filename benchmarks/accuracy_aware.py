"""Accuracy-aware quantization on a model that plain int8 breaks.

Makes a second version of a checkpoint that gives the same answers in float: in each layer one channel of the
attention's values is multiplied by 2^14, and the weights that read it are divided by 2^14. Activations are quantized
with one scale for each tensor, so that all other channels round to zero. Both versions are quantized without and with a
limit on the drop of accuracy, each by `compress run` on a recipe of its own. Nothing is downloaded.

    python benchmarks/accuracy_aware.py CHECKPOINT --data dev.tsv --train train.tsv

Accuracy is that of the file that ships, on the rows of --data. Rows of --train rank the matrices that may stay in
float, and rows of --data decide how many of them do.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import click
import runs
import torch

from compressor.models import loading
from compressor.models.convert import from_parts, to_parts

FACTOR = 2.0**14
"""A power of two: multiplying by it is exact."""
VERSIONS = ("as given", "with outliers")


def with_outliers(source: Path, folder: Path) -> Path:
    """The same model in float, with one large channel in the values of every layer."""
    whole = to_parts(loading.load_model(source))
    with torch.no_grad():
        for block in whole.attentions:
            block["value.weight"][0] *= FACTOR
            block["value.bias"][0] *= FACTOR
            block["attention_output.weight"][:, 0] /= FACTOR
    loading.save(folder, from_parts(whole), loading.load_tokenizer(source))
    return folder


def recipe(name: str, model: Path, data: dict[str, Any], scheme: str, max_drop: float | None) -> dict[str, Any]:
    """A recipe that quantizes a checkpoint and does nothing else."""
    limit = {} if max_drop is None else {"accuracy": {"max_drop": max_drop}}
    open_gates = {"gates": {"quantized_coverage": {"min": 0.0}}}
    return {
        "schema_version": 1,
        "name": name,
        "task": "text-classification",
        "model": str(model.resolve()),
        "data": data,
        "measure": {"sequence_length": 32, "runs": 60},
        "stages": [{"stage": "quantize", "scheme": scheme, **limit, **open_gates}],
    }


@click.command()
@click.argument("model", type=click.Path(exists=True, path_type=Path))
@click.option("--data", "rows", required=True, type=click.Path(exists=True, path_type=Path), help="Held-out rows.")
@click.option("--train", required=True, type=click.Path(exists=True, path_type=Path), help="Training rows.")
@click.option("--text", default="sentence", show_default=True, help="Column with the text.")
@click.option("--label", default="label", show_default=True, help="Column with the label.")
@click.option("--scheme", default="dynamic_int8", show_default=True, help="As in a recipe.")
@click.option("--max-drop", default=0.005, show_default=True, help="Most that accuracy may lose.")
@click.option("--artifacts", type=click.Path(path_type=Path), help="Keep what the runs leave here, to go on from.")
def main(
    model: Path, rows: Path, train: Path, text: str, label: str, scheme: str, max_drop: float, artifacts: Path | None
) -> None:
    """Print the accuracy of CHECKPOINT in float, quantized, and quantized within a limit, with outliers and without."""
    data = {"train": str(train.resolve()), "validation": str(rows.resolve()), "text": text, "label": label}
    kept = []
    print("| checkpoint | | accuracy | MB | matrices in float |")
    print("|---|---|---|---|---|")
    with tempfile.TemporaryDirectory(prefix="compress-") as temporary:
        folder, store = Path(temporary), artifacts or Path(temporary) / "artifacts"
        sources = (model, with_outliers(model, folder / "outliers"))
        for version, source in zip(VERSIONS, sources, strict=True):
            name = version.replace(" ", "_")
            _, plain = runs.run(recipe(f"{name}_plain", source, data, scheme, None), folder, store)
            _, aware = runs.run(recipe(f"{name}_aware", source, data, scheme, max_drop), folder, store)
            told = aware.stages[-1].details["selection"]
            for what, stage, count in (
                ("float", plain.stages[0], "all"),
                (scheme, plain.stages[-1], "none"),
                (f"{scheme}, max_drop: {max_drop:g}", aware.stages[-1], f"{told['kept']} of {len(told['matrices'])}"),
            ):
                found = stage.measurements
                accuracy, size = found["accuracy"].value, found["size_bytes"].value / 1e6
                print(f"| {version} | {what} | {accuracy:.4f} | {size:.1f} | {count} |", flush=True)
            kept += [(version, matrix) for matrix in told["matrices"][: told["kept"]]]
    print("\n| checkpoint | stays in float | divergence if quantized alone, nats | multiply-adds |")
    print("|---|---|---|---|")
    for version, matrix in kept:
        print(f"| {version} | {matrix['name']} | {matrix['divergence']:.2e} | {matrix['multiply_adds']:.1%} |")


if __name__ == "__main__":
    main()
