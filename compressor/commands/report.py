"""`compress report`: writes a run's reports again from its report.json."""

from __future__ import annotations

from pathlib import Path

import click

from compressor.commands.options import writing
from compressor.progress import echo


@click.command()
@click.argument("path", metavar="RUN", type=click.Path(path_type=Path))
def report(path: Path) -> None:
    """Write report.html, report.md and junit.xml again from a run's report.json.

    RUN is a run's folder or its report.json.

    \b
    Example:
      compress report artifacts/mobile_int8
    """
    from compressor.pipeline import lock
    from compressor.report import files, model

    found = model.read(path)
    folder = model.report_file(path).parent
    with writing(folder):
        files.write(found, folder, lock.text(folder / files.LOCK_FILE))
    echo(f"{folder}: {', '.join(files.FORMS)}: {found.verdict}")
