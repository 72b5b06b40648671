"""`compress doctor`: shows versions, CPU features, and the missing libraries of each extra."""

from __future__ import annotations

import click

from compressor.progress import echo


@click.command()
def doctor() -> None:
    """Show versions, CPU features and threads, and the missing libraries of each extra.

    \b
    Example:
      compress doctor
    """
    from compressor.host import DISTRIBUTION, environment, missing_libraries

    for name, value in environment().items():
        echo(f"{name:<16} {value}")
    for extra, absent in sorted(missing_libraries().items()):
        what = f"extra {extra!r}" if extra else "installation"
        hint = f"missing {', '.join(absent)}: pip install '{DISTRIBUTION}[{extra}]'" if absent else "complete"
        echo(f"{what:<16} {hint}")
