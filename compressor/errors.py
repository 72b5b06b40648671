"""What can go wrong, and the exit code each kind ends with."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum


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
    """No gate failed, but at least one cannot be decided from what was measured."""
    INTERRUPTED = 130
    """Stopped by Ctrl-C or SIGTERM; the same command goes on from there."""


@dataclass(frozen=True, order=True)
class Problem:
    """One mistake, told so that it can be mended without looking anything up.

    Attributes:
        where: The place, as a path through the recipe (`stages[1] (distill).temperature`) or a file.
        what: What is wrong, with the value that was found.
        hint: What is allowed, or what to do.
        line: Line in the recipe file, 1-based; 0 when there is none.
    """

    where: str
    what: str
    hint: str = ""
    line: int = 0

    def __str__(self) -> str:
        line = f"line {self.line}: " if self.line else ""
        hint = f"; {self.hint}" if self.hint else ""
        return f"{line}{self.where}: {self.what}{hint}"


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
        head = f"{source}: {count}\n" if source else ""
        super().__init__(head + "\n".join(f"  {problem}" for problem in problems))


class StageError(CompressError):
    """A stage could not do its work."""
