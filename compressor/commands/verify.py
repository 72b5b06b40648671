"""`compress verify`: checks a folder that ships, without the training data."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from compressor.commands.options import (
    VERIFY_CODES,
    report_errors,
)

if TYPE_CHECKING:
    from rich.console import Console

    from compressor.gates.judge import StageGate
    from compressor.package.manifest import Check


@click.command(epilog=VERIFY_CODES)
@click.argument("path", metavar="DIR", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of a table.")
@report_errors
def verify(path: Path, as_json: bool) -> None:
    """Check a folder that ships, without the training data.

    DIR is a run's folder or its model/. Checks that every file is what was published, that its formats give the same
    answers as each other and as when they were made, and what its gates said. Latency depends on the machine: for
    that there is `compress bench`.

    \b
    Example:
      compress verify artifacts/mobile_int8
    """
    from rich.console import Console

    from compressor.measure.client import Client
    from compressor.package import verify as verification
    from compressor.progress import Progress

    with Progress(Console(stderr=True)) as progress, Client() as client:
        found = verification.verify(path, client, progress)
    if as_json:
        click.echo(json.dumps(found.to_json(), indent=2))
    else:
        _print_verification(found.checks, found.gates, Console(width=None if sys.stdout.isatty() else 160))
    sys.exit(found.exit_code)


def _print_verification(checks: Sequence[Check], gates: Sequence[StageGate], console: Console) -> None:
    """Prints what `compress verify` looked at, and the gates that it found recorded."""
    from rich.table import Table
    from rich.text import Text

    from compressor.report.numbers import SIGNS, gate_text
    from compressor.report.terminal import COLOURS

    table = Table(header_style="bold")
    for name in ("verdict", "check", "of", "found"):
        table.add_column(name, no_wrap=name != "found")
    for check in checks:
        verdict = Text(SIGNS[check.verdict], COLOURS[check.verdict])
        # As Text: names of files may hold what would be markup.
        table.add_row(verdict, check.kind, Text(check.subject), Text(check.told))
    console.print(table)
    for gate in gates:
        sign, style = SIGNS[gate.result.verdict], COLOURS[gate.result.verdict]
        told = f"  recorded gate of {gate.stage}: {gate_text(gate.result)}"
        console.print(Text.assemble((f"{sign:>12}", style), told))
