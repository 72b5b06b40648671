"""`compress inspect`: parameters, bytes and operators of a folder or file."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import click

from compressor.commands.options import json_option
from compressor.progress import console, echo

if TYPE_CHECKING:
    from rich.console import Console

    from compressor.runtimes.inspection import Inspection


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@json_option
def inspect(path: Path, as_json: bool) -> None:
    """Show the contents of a folder or file: parameters stored and as called, bytes by part and type, operators.

    \b
    Example:
      compress inspect artifacts/mobile_int8/model
    """
    from compressor.package import inspection

    found = inspection.inspect(path)
    if as_json:
        echo(json.dumps([entry.to_json() for entry in found], indent=2))
    else:
        _print(found, console(sys.stdout))


def _print(found: list[Inspection], out: Console) -> None:
    """Prints a table for each file, and its operators below."""
    from rich.table import Table

    for entry in found:
        table = Table(title=f"{entry.path}  {entry.size_bytes / 1e6:.2f} MB", title_justify="left", header_style="bold")
        for name in ("part", "parameters", "as called", "MB", "types"):
            table.add_column(name, justify="left" if name in ("part", "types") else "right")
        for part, sums in entry.by_part().items():
            types = {weight.type for weight in entry.weights if weight.part == part}
            table.add_row(part, *_counts(sums), ", ".join(sorted(types)))
        everything = {"parameters": entry.stored, "called": entry.called}
        size = sum(weight.size_bytes for weight in entry.weights)
        coverage = entry.quantized_coverage
        integers = "" if coverage is None else f"{coverage:.0%} of the matrices run as integers"
        table.add_section()
        table.add_row("all", *_counts({**everything, "size_bytes": size}), integers)
        out.print(table)
        if entry.operators:
            out.print(f"operators: {_listed(entry.operators)}")
        if entry.saturation:
            products, processors = _listed(entry.saturation["operators"]), entry.saturation["processors"]
            largest = entry.saturation["largest_weight"]
            out.print(f"saturates on {processors}: {products} with weights up to {largest}, exact up to 64")


def _listed(operators: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in operators.items())


def _counts(sums: Mapping[str, int]) -> tuple[str, str, str]:
    return f"{sums['parameters']:,}", f"{sums['called']:,}", f"{sums['size_bytes'] / 1e6:.2f}"
