"""Helpers of the benchmarks that run recipes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from compressor.report import model as reports
from compressor.report.model import Report


def run(given: dict[str, Any], folder: Path, artifacts: Path) -> tuple[Path, Report]:
    """Writes a recipe and runs it with the command that a user types; ends the benchmark if that fails.

    Args:
        given: The recipe.
        folder: Where its file goes.
        artifacts: Folder of its results; recipes with the same folder share their cache.

    Returns:
        The recipe's file, and the report.
    """
    path = folder / f"{given['name']}.yaml"
    path.write_text(yaml.safe_dump(given, sort_keys=False), encoding="utf-8")
    command = [sys.executable, "-m", "compressor", "run", str(path), "--artifacts", str(artifacts)]
    result = subprocess.run(command, stdout=subprocess.DEVNULL, check=False)
    if result.returncode not in (0, 4):
        sys.exit(f"{given['name']} ended with exit code {result.returncode}")
    return path, reports.read(artifacts / given["name"])
