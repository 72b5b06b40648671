"""The files that people and programs read of a run, all made from its report."""

from __future__ import annotations

from pathlib import Path

from compressor.files import write_atomic
from compressor.report import html, junit, markdown
from compressor.report.model import Report

NAMES = ("report.html", "report.md", "junit.xml")


def write(report: Report, folder: Path, lock: str | None) -> None:
    """Writes `NAMES`.

    Args:
        report: The run.
        folder: Its folder.
        lock: Text of its recipe.lock.yaml; None where there is none.
    """
    texts = (html.document(report, lock), markdown.markdown(report), junit.document(report))
    for name, text in zip(NAMES, texts, strict=True):
        write_atomic(folder / name, text)


def append_summary(report: Report, path: Path) -> None:
    """Adds report.md to what GitHub shows of a step, after what other commands have left there.

    Raises:
        OSError: It cannot be written to.
    """
    with path.open("a", encoding="utf-8") as file:
        file.write(f"\n{markdown.markdown(report)}\n")
