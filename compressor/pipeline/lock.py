"""recipe.lock.yaml: what a run resolved to, and whether another one would resolve to the same."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from compressor.errors import Location, Problem, RecipeError, path_text
from compressor.files import write_atomic
from compressor.host import DISTRIBUTION, host
from compressor.pipeline.plan import Plan

LOCK_FILE = "recipe.lock.yaml"

_FOLLOWS = ("key", "parent", "teacher", "data")
"""Keys of a stage that differ when anything before it does."""
_MACHINE = ("host", "processor")
"""What a stage that tries models out says of the machine."""
_DIGITS = 12


def text(path: Path) -> str | None:
    """A run's lock as it is written; None when there is none that can be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None


def read(path: Path) -> dict[str, Any] | None:
    """A run's lock; None when there is none that can be read."""
    try:
        lock = yaml.safe_load(text(path) or "")
    except yaml.YAMLError:
        return None
    whole = isinstance(lock, dict) and all(isinstance(lock.get(part), dict) for part in ("recipe", "stages"))
    return lock if whole else None


def write(plan: Plan, folder: Path) -> None:
    """Writes a run's lock."""
    header = "# Written by `compress run`: what this run resolved to. `compress run --locked` refuses anything else.\n"
    write_atomic(folder / LOCK_FILE, header + yaml.safe_dump(plan.lock(), sort_keys=False, allow_unicode=True))


def check(plan: Plan, path: Path) -> None:
    """Refuses a plan that differs from a lock in values, data, versions or code; the machine may differ.

    Raises:
        RecipeError: There is no lock, or what differs.
    """
    lock = read(path)
    if lock is None:
        what = "is no lock of a run" if path.exists() else "is missing"
        hint = f"run once without --locked and --lock: that writes {LOCK_FILE} into the run's folder"
        raise RecipeError([Problem(str(path), what, hint)])
    if problems := differences(lock, plan.lock()):
        raise RecipeError(problems, f"{path} locks something else")


@dataclass(frozen=True)
class _Change:
    where: Location
    old: Any
    new: Any


def differences(lock: Mapping[str, Any], now: Mapping[str, Any]) -> list[Problem]:
    """What differs between a lock and what a run would write, each thing once and by its cause.

    Args:
        lock: The lock.
        now: What would be written.
    """
    found, stages = [], now["recipe"]["stages"]
    before, after = list(lock["stages"]), list(now["stages"])
    changes = list(_changes(lock, now))
    if before != after:
        found.append(Problem("stages", f"are {' → '.join(after)}, locked are {' → '.join(before)}"))
        changes = [change for change in changes if "stages" not in change.where[:2]]
    values = [change for change in changes if change.where[0] == "recipe"]
    found += [Problem(path_text(change.where[1:], stages), _told(change)) for change in values]
    found += [problem for change in changes if (problem := _contents(change, now, after))]
    found += _versions(changes)
    found += _code(changes, lock, now)
    # The rest repeats the recipe's values, follows from what came before, or is the machine.
    rest = [change for change in changes if change.where[0] != "environment" and not _follows(change.where)]
    return found or [Problem(path_text(change.where, ()), _told(change)) for change in rest]


def _changes(old: Any, new: Any, where: Location = ()) -> Iterator[_Change]:
    """Every value that differs, in the order of the file; the recipe's stages are gone through one by one."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in [*old, *(name for name in new if name not in old)]:
            yield from _changes(old.get(name), new.get(name), (*where, name))
    elif where == ("recipe", "stages") and isinstance(old, list) and len(old) == len(new):
        for index, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from _changes(one, other, (*where, index))
    elif old != new:
        yield _Change(where, old, new)


def _contents(change: _Change, now: Mapping[str, Any], stages: list[str]) -> Problem | None:
    """A checkpoint, data or text that was named and is not what it was."""
    where, recipe = change.where, now["recipe"]
    if None in (change.old, change.new):
        return None  # another source is named: that is a value of the recipe
    if where[:2] == ("model", "sha256"):
        return Problem("model", _digests(where[-1], "sha256", change))
    if where[-1] not in ("sha256", "commit") and where[2:3] != ("student",):
        return None
    if where[0] == "data":
        source = recipe["data"][where[2]]
        name = source.get("source", source.get("hub")) if isinstance(source, dict) else source
        return Problem(f"data.{where[2]}", _digests(name, where[-1], change))
    if where[0] == "stages":
        student = where[2] == "student"
        keys = ("student",) if student else ("vocabulary", "corpus")
        place = path_text(("stages", stages.index(str(where[1])), *keys), recipe["stages"])
        name, kind = (where[-1], "sha256") if student else ("the text", where[-1])
        return Problem(place, _digests(name, kind, change))
    return None


def _versions(changes: list[_Change]) -> list[Problem]:
    """Libraries of another version; of Python's, the patch release does not count."""
    found = {}
    for change in changes:
        name = str(change.where[-1])
        if "versions" in change.where[:-1]:
            found[name] = change
        elif change.where[0] == "environment" and name not in (*host(), DISTRIBUTION):
            minors = [str(version).split(".")[:2] for version in (change.old, change.new)]
            if name != "python" or minors[0] != minors[1]:
                found[name] = change
    return [Problem(name, _told(change)) for name, change in sorted(found.items())]


def _code(changes: list[_Change], lock: Mapping[str, Any], now: Mapping[str, Any]) -> list[Problem]:
    """Whether this is another version of our own code, or the same one with changes."""
    made, here = (entry.get("environment", {}).get(DISTRIBUTION) for entry in (lock, now))
    changed = [change.where for change in changes if change.where[-1] == "code"]
    if made == here and not changed:
        return []
    what = f"the lock was made by version {made}, this is {here}"
    if made == here:
        parts = dict.fromkeys(str(where[1]) if where[0] == "stages" else "the data" for where in changed)
        what = f"the code of {', '.join(parts)} was changed since the lock was made, by this same version {here}"
    return [Problem(DISTRIBUTION, what, "use what made the lock, or run without it and keep the new one")]


def _follows(where: Location) -> bool:
    """Whether a value says what came before a stage, or where it ran."""
    return where[0] == "stages" and not {*_FOLLOWS, *_MACHINE}.isdisjoint(where[2:4])


def _told(change: _Change) -> str:
    return f"is {change.new!r}, locked is {change.old!r}"


def _digests(name: object, kind: object, change: _Change) -> str:
    """Digests are shortened: what matters is that they differ."""
    new, old = (str(digest)[:_DIGITS] for digest in (change.new, change.old))
    return f"{name} is not what was locked: its {kind} is {new}…, locked is {old}…"
