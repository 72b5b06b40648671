"""Writes the files of a run that are made from its report."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from compressor.files import write_atomic
from compressor.report import html, junit, markdown
from compressor.report.model import Report

LOCK_FILE = "recipe.lock.yaml"
"""The run's file with the inputs of all results."""

FORMS: dict[str, Callable[[Report, str | None], str]] = {
    "report.html": html.document,
    "report.md": lambda report, lock: markdown.markdown(report),
    "junit.xml": lambda report, lock: junit.document(report),
}
"""For each file, its text, made from a report and the text of recipe.lock.yaml."""


def write(report: Report, folder: Path, lock: str | None) -> None:
    """Writes the files of `FORMS`.

    Args:
        report: The run.
        folder: The run's folder.
        lock: Text of its recipe.lock.yaml; None if there is none.
    """
    for name, text in texts(report, lock).items():
        write_atomic(folder / name, text)


def texts(report: Report, lock: str | None) -> dict[str, str]:
    """The texts of the files of `FORMS`, by name.

    Args:
        report: The run.
        lock: Text of its recipe.lock.yaml; None if there is none.
    """
    return {name: form(report, lock) for name, form in FORMS.items()}


def append_summary(report: Report, path: Path) -> None:
    """Appends report.md to a file, as GitHub shows it for a step.

    Raises:
        OSError: The file cannot be written to.
    """
    with path.open("a", encoding="utf-8") as file:
        file.write(f"\n{markdown.markdown(report)}\n")
