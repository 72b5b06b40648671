"""SQuAD scores of published predictions, computed by the functions that score question answering.

To print a table of files, each of which maps the ids of a SQuAD file's questions to answers, as the official evaluation
scripts take them:

    python benchmarks/squad_scores.py dev-v1.1.json predictions.json other.json

The numbers have to equal those of the official script for the file: exact match and F1 in percent. A question without a
prediction scores 0.
"""

from __future__ import annotations

import json
from pathlib import Path

import click

from compressor.data import squad
from compressor.errors import CompressError
from compressor.tasks.scoring import spans

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.argument("questions", type=_FILE)
@click.argument("predictions", type=_FILE, nargs=-1, required=True)
def main(questions: Path, predictions: tuple[Path, ...]) -> None:
    """Score PREDICTIONS of the answers to QUESTIONS."""
    try:
        asked = list(squad.read(questions, "QUESTIONS"))
    except CompressError as error:
        raise click.ClickException(str(error)) from None
    print("| predictions | exact match | F1 | questions | without a prediction |\n|---|---|---|---|---|")
    for path in predictions:
        given = json.loads(path.read_text(encoding="utf-8"))
        answered = [(given[question.id], question.answers) for question in asked if question.id in given]
        exact, f1 = (100 * sum(score(*pair) for pair in answered) / len(asked) for score in (spans.exact, spans.f1))
        print(f"| {path.name} | {exact:.3f} | {f1:.3f} | {len(asked)} | {len(asked) - len(answered)} |", flush=True)


if __name__ == "__main__":
    main()
