"""Compares the deployment formats of a fine-tuned checkpoint: latency, size and quality.

Makes TorchScript, ONNX, ExecuTorch and int8 files of one text classifier, and files of other tools: plain
`quantize_dynamic` of ONNX Runtime and of torch, transformers' own quantizer, OpenVINO with NNCF. Times all in turn in
one process, batch 1, one thread, and scores each on the validation rows. Nothing is downloaded. To print the table:

    python benchmarks/deploy.py CHECKPOINT --data dev.tsv --train train.tsv

"of peak" is the time that the products with weight matrices would take at the machine's int8 speed, measured in the
same rounds, divided by the time of the whole call. "int8" is the share of weight matrices that run as integers.
Speed-ups are relative to the file that ONNX Runtime's optimizer fused. Files are kept in `--folder`, and made again if
their inputs change. OpenVINO is an extra: `pip install openvino nncf`. On a busy machine, `--clock cpu` counts the
process's own time alone. To list the time of each kernel of a file:

    python benchmarks/deploy.py --profile model.onnx --length 64
"""

from __future__ import annotations

import inspect
import json
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
import contenders
import kernels
import peers
import side_by_side
from contenders import CONTENDERS, FUSED
from given import Given, prepare
from kernels import FEW_TOKENS
from rich.console import Console
from side_by_side import CLOCKS, LENGTHS

from compressor.files import file_digest
from compressor.host import machine
from compressor.models.checkpoint import Checkpoint
from compressor.pipeline.log_capture import quiet, stream
from compressor.pipeline.store import Store
from compressor.progress import Progress

RUNS, PROFILED_CALLS = 200, 50


def made(given: Given, names: list[str], progress: Progress) -> tuple[dict[str, Path], dict[str, str]]:
    """The contenders' files, and the reasons why others are missing, by name."""
    store, files, missing, keys = Store(given.folder / "files"), {}, {}, {}

    def one(name: str) -> None:
        contender = CONTENDERS[name]
        source = contender.source
        if source and source not in files:
            one(source)
        if contender.make is None:
            files[name] = given.checkpoint
            return

        def build(output: Path, _: Path) -> dict[str, Any]:
            # A fresh process for each: what its libraries change in torch ends with it.
            with ProcessPoolExecutor(1, get_context("spawn")) as pool:
                path = pool.submit(contenders.make, name, given, output, files[source] if source else None).result()
            return {"file": str(path.relative_to(output)) if path.is_relative_to(output) else str(path)}

        key = contenders.key(given, contender, keys.get(source))
        with progress.step(f"making {name}"):
            if contenders.is_cached_by_itself(contender):
                scratch = given.folder / "recipes"
                scratch.mkdir(parents=True, exist_ok=True)
                files[name] = Path(build(scratch, scratch)["file"])
                keys[name] = file_digest(files[name])
            else:
                entry, _ = store.build(key, build)
                keys[name], files[name] = entry.key, entry.path / entry.facts["file"]

    for name in names:
        if name not in files:
            try:
                one(name)
            except peers.Missing as error:
                missing[name] = str(error)
            except (Exception, SystemExit) as error:  # whatever a library raises, the other lines are of use
                missing[name] = f"{type(error).__name__}: {error}; more in {given.folder / contenders.LOG}"
    return files, missing


def table(found: dict[str, dict[str, Any]]) -> str:
    """The measurements as a Markdown table."""
    lengths = list(next(iter(found.values()))["lengths"])
    heads = ["", "MB", "accuracy", "int8"]
    heads += [cell for length in lengths for cell in (f"{length}: p50 / p95 ms", "speed-up", "of peak")]
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    for entry in found.values():
        coverage = entry["quantized_coverage"]
        cells = [entry["title"], f"{entry['size_bytes'] / 1e6:.1f}", f"{entry['accuracy']:.4f}"]
        cells.append("–" if coverage is None else f"{coverage:.0%}")
        for speed in entry["lengths"].values():
            cells.append(f"{speed['p50_ms']:.2f} / {speed['p95_ms']:.2f}")
            cells += [f"{speed['speedup']:.2f}x", f"{speed['peak_share']:.0%}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def show_kernels(path: Path, length: int, calls: int) -> None:
    """Prints the time of each kernel of a file."""
    inputs = kernels.full_batch(length, FEW_TOKENS)
    nodes = kernels.profile(path, inputs, calls)
    total = sum(node.microseconds for node in nodes)
    print(f"{path}, length {length}: {total:.0f} us in {len(nodes)} kernels\n")
    print("| kernel | count | us | share | GOP/s |\n|---|---|---|---|---|")
    for operator, group in kernels.by_operator(nodes).items():
        microseconds, work = sum(node.microseconds for node in group), sum(node.multiply_adds for node in group)
        rate = f"{2 * work / microseconds / 1e3:.0f}" if work else "–"
        print(f"| {operator} | {len(group)} | {microseconds:.0f} | {microseconds / total:.0%} | {rate} |")
    print()


@click.command()
@click.argument("model", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--data", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Validation rows.")
@click.option("--train", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Training rows.")
@click.option("--text", default="sentence", show_default=True, help="Column with the text.")
@click.option("--label", default="label", show_default=True, help="Column with the label.")
@click.option("--runs", type=click.IntRange(min=1), default=RUNS, show_default=True, help="Timed rounds.")
@click.option("--settle", type=click.IntRange(min=0), default=1, show_default=True, help="Untimed calls before each.")
@click.option("--clock", type=click.Choice(list(CLOCKS)), default="wall", show_default=True, help="Of calls.")
@click.option("--qat-steps", type=click.IntRange(min=1), default=500, show_default=True, help="Of qat_int8's training.")
@click.option("--only", type=click.Choice(list(CONTENDERS)), multiple=True, help="Only these, and what they need.")
@click.option("--folder", type=click.Path(path_type=Path), default=Path("artifacts/deploy"), show_default=True)
@click.option("--json", "output", type=click.Path(path_type=Path), help="Write the measurements here too.")
@click.option("--profile", type=click.Path(exists=True, path_type=Path), multiple=True, help="Show an .onnx's kernels.")
@click.option("--length", type=click.IntRange(min=2), multiple=True, default=LENGTHS, help="Tokens, for --profile.")
def main(
    model: Path | None,
    data: Path | None,
    train: Path | None,
    text: str,
    label: str,
    runs: int,
    settle: int,
    clock: str,
    qat_steps: int,
    only: tuple[str, ...],
    folder: Path,
    output: Path | None,
    profile: tuple[Path, ...],
    length: tuple[int, ...],
) -> None:
    """Compare the deployment formats of a fine-tuned text classifier, in one run on one thread."""
    for path in profile:
        for tokens in length:
            show_kernels(path, tokens, PROFILED_CALLS)
    if profile:
        return
    if model is None or data is None or train is None:
        raise click.UsageError("give a checkpoint folder, --data and --train; or --profile FILE.onnx")
    model, data, train, folder = (path.resolve() for path in (model, data, train, folder))
    given = Given(model, train, data, text, label, qat_steps, folder, Path())
    console = Console(file=stream(sys.stderr))
    with quiet(folder / contenders.LOG), Progress(console) as progress:
        inputs = {"train": file_digest(train), "data": file_digest(data), "text": text, "label": label}
        inputs |= Checkpoint(model).digest() | {"code": inspect.getsource(prepare)}
        rows, _ = Store(folder / "files").build(inputs, lambda *to: prepare(given, *to) or {})
        given = replace(given, rows=rows.path)
        names = [name for name in CONTENDERS if not only or name in (*only, FUSED)]
        files, missing = made(given, names, progress)
        there = [name for name in names if name in files]
        found, peak = side_by_side.measured(given, files, there, side_by_side.Conditions(runs, settle, clock), progress)
    print(table(found))
    for name, why in missing.items():
        print(f"\nleft out: {name}: {why}")
    print(f"\n({runs} rounds, batch 1, one thread, {clock} clock; int8 peak {peak / 1e9:.0f} GOP/s)")
    if output:
        conditions = {"runs": runs, "settle": settle, "clock": clock, "int8_peak_gops": peak / 1e9, "missing": missing}
        document = {"environment": machine.environment(), **conditions, "contenders": found}
        output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
