"""`compress serve`: measures what ships in the browser of a phone."""

from __future__ import annotations

import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from compressor.errors import Problem, RecipeError
from compressor.progress import echo

if TYPE_CHECKING:
    from compressor.package.manifest import Check


@click.command()
@click.argument("path", metavar="RUN", type=click.Path(path_type=Path))
@click.option("--host", metavar="ADDRESS", help="Address or interface to listen on; by default the default route's.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="Port; 0, the default, takes a free one.")
@click.option(
    "--web",
    metavar="DIR",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path(),
    help="Folder in which npm installed onnxruntime-web; by default this one.",
)
@click.option("--device", metavar="NAME", help="The device's name in the report; left out, the page asks for it.")
@click.option("--runs", type=click.IntRange(1, 10_000), help="Timed calls of each file; by default measure.runs.")
@click.option(
    "--threads",
    type=click.IntRange(1, 64),
    help="Threads, on pages that may have several: of localhost. By default half of the cores, at most 4.",
)
@click.option("--once", is_flag=True, help="End after the first result.")
def serve(
    path: Path,
    host: str | None,
    port: int,
    web: Path,
    device: str | None,
    runs: int | None,
    threads: int | None,
    once: bool,
) -> None:
    """Measure what ships in the browser of a phone.

    RUN is a run's folder. Shows an address and its QR code. The page behind it runs the ONNX files that ship with
    onnxruntime-web, asks the recorded rows again and times them; the result is written to report.json (`devices`) and
    to the reports, and `compress verify --device NAME` gates it. Whoever has the address can load the model, as long as
    this command runs; nothing is sent to any other host. Ctrl-C ends it.

    \b
    Example:
      npm install onnxruntime-web     # once, in any folder; docs/phones.md names the tested version
      compress serve artifacts/mobile_int8 --web .
    """
    from compressor.serve import address, job, result, serving

    if device is not None and re.fullmatch(result.NAME, device) is None:
        allowed = "1 to 60 letters, digits, spaces and . , _ ( ) + -, a letter or digit first"
        raise RecipeError([Problem("--device", f"is {device!r}", allowed)])
    asked = job.prepare(path, runs)
    library = address.library(web)
    at = (address.chosen(host), port)
    # Ctrl-C is how this ends.
    with suppress(KeyboardInterrupt), serving.opened(asked, at, library, _tell, device, threads) as server:
        names = ", ".join(entry.name for entry in asked.files)
        echo(f"{asked.run}: {names}; {len(asked.rows)} rows, {asked.runs} timed calls each")
        echo(f"Open this address on a device in the network of {server.host}; Ctrl-C ends:\n{server.url}")
        _show_code(server.url)
        serving.run(server, once)


def _show_code(url: str) -> None:
    """Draws the address as a QR code on a terminal."""
    from compressor.serve import address

    if not sys.stdout.isatty():
        return
    code = address.qr_code(url)
    if code is None:
        echo(f"For a QR code: {address.INSTALL}")
    else:
        sys.stdout.write(code)
        sys.stdout.flush()


def _tell(checks: list[Check]) -> None:
    from compressor.report.numbers import SIGNS

    for check in checks:
        echo(f"{SIGNS[check.verdict]:>12}  {check.subject}: {check.message}")
