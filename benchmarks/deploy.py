"""Everything that a fine-tuned checkpoint can be deployed as, side by side: how fast, how small, how good?

Makes of one text classifier its TorchScript and ONNX files, our int8 schemes, and what others' tools make of it: plain
`quantize_dynamic`, transformers' own quantizer, OpenVINO with NNCF. Times all in turn in one process, batch 1, one
thread, and scores each on the validation rows. Nothing is downloaded. To print the table:

    python benchmarks/deploy.py CHECKPOINT --data dev.tsv --train train.tsv

"of peak" is what the products with weight matrices would take at the machine's int8 speed, measured in the same rounds,
divided by what the whole call took. "int8" is the share of weight matrices that run as integers. Speed-ups are over the
file that ONNX Runtime's optimizer fused. Files are kept in `--folder` and made anew when what they are made of changes.
OpenVINO is an extra: `pip install openvino nncf`. To see which kernels the time of a file goes to:

    python benchmarks/deploy.py --profile model.onnx --length 64
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
import contenders
import kernels
import numpy as np
from contenders import CONTENDERS, FUSED, Given
from numpy.typing import NDArray
from rich.console import Console

from compressor import fingerprint
from compressor.checkpoint import Checkpoint
from compressor.evidence import Timings
from compressor.measure.rows import LABELS, TokenRows
from compressor.progress import Progress, quiet, stream
from compressor.runtimes import Session
from compressor.store import Store, file_digest

LENGTHS, RUNS, PROFILED_CALLS = (32, 64, 128), 200, 50
FEW_TOKENS = 1000
"""Ids below this are in any vocabulary."""
_WARM_UP_CALLS, _CONFIDENCE = 10, 0.95


@dataclass(frozen=True)
class Speed:
    """One contender at one length.

    Attributes:
        p50_ms: Median latency.
        p95_ms: 95th percentile of the latency.
        speedup: Median of the fused fp32 file / this median.
        speedup_low: Lower bound of that, at 95 %; None after too few runs.
        speedup_high: Upper bound.
        multiply_adds: Of the products with weight matrices in one call.
        peak_share: Their time at the machine's int8 peak / the median.
    """

    p50_ms: float
    p95_ms: float
    speedup: float
    speedup_low: float | None
    speedup_high: float | None
    multiply_adds: int
    peak_share: float


def made(given: Given, names: list[str], progress: Progress) -> tuple[dict[str, Path], dict[str, str]]:
    """The contenders' files, and why some are not there, by name."""
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
            else:
                entry, _ = store.build(key, build)
                keys[name], files[name] = entry.key, entry.path / entry.facts["file"]

    for name in names:
        if name not in files:
            try:
                one(name)
            except (Exception, SystemExit) as error:
                missing[name] = (
                    f"{type(error).__name__}: {error}" if not isinstance(error, contenders.Missing) else str(error)
                )
    return files, missing


def timed(
    sessions: dict[str, Any], length: int, vocab_size: int, runs: int, settle: int, progress: Progress
) -> dict[str, NDArray[np.float64]]:
    """Milliseconds per call of each, timed in turn: in each round every one once, in alternating order."""
    inputs = kernels.full_batch(length, vocab_size)
    for session in sessions.values():
        for _ in range(_WARM_UP_CALLS):
            session.predict(inputs)
    samples: dict[str, list[float]] = {name: [] for name in sessions}
    with progress.step(f"timing at length {length}", runs) as step:
        for run in range(runs):
            for name in sessions if run % 2 == 0 else reversed(sessions):
                for _ in range(settle):
                    sessions[name].predict(inputs)
                start = time.perf_counter()
                sessions[name].predict(inputs)
                samples[name].append((time.perf_counter() - start) * 1e3)
            step.update(run + 1)
    return {name: np.array(values) for name, values in samples.items()}


def accuracy(session: Session, rows: TokenRows, references: NDArray[np.int64]) -> float:
    """Share of rows with the right label, one row in a call."""
    hits = 0
    for index, reference in enumerate(references):
        inputs = rows.batch([index])
        inputs.pop(LABELS)
        hits += int(session.predict(inputs)["logits"].argmax()) == reference
    return hits / len(references)


def multiply_adds(name: str, files: dict[str, Path], length: int) -> int:
    """Of the products with weight matrices in one call, as they are in the graph that runs."""
    graph = files[CONTENDERS[name].arithmetic or name]
    return sum(one.multiply_adds for one in kernels.profile(graph, kernels.full_batch(length, FEW_TOKENS), 1))


def measured(
    given: Given, files: dict[str, Path], names: list[str], runs: int, settle: int, progress: Progress
) -> tuple[dict[str, dict[str, Any]], float]:
    """What the table tells of each contender, and the machine's int8 peak in operations/s."""
    from compressor.runtimes.onnx import quantized_coverage

    rows = TokenRows.load(given.rows / contenders.VALIDATION_ROWS)
    references = np.load(given.rows / contenders.REFERENCES)
    vocab_size = int(Checkpoint(given.checkpoint).config["vocab_size"])
    sessions: dict[str, Any] = {name: contenders.session(CONTENDERS[name], files[name]) for name in names}
    products = {f"peak {shape}": kernels.Int8Product(shape) for shape in kernels.PEAK_SHAPES}
    samples = {
        length: timed(sessions | products, length, vocab_size, runs, settle, progress)
        for length in LENGTHS
        if length <= Checkpoint(given.checkpoint).max_position_embeddings
    }
    peak = max(
        product.operations / (taken[name].min() / 1e3)
        for taken in samples.values()
        for name, product in products.items()
    )
    found = {}
    for name, session in sessions.items():
        speeds = {}
        for length, taken in samples.items():
            mine, work = Timings(taken[name], 0.5), multiply_adds(name, files, length)
            ratio = Timings(taken[FUSED], 0.5).ratio(mine, _CONFIDENCE)
            p50, p95 = np.quantile(taken[name], [0.5, 0.95])
            share = 2 * work / peak / (p50 / 1e3)
            speeds[str(length)] = vars(Speed(p50, p95, ratio.value, ratio.low, ratio.high, work, share))
        with progress.step(f"scoring {name}"):
            found[name] = {
                "title": CONTENDERS[name].title,
                "file": str(files[name]),
                "size_bytes": contenders.size_bytes(files[name]),
                "accuracy": accuracy(session, rows, references),
                "quantized_coverage": quantized_coverage(files[name]) if files[name].suffix == ".onnx" else None,
                "lengths": speeds,
            }
    return found, peak


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
    """Prints what a file's time goes to."""
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
    qat_steps: int,
    only: tuple[str, ...],
    folder: Path,
    output: Path | None,
    profile: tuple[Path, ...],
    length: tuple[int, ...],
) -> None:
    """Compare everything that a fine-tuned text classifier can be deployed as, by one run on one thread."""
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
        inputs |= Checkpoint(model).digest() | {"code": file_digest(Path(contenders.__file__))}
        rows, _ = Store(folder / "files").build(inputs, lambda *to: contenders.prepare(given, *to) or {})
        given = replace(given, rows=rows.path)
        names = [name for name in CONTENDERS if not only or name in (*only, FUSED)]
        files, missing = made(given, names, progress)
        found, peak = measured(given, files, [name for name in names if name in files], runs, settle, progress)
    print(table(found))
    for name, why in missing.items():
        print(f"\nleft out: {name}: {why}")
    print(f"\n({runs} rounds, batch 1, one thread; int8 peak {peak / 1e9:.0f} GOP/s)")
    if output:
        conditions = {"runs": runs, "settle": settle, "int8_peak_gops": peak / 1e9, "missing": missing}
        document = {"environment": fingerprint.environment(), **conditions, "contenders": found}
        output.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
