"""The rows that a draft is for: the files that hold them, their form, and what stands at their beginning."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, Literal

from compressor.data import conll, retrieval, sources, squad, table_files
from compressor.data.lines import lines, quoted
from compressor.data.tags import is_tag
from compressor.errors import Problem, RecipeError
from compressor.files import suffix

PLACE = "--data"
"""What errors call the rows."""
NAMES_HINT = "the first line of csv and tsv names the columns"

Form = Literal["table", "conll", "squad", "text", "beir"]

_MOST_ROWS = 100_000
_MOST_CHARACTERS = 60_000_000
"""Where reading stops: what is beyond that hardly changes what is found."""
_LOOKED_AT = 200
"""Lines that tell tagged words from a table or a text."""
_FORMATS = tuple(dict.fromkeys((*sources.FORMATS, *sources.CONLL, sources.SQUAD)))
_VALIDATION = ("validation", "dev", "valid", "val")
_TRAIN = ("train", "training")
JUDGING = ("test", *_VALIDATION)
"""Names of splits whose queries judge a model, those that are asked first."""
_OF_LINES = ("csv", "tsv")


@dataclass(frozen=True)
class Sample:
    """The beginning of some rows.

    Attributes:
        train: The file.
        validation: The file of held-out rows beside it; None where there is none.
        form: Whether it is a table, tagged words of CoNLL, questions of SQuAD, raw text, or a folder in BEIR's layout.
        names: The columns of a table that can be named; of a folder of BEIR's, the names of its splits.
        rows: Of a table by column; of other forms as the task has them: `tokens` and `tags`; `question`, `context` and
            `answers`; `text`, of BEIR's folder with `relevant`, the documents that answer a query.
        whole: Whether the file has no rows beyond these.
        judged: The beginning of the rows of `validation`; none without it.
        judged_names: Its columns, as `names`.
    """

    train: Path
    validation: Path | None
    form: Form
    names: tuple[str, ...]
    rows: Sequence[Mapping[str, Any]]
    whole: bool
    judged: Sequence[Mapping[str, Any]] = ()
    judged_names: tuple[str, ...] = ()

    @property
    def in_lines(self) -> bool:
        """Whether the first line names the columns."""
        return self.form == "table" and table_files.kind(self.train) in _OF_LINES


def read(source: str) -> Sample:
    """The rows of a file, of a file in a package, or of a folder with a file to train on.

    Args:
        source: As the command line has it; relative to the working directory.

    Raises:
        RecipeError: There are none, or they cannot be read: with the line, as a run would say it.
    """
    folder = Path(sources.expanded(source))
    if (folder / retrieval.CORPUS).is_file():
        return _searched(folder)
    train, validation = _files(source)
    found = _beginning(train)
    if validation is None:
        return found
    beside = _beginning(validation)
    return replace(found, validation=validation, judged=beside.rows, judged_names=beside.names)


def _searched(folder: Path) -> Sample:
    """A folder in BEIR's layout: its documents, and the queries of one of its splits."""
    splits = tuple(sorted(path.stem for path in (folder / retrieval.QRELS).glob("*.tsv")))
    if not splits:
        what = f"{folder} has {retrieval.CORPUS} and no {retrieval.QRELS}/*.tsv"
        raise RecipeError([Problem(PLACE, what, "give the whole folder, as BEIR's are", kind="missing")])
    split = next((name for name in JUDGING if name in splits), splits[0])
    rows = retrieval.read(folder, PLACE, split)
    found = [{"text": text.text, "relevant": list(text.relevant)} for _, text in islice(rows, _MOST_ROWS)]
    return Sample(folder, None, "beir", splits, found, len(found) < _MOST_ROWS)


def _beginning(path: Path) -> Sample:
    """The beginning of a file."""
    form = _form(path)
    names = _columns(path) if form == "table" else []
    readers = {"conll": _tagged, "squad": _questions, "text": _texts}
    rows = _table(path, names) if form == "table" else readers[form](path)
    found: list[Mapping[str, Any]] = []
    characters = 0
    for row in islice(rows, _MOST_ROWS):
        found.append(row)
        characters += sum(len(value) for value in row.values() if isinstance(value, str))
        if characters > _MOST_CHARACTERS:
            break
    if not found:
        hint = f"{NAMES_HINT}, and rows follow" if table_files.kind(path) in _OF_LINES else "give a file with rows"
        raise RecipeError([Problem(PLACE, f"{path.name} has no rows", hint, kind="missing")])
    whole = len(found) < _MOST_ROWS and characters <= _MOST_CHARACTERS
    return Sample(path, None, form, tuple(names), found, whole)


def _files(source: str) -> tuple[Path, Path | None]:
    """The file to train on, and the one of held-out rows beside it."""
    folder = Path(sources.expanded(source))
    if not source.startswith("package:") and folder.is_dir():
        found = sorted(path for path in folder.iterdir() if suffix(path) in _FORMATS and path.is_file())
        train = next((path for path in found if _named(path, _TRAIN)), None)
        if train is None:
            names = ", ".join(path.name for path in found[:8]) or f"no file that is read ({', '.join(_FORMATS)})"
            what = f"{folder} is a folder without a file called train"
            raise RecipeError([Problem(PLACE, what, f"name the file; there is {names}", kind="missing")])
        return train, next((path for path in found if _named(path, _VALIDATION)), None)
    path = sources.rows(source, Path.cwd(), PLACE, _FORMATS)
    assert isinstance(path, Path), "a text names no data set on the hub"
    if path.stem.lower() not in _TRAIN:
        return path, None
    beside = (path.with_name(f"{name}{path.suffix}") for name in _VALIDATION)
    return path, next((other for other in beside if other.is_file()), None)


def _named(path: Path, beginnings: Sequence[str]) -> bool:
    """Whether a file is called one of these, or one of these and more, such as train-00000-of-00001.parquet."""
    return re.split(r"[-_.]", path.name.lower())[0] in beginnings


def _form(path: Path) -> Form:
    """What a file holds, by its name, and where that leaves it open by its first lines."""
    end = suffix(path)
    if end == sources.SQUAD:
        _refuse_other_json(path)
        return "squad"
    if end in (".csv", *sources.LISTS):
        return "table"
    begins = [line.rstrip("\r\n") for _, line in islice(lines(path, PLACE, end[1:]), _LOOKED_AT)]
    filled = [line for line in begins if line.strip()]
    tagged = [line for line in filled if len(line.split()) > 1 and is_tag(line.split()[-1])]
    if filled and len(tagged) > 0.9 * len(filled):
        return "conll"
    if end == ".tsv":
        return "table"
    if end != sources.TEXT:
        return "conll"  # whose reader says what is wrong
    tabs = {line.count("\t") for line in filled}
    if len(filled) > 1 and len(tabs) == 1 and tabs != {0}:
        what = f"{path.name} has {min(tabs) + 1} columns in each line, which a text has not"
        hint = "name the file .tsv, with the names of the columns in its first line"
        raise RecipeError([Problem(PLACE, what, hint, kind="unsupported")])
    return "text"


def _refuse_other_json(path: Path) -> None:
    """Refuses JSON that is no document of SQuAD's but rows: programs write both under this name."""
    first = next((line for _, line in lines(path, PLACE, squad.KIND) if line.strip()), "").strip()
    what = ""
    if first.startswith("["):
        what = f"{path.name} is one JSON list"
    elif first.startswith("{") and first.endswith("}"):
        try:
            what = "" if "data" in json.loads(first) else f"{path.name} holds a JSON object in its first line"
        except (ValueError, RecursionError):
            what = ""
    if what:
        hint = "write one object a line into a .jsonl file; .json is for SQuAD's form"
        raise RecipeError([Problem(PLACE, what, hint, kind="unsupported")])


def _columns(path: Path) -> list[str]:
    """The columns that a recipe can name."""
    every = table_files.columns(path, PLACE)
    if len(every) == 1 and (mark := next((mark for mark in (";", "|", "\t") if mark in every[0]), None)):
        what = f"{path.name} has one column, {quoted(every[0])}"
        hint = f"it looks separated by {mark!r}; save it with commas as csv, or with tabs as tsv"
        raise RecipeError([Problem(PLACE, what, hint, kind="unreadable")])
    return [name for name in every if name.strip() and every.count(name) == 1]


def _table(path: Path, names: list[str]) -> Iterator[Mapping[str, Any]]:
    return (row for _, row in table_files.rows(path, names, PLACE))


def _tagged(path: Path) -> Iterator[Mapping[str, Any]]:
    for sentence in conll.read(path, PLACE):
        yield {"tokens": list(sentence.tokens), "tags": list(sentence.tags)}


def _questions(path: Path) -> Iterator[Mapping[str, Any]]:
    for entry in squad.read(path, PLACE):
        answers = {"text": list(entry.answers), "answer_start": list(entry.starts)}
        yield {"question": entry.question, "context": entry.context, "answers": answers}


def _texts(path: Path) -> Iterator[Mapping[str, Any]]:
    return ({"text": line.strip()} for _, line in lines(path, PLACE, "text") if line.strip())


def spread(values: Sequence[Any], count: int) -> list[Any]:
    """At most so many values, evenly spaced: files are often sorted."""
    step = max(1.0, len(values) / count)
    return [values[int(index * step)] for index in range(min(count, len(values)))]
