"""What a worker is asked for a job, and what is kept of its answers."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compressor.device.worker import AT_POSITIONS, POSITIONS, Arrays
from compressor.measure.token_rows import INPUTS, TEXTS, TokenRows
from compressor.models.outputs import EMBEDDING, LOGITS
from compressor.runtimes import RUNTIMES, Inputs
from compressor.tasks import TASKS
from compressor.tasks.base import ABSENT_LOGIT, OfPositions

BatchOf = Callable[[list[int]], dict[str, NDArray[Any]]]
"""From indices of rows to a model's inputs and the tokens' labels."""
Keep = Callable[[Mapping[str, NDArray[Any]], Mapping[str, NDArray[Any]]], NDArray[np.float32]]
Ask = Callable[[Iterator[Arrays]], Generator[Arrays, None, None]]
"""From a file's inputs, batch after batch, to its outputs."""

_SPECIAL_TOKENS = 2
"""Before and behind a text."""


def predict(job: Mapping[str, Any], ask: Ask, report: Callable[[int, int], None]) -> dict[str, NDArray[Any]]:
    """Answers to several sets of rows, in the rows' order, computed in the batches that each set lists.

    `task` and `keep` (`answers` or `compared`) name the function that selects what is kept of the outputs. A set may
    ask for `token_types` that are `zeros`, or `omitted`, whatever the rows have, and for rows that are padded to the
    length `padded_to`. A set of `texts` instead of `rows` is for a file that holds its tokenizer. `offsets` are taken
    off the logits, see `compressor.models.thresholds`; left out or None for none.

    Args:
        job: The job.
        ask: Runs the file.
        report: Takes progress: rows done, of how many.
    """
    keep: Keep = getattr(TASKS[job["task"]], job["keep"])
    fill = {"answers": -1.0, "compared": ABSENT_LOGIT}[job["keep"]]
    total = sum(len(batch) for entry in job["sets"] for batch in entry["batches"])
    waiting: deque[tuple[dict[str, NDArray[Any]], Arrays]] = deque()

    def inputs() -> Iterator[Arrays]:
        for entry in job["sets"]:
            batch_of = _inputs(entry)
            for batch in entry["batches"]:
                given = batch_of(batch)
                positions = _positions(job, given)
                waiting.append((given, positions))
                yield {name: given[name] for name in (*INPUTS, *TEXTS) if name in given} | positions

    results, done = {}, 0
    with closing(ask(inputs())) as outputs:
        for entry in job["sets"]:
            answers: dict[int, NDArray[np.float32]] = {}
            for batch in entry["batches"]:
                found = next(outputs)
                given, positions = waiting.popleft()
                rows = kept(keep, _whole(found, given, positions), given, job.get("offsets"))
                answers.update(zip(batch, rows, strict=True))
                done += len(batch)
                report(done, total)
            results[entry["name"]] = stacked([answers[index] for index in sorted(answers)], fill)
        for _ in outputs:
            raise AssertionError("a worker answers as often as it is asked")
    return results


def outputs_of(job: Mapping[str, Any]) -> list[str] | None:
    """The outputs that a job needs; None for all. Of vectors, those of tokens would be a hundred times as many."""
    return [EMBEDDING] if TASKS[job["task"]].HEAD.vectors else None


def _inputs(entry: Mapping[str, Any]) -> BatchOf:
    """The inputs of a batch of a set of rows."""
    if "texts" in entry:
        texts = json.loads(Path(entry["texts"]).read_text(encoding="utf-8"))
        return lambda batch: {
            name: np.array(column, dtype=object)
            for name, column in zip(TEXTS, zip(*(texts[index] for index in batch), strict=True), strict=False)
        }
    rows, token_types = TokenRows.load(Path(entry["rows"])), entry.get("token_types", "given")

    def batch_of(batch: list[int]) -> dict[str, NDArray[Any]]:
        inputs = rows.batch(batch, entry.get("padded_to", 0))
        if token_types == "omitted":
            del inputs["token_type_ids"]
        elif token_types == "zeros":
            inputs["token_type_ids"][:] = 0
        return inputs

    return batch_of


def _positions(job: Mapping[str, Any], given: Mapping[str, NDArray[Any]]) -> Arrays:
    """The positions whose outputs the task needs, if it does not need all: a vocabulary of logits takes megabytes."""
    task = TASKS[job["task"]]
    if not isinstance(task, OfPositions):
        return {}
    return {POSITIONS: np.flatnonzero(task.positions(given))}


def _whole(outputs: Arrays, given: Mapping[str, NDArray[Any]], positions: Arrays) -> Arrays:
    """Outputs in their full shape; 0 where they were not asked for."""
    whole: Arrays = {}
    for name, array in outputs.items():
        if name.endswith(AT_POSITIONS):
            batch = given["input_ids"].shape
            full = np.zeros((batch[0] * batch[1], array.shape[1]), array.dtype)
            full[positions[POSITIONS]] = array
            whole[name.removesuffix(AT_POSITIONS)] = full.reshape(*batch, -1)
        else:
            whole[name] = array
    return whole


def kept(
    keep: Keep, outputs: Arrays, inputs: Mapping[str, NDArray[Any]], offsets: list[float] | None
) -> NDArray[np.float32]:
    """What is kept of a model's outputs, with `offsets` taken off the logits, see `compressor.models.thresholds`."""
    if offsets is not None:
        outputs = {**outputs, LOGITS: outputs[LOGITS] - np.asarray(offsets, dtype=np.float32)}
    return keep(outputs, inputs)


def stacked(rows: Sequence[NDArray[np.float32]], fill: float) -> NDArray[np.float32]:
    """Arrays of one number of axes in one array, as long as the longest of each axis."""
    shape = np.max([row.shape for row in rows], axis=0) if rows[0].ndim else ()
    stacked = np.full((len(rows), *shape), fill, dtype=np.float32)
    for index, row in enumerate(rows):
        place: tuple[Any, ...] = (index, *(slice(size) for size in row.shape))
        stacked[place] = row
    return stacked


def full_batch(job: Mapping[str, Any], runtime: str) -> Inputs:
    """A batch without padding: the work of a call does not depend on which tokens they are.

    Args:
        job: `batch_size`, `sequence_length` and `vocab_size`.
        runtime: What it is for.
    """
    shape = (job["batch_size"], job["sequence_length"])
    if RUNTIMES[runtime].takes_texts:
        # Each full stop is a token. Of pairs, the second text is empty, and another token ends it.
        text = ". " * max(1, job["sequence_length"] - _SPECIAL_TOKENS)
        return {"text": np.array([text] * shape[0], dtype=object), "text_pair": np.array([""] * shape[0], dtype=object)}
    ids = np.random.default_rng(0).integers(1, job["vocab_size"], shape)
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
