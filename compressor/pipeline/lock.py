"""recipe.lock.yaml: the inputs of a run, with digests and versions, and how those of another run differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from compressor.errors import Location, Problem, RecipeError, path_text
from compressor.host.machine import DISTRIBUTION, host
from compressor.pipeline.plan import Plan
from compressor.report.files import LOCK_FILE

_FOLLOWS = ("key", "parent", "teacher", "data")
"""Entries of a stage that change whenever anything before it does."""
_MACHINE = ("host", "processor")
"""Entries of a stage's trials that describe the machine."""
_DIGITS = 12


def text(path: Path) -> str | None:
    """The text of a run's lock; None when it cannot be read."""
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None


def read(path: Path) -> dict[str, Any] | None:
    """A run's lock; None when it cannot be read."""
    try:
        lock = yaml.safe_load(text(path) or "")
    except yaml.YAMLError:
        return None
    whole = isinstance(lock, dict) and all(isinstance(lock.get(part), dict) for part in ("recipe", "stages"))
    return lock if whole else None


def render(plan: Plan) -> str:
    """The text of a run's lock."""
    header = "# Written by `compress run`: the inputs of this run. `compress run --locked` refuses any others.\n"
    return header + yaml.safe_dump(plan.lock(), sort_keys=False, allow_unicode=True)


def check(plan: Plan, path: Path) -> None:
    """Refuses a plan that differs from a lock in values, data, versions or code; the machine may differ.

    Raises:
        RecipeError: The lock cannot be read, or differs; a problem for each difference.
    """
    lock = read(path)
    if lock is None:
        what, kind = ("is not a run's lock", "unreadable") if path.exists() else ("is missing", "not_found")
        hint = f"run once without --locked and --lock: that writes {LOCK_FILE} into the run's folder"
        raise RecipeError([Problem(str(path), what, hint, kind=kind)])
    if problems := differences(lock, plan.lock()):
        raise RecipeError(problems, f"{path} does not match this recipe")


@dataclass(frozen=True)
class _Change:
    where: Location
    old: Any
    new: Any


def differences(lock: Mapping[str, Any], now: Mapping[str, Any]) -> list[Problem]:
    """The differences between two locks, each once and by its cause.

    Args:
        lock: The lock of the earlier run.
        now: The lock that this run would write.
    """
    found, stages = [], now["recipe"]["stages"]
    before, after = list(lock["stages"]), list(now["stages"])
    changes = list(_changes(lock, now))
    if before != after:
        found.append(_changed("stages", f"are {' → '.join(after)}, locked are {' → '.join(before)}"))
        changes = [change for change in changes if "stages" not in change.where[:2]]
    values = [change for change in changes if change.where[0] == "recipe"]
    found += [_changed(path_text(change.where[1:], stages), _sentence(change)) for change in values]
    found += [problem for change in changes if (problem := _contents(change, now, after))]
    found += _training(changes, after, stages)
    found += _versions(changes)
    found += _code(changes, lock, now)
    # The rest repeats the recipe's values, follows from earlier differences, or describes the machine.
    rest = [change for change in changes if change.where[0] != "environment" and not _follows(change.where)]
    return found or [_changed(path_text(change.where, ()), _sentence(change)) for change in rest]


def _changes(old: Any, new: Any, where: Location = ()) -> Iterator[_Change]:
    """Every value that differs, in the order of the file; the recipe's stages are compared one by one."""
    if isinstance(old, dict) and isinstance(new, dict):
        for name in [*old, *(name for name in new if name not in old)]:
            yield from _changes(old.get(name), new.get(name), (*where, name))
    elif where == ("recipe", "stages") and isinstance(old, list) and len(old) == len(new):
        for index, (one, other) in enumerate(zip(old, new, strict=True)):
            yield from _changes(one, other, (*where, index))
    elif old != new:
        yield _Change(where, old, new)


def _contents(change: _Change, now: Mapping[str, Any], stages: list[str]) -> Problem | None:
    """The problem of a checkpoint, data or text whose name is the same and whose contents differ."""
    where, recipe = change.where, now["recipe"]
    if None in (change.old, change.new):
        return None  # another source is named: a difference in a value of the recipe
    if where[:2] == ("model", "sha256"):
        return _changed("model", _digests(where[-1], "sha256", change))
    if where[-1] != "sha256" and where[2:3] != ("student",):
        return None
    if where[0] == "data":
        source = recipe["data"][where[2]]
        name = source.get("source", source.get("hub")) if isinstance(source, dict) else source
        return _changed(f"data.{where[2]}", _digests(name, where[-1], change))
    if where[0] == "stages":
        student = where[2] == "student"
        keys = ("student",) if student else ("vocabulary", "corpus")
        place = path_text(("stages", stages.index(str(where[1])), *keys), recipe["stages"])
        name, kind = (where[-1], "sha256") if student else ("the text", where[-1])
        return _changed(place, _digests(name, kind, change))
    return None


def _training(changes: list[_Change], names: list[str], stages: list[Any]) -> list[Problem]:
    """What stages train on, and how, where the recipe leaves it to the machine and to the launcher."""
    other = {change.where[1] for change in changes if change.where[0] == "stages" and change.where[2:3] == ("spec",)}
    hint = "run it as it was locked, or set precision in the recipe, or run without the lock and keep the new one"
    found = []
    for change in changes:
        where = change.where
        if where[0] != "stages" or where[2:3] != ("training",) or None in (change.old, change.new):
            continue
        if where[3] != "precision" or where[1] not in other:  # else it follows from the stage's own keys
            place = ("stages", names.index(str(where[1])), *where[2:])
            found.append(_changed(path_text(place, stages), _sentence(change), hint))
    return found


def _versions(changes: list[_Change]) -> list[Problem]:
    """Libraries of another version; for Python, patch releases are ignored."""
    found = {}
    for change in changes:
        name = str(change.where[-1])
        if "versions" in change.where[:-1]:
            found[name] = change
        elif change.where[0] == "environment" and name not in (*host(), DISTRIBUTION):
            minors = [str(version).split(".")[:2] for version in (change.old, change.new)]
            if name != "python" or minors[0] != minors[1]:
                found[name] = change
    return [_changed(name, _sentence(change)) for name, change in sorted(found.items())]


def _code(changes: list[_Change], lock: Mapping[str, Any], now: Mapping[str, Any]) -> list[Problem]:
    """Our own code, if it is another version, or the same version with changes."""
    made, here = (entry.get("environment", {}).get(DISTRIBUTION) for entry in (lock, now))
    changed = [change.where for change in changes if change.where[-1] == "code"]
    if made == here and not changed:
        return []
    what = f"the lock was written by version {made}, this is version {here}"
    if made == here:
        parts = dict.fromkeys(str(where[1]) if where[0] == "stages" else "the data" for where in changed)
        what = f"the code of {', '.join(parts)} was changed since the lock was written, by the same version {here}"
    return [_changed(DISTRIBUTION, what, "install that version, or run without the lock and keep the new one")]


def _follows(where: Location) -> bool:
    """Whether a value follows from the stages before, or describes the machine."""
    return where[0] == "stages" and not {*_FOLLOWS, *_MACHINE}.isdisjoint(where[2:4])


def _changed(where: str, what: str, hint: str = "") -> Problem:
    return Problem(where, what, hint, kind="changed")


def _sentence(change: _Change) -> str:
    return f"is {change.new!r}, locked is {change.old!r}"


def _digests(name: object, kind: object, change: _Change) -> str:
    """A sentence with both digests, shortened: it matters only that they differ."""
    new, old = (str(digest)[:_DIGITS] for digest in (change.new, change.old))
    return f"{name} changed: its {kind} is {new}…, locked is {old}…"
