"""recipe.lock.yaml: what a run resolved to, and whether another one would resolve to the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from compressor.errors import CompressError, Problem, RecipeError
from compressor.plan import Plan
from compressor.store import write_atomic

LOCK_FILE = "recipe.lock.yaml"


def text(folder: Path) -> str | None:
    """The lock of a run's folder as it is written; None when there is none that can be read."""
    try:
        return (folder / LOCK_FILE).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None


def read(folder: Path) -> dict[str, Any] | None:
    """The lock of a run's folder; None when there is none that can be read."""
    try:
        lock = yaml.safe_load(text(folder) or "")
    except yaml.YAMLError:
        return None
    return lock if isinstance(lock, dict) else None


def write(plan: Plan, folder: Path) -> None:
    """Writes a run's lock."""
    header = "# Written by `compress run`: what this run resolved to. `compress run --locked` refuses anything else.\n"
    write_atomic(folder / LOCK_FILE, header + yaml.safe_dump(plan.lock(), sort_keys=False, allow_unicode=True))


def check(plan: Plan, folder: Path) -> None:
    """Refuses a plan that differs from the lock in values, data, versions or code; the machine may differ.

    Raises:
        CompressError: There is no lock.
        RecipeError: What differs.
    """
    lock = read(folder)
    if lock is None:
        error = CompressError(f"--locked: {folder / LOCK_FILE} is missing; run once without --locked to write it")
        error.exit_code = RecipeError.exit_code
        raise error
    problems = [
        Problem(where, f"is {new!r}, locked is {old!r}")
        for where, old, new in _changes(lock, plan.lock())
        if not where.endswith(".key") and not where.startswith("environment.")
    ]
    if problems:
        raise RecipeError(problems, str(folder / LOCK_FILE))


def _changes(old: Any, new: Any, where: str = "") -> list[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        names = [*old, *(name for name in new if name not in old)]
        return [
            change
            for name in names
            for change in _changes(old.get(name), new.get(name), f"{where}.{name}" if where else str(name))
        ]
    return [] if old == new else [(where, old, new)]
