"""Sentences of tagged tokens, as the shared tasks of CoNLL have them: a token a line, a blank line after a sentence.

Source: Tjong Kim Sang and De Meulder 2003, "Introduction to the CoNLL-2003 Shared Task", section 2.2.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from compressor.data.lines import MOST_PROBLEMS, lines, quoted
from compressor.data.tags import TAG_HINT, is_tag
from compressor.errors import Problem, RecipeError

KIND = "CoNLL"

_DOCUMENT = "-DOCSTART-"
_KEY = re.compile(r"# +[\w.:-]+ *= ")  # CoNLL-U has `# sent_id = 1`
_LINE_HINT = "a line is a token and a tag with a tab or a space between, and a blank line ends a sentence"
_LAST_HINT = f"a tag is the last column; {TAG_HINT}"


@dataclass(frozen=True)
class Sentence:
    """A tagged sentence.

    Attributes:
        line: Line of its first token, from 1.
        tokens: Its tokens, at least one.
        tags: A tag for each token.
        document: Number of its document, from 1; 0 before the first `-DOCSTART-`, or where the file has none.
    """

    line: int
    tokens: tuple[str, ...]
    tags: tuple[str, ...]
    document: int = 0


def read(path: Path, place: str) -> Iterator[Sentence]:
    """The sentences of a file, one at a time.

    A line is split at its tabs, or at its spaces if it has no tab. The token is the first column, the tag the last, and
    columns between them are ignored. A line of white space ends a sentence; so does `-DOCSTART-`, which begins a
    document. Comments (`# sent_id = 1`) between sentences are skipped.

    Args:
        path: The file, in UTF-8.
        place: The key of the recipe that names it.

    Raises:
        RecipeError: Lines are not a token and a tag; reports the first ten of the file at once.
    """
    problems: list[Problem] = []
    tokens: list[str] = []
    tags: list[str] = []
    first = document = 0
    for number, line in chain(lines(path, place, KIND), [(0, "")]):  # the last sentence may have no blank line after it
        columns = _columns(line)
        if not columns or columns[0] == _DOCUMENT:
            if tokens and not problems:
                yield Sentence(first, tuple(tokens), tuple(tags), document)
            tokens, tags = [], []
            document += bool(columns)
            continue
        if not tokens:
            if _is_comment(line, columns):
                continue
            first = number
        tokens.append(columns[0])
        tags.append(columns[-1])
        if mistake := _mistake(columns):
            what, hint = mistake
            problems.append(Problem(place, f"{path.name}, line {number}: {what}", hint, kind="unreadable"))
            if len(problems) == MOST_PROBLEMS:
                break
    if problems:
        raise RecipeError(problems)


def _columns(line: str) -> list[str]:
    """The columns of a line, without spaces around them; none if the line is blank."""
    if not line.strip():
        return []
    line = line.rstrip("\r\n")
    # White space of other kinds may be part of a token.
    if "\t" in line:
        return [column.strip(" ") for column in line.split("\t")]
    return [column for column in line.split(" ") if column]


def _is_comment(line: str, columns: list[str]) -> bool:
    """Whether a line before a sentence is a comment. A token may be a `#`, too: `#` and a tab, or `# O`, is one."""
    if not line.startswith("# "):
        return False
    return _KEY.match(line) is not None or ("\t" not in line and not is_tag(columns[-1]))


def _mistake(columns: list[str]) -> tuple[str, str] | None:
    """The mistake in a line, and the allowed form; None for a good line."""
    token, tag = columns[0], columns[-1]
    if any("\r" in column for column in columns):
        return "there is a carriage return in the middle of it", "end all lines in the same way"
    if len(columns) == 1:
        return f"{quoted(token)} stands alone, without a tag", _LINE_HINT
    if not token:
        return f"there is no token before the tag {quoted(tag)}", _LINE_HINT
    if not tag:
        return f"the last column of the token {quoted(token)} is empty", _LAST_HINT
    if not is_tag(tag):
        return f"the token {quoted(token)} has the tag {quoted(tag)}", _LAST_HINT
    return None
