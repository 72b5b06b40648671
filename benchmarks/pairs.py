"""Runs every kind of model, for every task, through every scheme and target: label agreement, file sizes, refusals.

The models are small and have random weights: the results are about files and answers, not about quality. Each pair of a
model and a scheme is a run of a recipe of its own with all targets that `compress validate` does not refuse, on rows
made of the demo's reviews; a parity miss fails the run. Nothing is downloaded. To write docs/pairs.md:

    python benchmarks/pairs.py > docs/pairs.md
    python benchmarks/pairs.py --task text-regression --family BERT    # some of them

Of a family, a task and a scheme, at least `--firsts` are the first of their kind: with 2 each of them is tried beside
the first of the others, with 1 every two meet, with 0 all three.

Exits 1 if a pair that `compress validate` accepts does not run.
"""

from __future__ import annotations

import multiprocessing
import os
import shlex
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import yaml
from fuzz import FewProcesses
from pairs_given import ROWS, save_model, save_rows

import compressor
from compressor.errors import CompressError, RecipeError
from compressor.gates.metrics import EVALUATED_PARITY, PADDED_LABELS, QUANTIZED_PARITY
from compressor.measure import client
from compressor.report.model import Report
from compressor.runtimes import TEXT_RUNTIME
from compressor.tasks import TASKS, multi_label, question_answering, text_classification

FAMILIES = {
    "BERT": ("bert", []),
    "DistilBERT": ("distilbert", []),
    "ALBERT": ("albert", []),
    "RoBERTa": ("roberta", []),
    "ELECTRA": ("electra", []),
    "MPNet": ("mpnet", []),
    "DeBERTa-v3": ("deberta", []),
    "ModernBERT": ("modernbert", []),
    "pruned BERT": ("bert", [{"stage": "prune", "heads": 0.25, "ffn": 0.25, "scope": "global", "epochs": 0}]),
}
"""Kinds of models, with the stages that make them."""
SCHEMES: list[tuple[str, dict[str, Any]]] = [
    ("dynamic_int8", {"scheme": "dynamic_int8"}),
    ("static_int8", {"scheme": "static_int8"}),
    ("qat_int8", {"scheme": "qat_int8", "max_steps": 2}),
    ("weight_only_int8", {"scheme": "weight_only_int8"}),
    ("weight_only_int4", {"scheme": "weight_only_int4"}),
    ("fp16", {"scheme": "fp16"}),
    *((f"{scheme}, neural_compressor", {"scheme": scheme, "backend": "neural_compressor"})
      for scheme in ("static_int8", "weight_only_int8", "weight_only_int4")),
]  # fmt: skip
BAKED = "baked"
TARGETS = ("onnx", "ort", "torchscript", "executorch", "coreml", BAKED)
"""Targets of export, and the file that holds its tokenizer."""
AGREEMENT, AGREEMENT_OF_CLOSE = 0.9, 0.75
"""Least shares of labels that a file of its own integers has to have of torch's, and TorchScript, whose sums have
another order for another length, of its own without padding: with random weights many labels are close. The second
share is for 4 bits, and for answers to questions, which are chosen among all tokens of a row."""


@dataclass(frozen=True)
class Asked:
    """A kind of model, a task and a scheme.

    Attributes:
        family: The kind.
        task: The task.
        scheme: The scheme.
    """

    family: str
    task: str
    scheme: str

    @property
    def name(self) -> str:
        """The recipe's."""
        return f"{self.family}-{self.task}-{self.scheme}".replace(" ", "_").replace(",", "")


def write_recipe(asked: Asked, data: dict[str, Any], targets: Sequence[str], work: Path) -> Path:
    """The file of a recipe with some targets."""
    kind, stages = FAMILIES[asked.family]
    formats = [name for name in targets if name != BAKED] or ["onnx"]
    export: dict[str, Any] = {"stage": "export", "targets": formats, "size_only": True}
    if BAKED in targets:
        export["tokenizer"] = BAKED
    own = {"executorch": QUANTIZED_PARITY, "coreml": EVALUATED_PARITY, "torchscript": PADDED_LABELS}
    close = "int4" in asked.scheme or asked.task == question_answering.NAME
    least = AGREEMENT_OF_CLOSE if close else AGREEMENT
    export["gates"] = {gate: {"min": least} for target, gate in own.items() if target in formats}
    given = {
        "schema_version": 1,
        "name": asked.name,
        "task": text_classification.NAME if asked.task == multi_label.NAME else asked.task,
        "model": f"{kind}-{asked.task}",
        "data": data,
        "measure": {"runs": 60, "sequence_length": 32},
        "stages": [*stages, {"stage": "quantize", **dict(SCHEMES)[asked.scheme]}, export],
    }
    path = work / f"{asked.name}.yaml"
    path.write_text(yaml.safe_dump(given, sort_keys=False), encoding="utf-8")
    return path


def cell(target: str, report: Report) -> str:
    """The result of a target: megabytes, and the share of rows with the same label as its reference."""
    files = {entry.name: entry for entry in report.formats}
    deployed = next((entry for entry in report.formats if entry.name.startswith("onnx_") and not entry.parity), None)
    entry = files[TEXT_RUNTIME.name] if target == BAKED else deployed if target == "onnx" else files[target]
    assert entry is not None, "each scheme has its ONNX file"
    agreement = f", {entry.parity['label_agreement']:.3f}" if entry.parity else ""
    return f"{entry.measurements['size_bytes'].value / 1e6:.2f} MB{agreement}"


@dataclass(frozen=True)
class Pair:
    """What was asked, and the results.

    Attributes:
        asked: The kind of model, the task and the scheme.
        coverage: Share of weight matrices that run as integers.
        cells: The result of each target.
    """

    asked: Asked
    coverage: str
    cells: dict[str, str]


def tried(asked: Asked, data: dict[str, Any], work: Path) -> Pair:
    """Runs a pair with all targets that `compress validate` accepts."""
    cells: dict[str, str] = {}
    for target in TARGETS:
        try:
            compressor.validate(write_recipe(asked, data, [target], work))
        except RecipeError as error:
            cells[target] = "refused: " + "; ".join(f"{problem.what}; {problem.hint}" for problem in error.problems)
    allowed = [target for target in TARGETS if target not in cells]
    if not allowed:
        return Pair(asked, "–", cells)
    try:
        report = compressor.run(write_recipe(asked, data, allowed, work), artifacts=work / "artifacts")
    except CompressError as error:
        return Pair(asked, "–", cells | dict.fromkeys(allowed, f"FAILED: {error}"[:300]))
    failed = [gate for stage in report.stages for gate in stage.gates if gate.verdict == "fail"]
    if failed:
        told = ", ".join(f"{gate.metric} is {gate.observed:.4f}, {gate.rule} {gate.limit:g}" for gate in failed)
        return Pair(asked, "–", cells | dict.fromkeys(allowed, f"FAILED: {told}"))
    coverage = f"{report.stages[-1].measurements['quantized_coverage'].value:.2f}"
    return Pair(asked, coverage, cells | {target: cell(target, report) for target in allowed})


def _measure_here() -> None:
    """Answers come from this process: starting one for each takes longer than these models do, and nothing is timed."""
    client.Client = FewProcesses  # type: ignore[misc]


def pairs(
    work: Path, families: Sequence[str], tasks: Sequence[str], schemes: Sequence[str], firsts: int
) -> Iterator[Pair]:
    """The pairs of some families, tasks and schemes, several at a time, since nothing is timed.

    Args:
        work: Gets models, rows and artifacts.
        families: From `FAMILIES`.
        tasks: From `TASKS`.
        schemes: From `SCHEMES`.
        firsts: Pairs that are asked for have at least so many of the first family, task and scheme.
    """
    data = save_rows(work)
    for kind, task in {(FAMILIES[family][0], task) for family in families for task in tasks}:
        save_model(kind, task, work / f"{kind}-{task}")
    asked = [
        Asked(family, task, scheme)
        for task in tasks
        for family in families
        for scheme in schemes
        if (family == families[0]) + (task == tasks[0]) + (scheme == schemes[0]) >= firsts
    ]
    os.environ["OMP_NUM_THREADS"] = "1"
    with ProcessPoolExecutor(os.cpu_count(), multiprocessing.get_context("spawn"), _measure_here) as pool:
        futures = [pool.submit(tried, pair, data[pair.task], work) for pair in asked]
        for pair, future in zip(asked, futures, strict=True):
            found = future.result()
            click.echo(f"{pair.name}: {' | '.join(found.cells.values())}", err=True)
            yield found


def page(found: Sequence[Pair]) -> Iterator[str]:
    """The lines of the page."""
    reasons: list[str] = []
    yield from (
        "# Every model, task, scheme and target",
        "",
        f"Written by `{shlex.join(['python', 'benchmarks/pairs.py', *sys.argv[1:]])} > docs/pairs.md`:",
        "small models with random weights. Each target",
        f"has the size of its file, and the share of {ROWS} rows with the label of its reference: torch for float",
        "formats and for the files of `executorch` and `coreml`, whose integers are their own; else the quantized",
        "graph. `int` is the share of weight matrices that run as integers.",
    )
    for task in dict.fromkeys(pair.asked.task for pair in found):
        yield from ("", f"## {task}", "", "| model | scheme | int | " + " | ".join(TARGETS) + " |")
        yield "|---" * (3 + len(TARGETS)) + "|"
        for pair in found:
            if pair.asked.task != task:
                continue
            shown = []
            for target in TARGETS:
                text = pair.cells[target]
                if text.startswith("refused: "):
                    if text not in reasons:
                        reasons.append(text)
                    text = f"refused [{reasons.index(text) + 1}]"
                shown.append(text.replace("|", "/").replace("\n", " "))
            yield f"| {pair.asked.family} | {pair.asked.scheme} | {pair.coverage} | " + " | ".join(shown) + " |"
    if reasons:
        yield from ("", "Messages of `compress validate` for pairs that it refuses:", "")
        yield from (f"{index}. {text.removeprefix('refused: ')}" for index, text in enumerate(reasons, 1))


@click.command()
@click.option("--family", "families", type=click.Choice(list(FAMILIES)), multiple=True, default=list(FAMILIES))
@click.option("--task", "tasks", type=click.Choice(list(TASKS)), multiple=True, default=list(TASKS))
@click.option("--scheme", "schemes", type=click.Choice(list(dict(SCHEMES))), multiple=True, default=list(dict(SCHEMES)))
@click.option("--firsts", type=click.IntRange(0, 2), default=1, show_default=True, help="Firsts of their kind in each.")
def main(families: tuple[str, ...], tasks: tuple[str, ...], schemes: tuple[str, ...], firsts: int) -> None:
    """Runs the pairs and prints the page."""
    with tempfile.TemporaryDirectory() as work:
        found = list(pairs(Path(work), families, tasks, schemes, firsts))
    click.echo("\n".join(page(found)))
    sys.exit(any(text.startswith("FAILED") for pair in found for text in pair.cells.values()))


if __name__ == "__main__":
    main()
