"""Looks at folders that a run has published, for tests that damage them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from in_process import InProcess
from rich.console import Console

from compressor.errors import ExitCode
from compressor.files import file_digest, file_entries
from compressor.measure.client import Client
from compressor.package import manifest as manifests
from compressor.package.manifest import Check
from compressor.package.verify import Verification, verify
from compressor.progress import Progress


def look(path: Path, client: Client | None = None) -> Verification:
    with client or InProcess() as measuring:
        return verify(path, measuring, Progress(Console(quiet=True)))


def failed(found: Verification) -> dict[str, str]:
    """What is wrong, by what it is of."""
    assert found.verdict == "fail" and found.exit_code == ExitCode.GATE_FAILED
    return {check.subject: check.message for check in found.checks if check.verdict == "fail"}


def sign(run: Path, **changes: Any) -> None:
    """Writes manifest and report anew, so that only what the files do can tell that they are wrong."""
    model, some = run / "model", "0" * 64
    report = json.loads((run / "report.json").read_text())
    report["lock_sha256"] = file_digest(run / "recipe.lock.yaml")
    text = json.dumps({**report, "manifest_sha256": some})
    files = {name: entry for name, entry in file_entries(model).items() if not name.startswith(manifests.NAME)}
    found = {"files": files, "beside": manifests.beside({"report.json": text}, some), **changes}
    (run / "report.json").write_text(text.replace(some, replace(manifests.read(model), **found).write(model)))


def look_at_files(run: Path) -> list[Check]:
    """All checks but those of the formats, which take a while: a file too many keeps them from being loaded."""
    (run / "model" / "extra.txt").write_text("")
    try:
        return look(run).checks
    finally:
        (run / "model" / "extra.txt").unlink()


def failed_of(checks: list[Check]) -> dict[str, str]:
    return {check.subject: check.message for check in checks if check.verdict == "fail"}
