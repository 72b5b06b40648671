"""Checks that a run can write where it is going to: what stands in its way is found before anything is built."""

from __future__ import annotations

import tempfile
from pathlib import Path

from compressor.errors import Problem, RecipeError
from compressor.report import files

_STORE = (".", ".partial", ".work", ".locks")
"""Folders of the store that a run writes into."""
_HINT = "choose another folder with --artifacts"


def check(artifacts: Path, name: str) -> None:
    """Makes a run's folders where they are missing, and tries to write into them and into the folder of TMPDIR.

    Args:
        artifacts: Folder of the run's folder and of the store.
        name: The recipe's name, which is that of the run's folder.

    Raises:
        RecipeError: Every path that cannot be written to.
    """
    run = artifacts / name
    folders = (artifacts, run, *(artifacts / ".store" / inner for inner in _STORE))
    problems = [Problem("--artifacts", what, _HINT) for folder in folders if (what := _denied(folder))]
    if not problems:
        written = ("run.log", "report.json", files.LOCK_FILE, *files.FORMS)
        found = [run / file for file in written if (run / file).is_dir()]
        problems = [Problem("--artifacts", f"{path} is a folder, and a file is to be there", _HINT) for path in found]
    try:
        tempfile.TemporaryFile().close()
    except OSError as error:
        what = f"there is no folder for temporary files: {error.strerror or error}"
        problems.append(Problem("TMPDIR", what, "set it to a folder that can be written to"))
    if problems:
        raise RecipeError(problems[:1] if problems[0].what.startswith(f"{artifacts} ") else problems)


def _denied(folder: Path) -> str | None:
    """Why a folder cannot be written into; None if it can."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except (OSError, ValueError) as error:  # ValueError: a NUL byte
        what = "is a file" if isinstance(error, FileExistsError) else getattr(error, "strerror", None) or str(error)
        return f"{folder} cannot be written to: {what}"
    return None
