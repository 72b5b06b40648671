"""`compress verify`: checks a published folder, without the training data."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from compressor.commands.options import VERIFY_CODES, device_of, device_python_option, json_option
from compressor.errors import ExitCode, Problem, RecipeError
from compressor.progress import Progress, console, echo

if TYPE_CHECKING:
    from rich.console import Console

    from compressor.gates.judge import StageGate
    from compressor.package.manifest import Check


@click.command(epilog=VERIFY_CODES)
@click.argument("path", metavar="DIR", type=click.Path(path_type=Path))
@click.option(
    "--allowed-signers",
    metavar="FILE",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Demand that one of these signed the manifest: names and public keys, as in ssh-keygen(1), ALLOWED SIGNERS.",
)
@click.option("--identity", metavar="NAME", help="The one of --allowed-signers that has to have signed.")
@click.option(
    "--device",
    "devices",
    multiple=True,
    metavar="DEVICE",
    help="A name: also check what this device of the report answered, and its times against the run's limits; see "
    "`compress serve`. ssh:HOST or command:PREFIX: run there what it can run.",
)
@device_python_option
@json_option
def verify(
    path: Path,
    allowed_signers: Path | None,
    identity: str | None,
    devices: tuple[str, ...],
    device_python: str | None,
    as_json: bool,
) -> ExitCode:
    """Check a published folder, without the training data.

    DIR is a run's folder or its model/. Checks that no file has changed, that all formats still give the recorded
    answers and agree with each other, and that the recorded gates passed. Latency depends on the machine and is not
    checked, but for that of a --device: use `compress bench`. Only verify folders that you trust: loading a TorchScript
    file can run code.

    Whoever changes a file can change its digest, too. A signature finds that: sign with `ssh-keygen -Y sign -f KEY -n
    compressor model/manifest.json`, and demand it with --allowed-signers.

    \b
    Example:
      compress verify artifacts/mobile_int8
      compress verify artifacts/mobile_int8 --device "Pixel 7"
      compress verify artifacts/mobile_int8 --device ssh:pi
    """
    from compressor.measure import device_facts
    from compressor.measure.client import Client
    from compressor.package import verify as verification
    from compressor.package.signature import Signers

    if identity is not None and allowed_signers is None:
        what = "names one of the allowed signers, who are not given"
        raise RecipeError([Problem("--identity", what, "add --allowed-signers FILE", kind="missing")])
    signers = None if allowed_signers is None else Signers(allowed_signers, identity)
    there = [device for device in devices if device.startswith(("ssh:", "command:"))]
    if len(there) > 1:
        raise RecipeError([Problem("--device", "names two devices to run on", "run the command once for each")])
    named = [device for device in devices if device not in there]
    device = device_of(there[0] if there else None, device_python)
    device_facts.of(device)  # one that is not there is no fault of the folder
    with Progress(console(sys.stderr)) as progress, Client(device) as client:
        found = verification.verify(path, client, progress, signers, named)
    if as_json:
        echo(json.dumps(found.to_json(), indent=2))
    else:
        _print(found.checks, found.gates, console(sys.stdout))
    return found.exit_code


def _print(checks: Sequence[Check], gates: Sequence[StageGate], out: Console) -> None:
    """Prints the checks, then the recorded gates."""
    from rich.table import Table
    from rich.text import Text

    from compressor.report.numbers import SIGNS, gate_text
    from compressor.report.terminal import COLOURS

    table = Table(header_style="bold")
    for name in ("verdict", "check", "of", "found"):
        table.add_column(name, no_wrap=name != "found")
    for check in checks:
        verdict = Text(SIGNS[check.verdict], COLOURS[check.verdict])
        # As Text: a file's name may look like markup.
        table.add_row(verdict, check.kind, Text(check.subject), Text(check.message))
    out.print(table)
    for gate in gates:
        sign, style = SIGNS[gate.result.verdict], COLOURS[gate.result.verdict]
        recorded = f"  recorded gate of {gate.stage}: {gate_text(gate.result)}"
        out.print(Text.assemble((f"{sign:>12}", style), recorded))
