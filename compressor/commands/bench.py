"""`compress bench`: times folders and files side by side."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from compressor.commands.options import device_of, device_option, device_python_option, json_option
from compressor.progress import Progress, console, echo

if TYPE_CHECKING:
    from rich.console import Console

    from compressor.measure.bench import Timed


@click.command()
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--threads", type=click.IntRange(min=1), default=1, show_default=True, help="Threads of each runtime.")
@click.option("--batch-size", type=click.IntRange(min=1), default=1, show_default=True, help="Rows per call.")
@click.option("--sequence-length", type=click.IntRange(min=2), default=64, show_default=True, help="Tokens per row.")
@click.option("--runs", type=click.IntRange(min=1), default=200, show_default=True, help="Timed calls of each.")
@device_option
@device_python_option
@json_option
def bench(
    paths: tuple[Path, ...],
    threads: int,
    batch_size: int,
    sequence_length: int,
    runs: int,
    device: str | None,
    device_python: str | None,
    as_json: bool,
) -> None:
    """Time folders, ONNX and TorchScript files side by side, in turn, in fresh processes.

    \b
    Example:
      compress bench artifacts/teacher/model artifacts/mobile_int8/model --sequence-length 64
      compress bench artifacts/mobile_int8/model --device ssh:pi
    """
    from dataclasses import asdict

    from compressor.measure import bench as benching
    from compressor.measure.client import Client

    there = device_of(device, device_python)
    with Progress(console(sys.stderr)) as progress, progress.step("timing", runs) as step, Client(there) as client:
        timed = benching.bench(
            paths,
            threads=threads,
            batch_size=batch_size,
            sequence_length=sequence_length,
            runs=runs,
            client=client,
            step=step,
        )
    if as_json:
        echo(json.dumps([asdict(entry) for entry in timed], indent=2))
    else:
        _print(timed, console(sys.stdout))


def _print(timed: list[Timed], out: Console) -> None:
    """Prints a row for each path; brackets hold one-sided 95 % bounds."""
    from rich.table import Table

    from compressor.report.numbers import bound

    table = Table(header_style="bold")
    for name in ("path", "runtime", "MB", "p50 ms", "p95 ms", "speed-up"):
        table.add_column(name, justify="left" if name in ("path", "runtime") else "right")
    for entry in timed:
        numbers = [
            f"{estimate.value:.2f} [{bound(estimate.low)}, {bound(estimate.high)}]"
            for estimate in (entry.p50, entry.p95, entry.speedup)
        ]
        table.add_row(entry.path, entry.runtime, f"{entry.size_bytes / 1e6:.1f}", *numbers)
    out.print(table)
