"""Errors that commands report in one message, their exit codes, and the problems they list."""

from __future__ import annotations

import difflib
import re
import reprlib
import traceback
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import Any, Protocol


class ExitCode(IntEnum):
    """Exit codes of every `compress` command."""

    PASS = 0
    """Every gate passes."""
    GATE_FAILED = 1
    """At least one gate failed."""
    USAGE = 2
    """The recipe or the command line is wrong."""
    STAGE_FAILED = 3
    """A stage broke while running."""
    INCONCLUSIVE = 4
    """No gate failed, but at least one cannot be decided from the measurements."""
    INTERRUPTED = 130
    """Stopped by Ctrl-C or SIGTERM; the same command goes on from there."""


KINDS = {
    "unknown": "a name that is not among those that are allowed: a key, a stage, a metric, a label",
    "missing": "a key, a column, a file or a value that has to be there",
    "type": "a value of another type, such as text for a number",
    "value": "a value of the right type that is not allowed",
    "conflict": "two keys, or two stages, that exclude each other",
    "order": "stages that cannot follow each other",
    "not_found": "a path, a package or a hub id that names nothing",
    "unreadable": "a file that is damaged, or not of its format",
    "unsupported": "something valid that this project cannot work on",
    "not_installed": "an extra that is not installed",
    "changed": "something that differs from what a lock or a manifest recorded",
}
"""The kinds of problems; tests and programs compare a problem's place and kind, not its sentence."""

_ACTED_ON = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]")
"""What a terminal, an editor or a log acts on instead of showing it: control characters, line ends, changes of the
writing direction; and halves of surrogate pairs, which no file can hold."""

_LONGEST_PLACE, _LONGEST_WHAT, _LONGEST_HINT = 200, 600, 2000
"""In characters: values, names and paths may have thousands."""

_SHORT = reprlib.Repr()
_SHORT.maxstring, _SHORT.maxother, _SHORT.maxlevel = 60, 60, 3


def printable(text: str, keep: str = "") -> str:
    r"""Text with an escape, such as `\x1b`, for each character that a terminal or a log would act on.

    Args:
        text: Any text: names, labels, paths and values come from files of strangers.
        keep: Characters that stay as they are, such as a message's own line ends.
    """
    return _ACTED_ON.sub(lambda found: found[0] if found[0] in keep else ascii(found[0])[1:-1], text)


def shown(value: object) -> str:
    """A value for a message: as Python writes it, and cut if it is long."""
    if isinstance(value, int) and abs(value) >= 10**40:
        return "a whole number of more than 40 digits"  # Python refuses to write those of thousands of digits
    return _SHORT.repr(value)


def described(error: BaseException) -> str:
    """The kind and the first line of an unexpected error; of one without a text, the line of code that raised it."""
    text = str(error).strip()
    if not text and (frames := traceback.extract_tb(error.__traceback__)):
        text = f"{Path(frames[-1].filename).name}, line {frames[-1].lineno}: {frames[-1].line}"
    first = next(iter(text.splitlines()), "no text").rstrip()
    return printable(f"{type(error).__name__}: {_cut(first, _LONGEST_WHAT)}")


def _cut(text: str, most: int) -> str:
    """Text without its middle if it is long: the place is at its beginning, and the cause at its end."""
    return text if len(text) <= most else f"{text[: most * 2 // 3]} … {text[-most // 3 :]}"


@dataclass(frozen=True, order=True)
class Problem:
    """One mistake in a recipe, its data or the command line.

    Attributes:
        where: The place, as a path through the recipe (`stages[1] (distill).temperature`) or a file.
        what: The mistake, with the value that was found.
        hint: The allowed values, or the next step.
        line: Line in the recipe file, 1-based; 0 when there is none.
        kind: One of `KINDS`.
    """

    where: str
    what: str
    hint: str = ""
    line: int = 0
    kind: str = "value"

    def __post_init__(self) -> None:
        assert self.kind in KINDS, self.kind

    def __str__(self) -> str:
        line = f"line {self.line}: " if self.line else ""
        hint = f"; {_cut(self.hint, _LONGEST_HINT)}" if self.hint else ""
        return printable(f"{line}{_cut(self.where, _LONGEST_PLACE)}: {_cut(self.what, _LONGEST_WHAT)}{hint}")


class CompressError(Exception):
    """Anything a command reports in one message instead of a traceback."""

    exit_code = ExitCode.STAGE_FAILED


class RecipeError(CompressError):
    """The recipe, its data or the command line is wrong.

    Args:
        problems: Every mistake that was found.
        source: The file they were found in.
    """

    exit_code = ExitCode.USAGE

    def __init__(self, problems: list[Problem], source: str = "") -> None:
        self.problems = problems
        self.source = source
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        head = f"{printable(_cut(source, _LONGEST_PLACE))}: {count}\n" if source else ""
        super().__init__(head + "\n".join(f"  {problem}" for problem in problems))


class StageError(CompressError):
    """A stage could not do its work."""


Location = tuple[str | int, ...]


def path_text(location: Location, stages: Any = ()) -> str:
    """A location as users write it: `stages[1] (distill).gates.accuracy`."""
    text = ""
    for position, key in enumerate(location):
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else str(key)
        if position == 1 and location[0] == "stages" and isinstance(key, int) and key < len(stages):
            stage = stages[key]
            kind = stage.get("stage") if isinstance(stage, dict) else getattr(stage, "kind", None)
            text += f" ({kind})" if isinstance(kind, str) and kind else ""
    return text


def suggest(word: str, allowed: list[str]) -> str:
    """A hint for a wrong word: "did you mean", when one is close, and everything that is allowed."""
    listing = f"allowed: {', '.join(allowed)}"
    suggestion = did_you_mean(word, allowed)
    return f"{suggestion} ({listing})" if suggestion else listing


def did_you_mean(word: str, allowed: Iterable[str]) -> str:
    """A question that names the closest of the allowed words; empty when none is close."""
    names = list(allowed)
    alike = [name for name in names if name.strip().casefold() == word.strip().casefold()]
    matches = alike or difflib.get_close_matches(word, names, n=1)
    return f"did you mean {matches[0]!r}?" if matches else ""


class Add(Protocol):
    """Adds a problem to a list."""

    def __call__(self, location: Location, what: str, hint: str = "", kind: str = "value") -> None:
        """Adds a problem.

        Args:
            location: Its place in the recipe.
            what: The mistake, with the value that was found.
            hint: The allowed values, or the next step.
            kind: One of `KINDS`.
        """
