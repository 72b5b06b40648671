"""`compress gc`: deletes what no run needs."""

from __future__ import annotations

import json
from pathlib import Path

import click

from compressor.commands.options import artifacts_option, json_option
from compressor.progress import echo


@click.command()
@artifacts_option
@click.option("--older-than", metavar="DAYS", type=click.FloatRange(min=0), help="Also what was not used for so long.")
@click.option("--dry-run", is_flag=True, help="List it, and delete nothing.")
@json_option
def gc(artifacts: Path, older_than: float | None, dry_run: bool, as_json: bool) -> None:
    """Delete artifacts of the store that no run's folder needs, and unfinished builds.

    What a running process builds or uses stays, and so do the training checkpoints of a run that was stopped. Whatever
    is deleted is built again when it is needed.

    \b
    Example:
      compress gc --older-than 30 --dry-run
    """
    from compressor.errors import Problem, RecipeError
    from compressor.pipeline import garbage

    if not artifacts.is_dir():
        raise RecipeError([Problem(str(artifacts), "is not there", "name it with --artifacts", kind="not_found")])
    found = garbage.find(artifacts, older_than)
    gone = [entry for entry in found if dry_run or garbage.delete(artifacts, entry)]
    if not dry_run:
        garbage.delete_locks(artifacts)
    freed = sum(entry.size_bytes for entry in gone)
    if as_json:
        listed = [{"path": str(e.path), "what": e.what, "why": e.why, "size_bytes": e.size_bytes} for e in gone]
        echo(json.dumps({"dry_run": dry_run, "freed_bytes": freed, "deleted": listed}, indent=2))
        return
    for entry in gone:
        echo(f"{entry.size_bytes / 1e6:>10.2f} MB  {entry.what}: {entry.why}  {entry.path}")
    held = f"; {len(found) - len(gone)} are in use and stay" if len(gone) < len(found) else ""
    echo(f"{'would free' if dry_run else 'freed'} {freed:,} bytes in {len(gone)} folders{held}")
