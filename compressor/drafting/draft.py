"""From a checkpoint, rows and a target to a recipe that validates as it is written."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path

from compressor.data import hub, sources
from compressor.drafting import document, held_out, labels, lengths, plans, rows, stand_in, task, vectors
from compressor.drafting.document import Draft
from compressor.drafting.guess import ASSUMED, CHECKPOINT, Guess, Heads
from compressor.drafting.plans import Limits, Reduction
from compressor.drafting.rows import Sample
from compressor.drafting.sizes import OPERATIONS_PER_S, Geometry
from compressor.drafting.stand_in import Found
from compressor.drafting.target import PLACE as TARGET
from compressor.drafting.target import Budget
from compressor.errors import Problem, RecipeError, StageError
from compressor.models import checking, tokenizers
from compressor.models.checkpoint import Checkpoint
from compressor.models.shape import Shape
from compressor.recipe.document import Recipe
from compressor.recipe.resolve import resolve
from compressor.tasks import MASKED_LM, TASKS

_LONGEST_NAME = 60
_MOST_LISTED = 6


@dataclass(frozen=True)
class Drafted:
    """A recipe that validates.

    Attributes:
        text: The document.
        recipe: What it says.
        assumed: What may be otherwise.
    """

    text: str
    recipe: Recipe
    assumed: tuple[str, ...]


def draft(checkpoint: str, data: str | None, target: Budget, path: Path | None) -> Drafted:
    """Drafts a recipe.

    Args:
        checkpoint: A folder, `package:PKG/path` or a hub id; relative to the working directory.
        data: A file of rows, or a folder with one to train on; None for a public data set of the head's task.
        target: What the file that ships has to meet.
        path: The file that the recipe will be, whose folder its paths are relative to; None for the working directory.

    Raises:
        RecipeError: No recipe can be drafted, with the reason.
        StageError: The hub does not answer.
    """
    place = sources.model(checkpoint, Path.cwd(), CHECKPOINT)
    folder = hub.local(place, CHECKPOINT, download=True)
    assert folder is not None, "it was downloaded"
    given = checking.check(folder, CHECKPOINT)
    heads = Heads.of(given)
    future = path or Path.cwd() / "recipe.yaml"
    read = None if data is None else rows.read(data)
    found = stand_in.found(heads) if data is None or read is None else _found(data, read, heads, future)
    guess, trained = _with_head(found.guess, heads, given)
    tokens = lengths.measure(given, guess.texts, document.usual_length(guess.task))
    spread = f" Tokens of a row: half have at most {tokens.median}, 95 % {tokens.p95}, 99 % {tokens.p99}."
    written = Draft(
        name=_name(path.stem if path else _called(data or checkpoint)),
        model=_named(checkpoint, Path(sources.expanded(checkpoint)), future) if isinstance(place, Path) else checkpoint,
        files=dict(found.files),
        facts=(_checkpoint_fact(given, heads), found.fact + (spread if guess.texts else "")),
        guess=guess,
        rows=found.count,
        judged=found.judged,
        trained=trained,
        shape=Shape.of(given),
        lengths=tokens,
        target=target,
    )
    if read is not None:
        held_out.check(read, guess, written.held_out, heads.labels if trained else None)
    # What is on the hub is checked as far as its copy can be.
    here = () if isinstance(place, Path) else (f"model={json.dumps(str(folder))}",)
    return _that_validates(written, given, future, here)


def _found(data: str, read: Sample, heads: Heads, recipe: Path) -> Found:
    scored = vectors.draft(read, heads, lambda file: _named(data, file, recipe)) if vectors.wanted(heads) else None
    if scored is not None:
        return Found(scored.guess, scored.files, len(read.rows), scored.judged, _rows_fact(read, scored.guess))
    guess = task.guess(read, heads)
    files = {"train": _named(data, read.train, recipe)}
    if read.validation is not None and guess.task != MASKED_LM:
        files["validation"] = _named(data, read.validation, recipe)
        guess = guess.noting("validation", f"{ASSUMED}the rows to judge on, found beside those to train on")
    return Found(guess, files, len(read.rows), len(read.judged), _rows_fact(read, guess))


def _with_head(guess: Guess, heads: Heads, given: Checkpoint) -> tuple[Guess, bool]:
    """The guess with how the head's labels are called, and whether the checkpoint's own head is used."""
    head = TASKS[guess.task].HEAD
    if guess.task not in heads.tasks:
        why = given.fault(head) if given.claims(head) else None
        return guess.noting("head", f"The checkpoint's head cannot be used: {why}") if why else guess, False
    if not guess.counts:
        return guess, True
    fit = labels.fit(list(guess.counts), heads.labels)
    if not fit.fits:
        return guess.noting("head", f"{ASSUMED}{fit.assumed}"), False
    if fit.renamed:
        guess.data["labels"] = fit.renamed
    return guess.noting("labels", f"{ASSUMED}{fit.assumed}") if fit.assumed else guess, True


def _that_validates(draft: Draft, given: Checkpoint, path: Path, overrides: tuple[str, ...]) -> Drafted:
    """The first plan whose recipe `compress validate` takes."""
    new_head = None if draft.trained else len(draft.guess.counts) or 2
    geometry = Geometry.of(given, new_head, draft.guess.task == MASKED_LM)
    limits = Limits(geometry, _least_tokens(given), draft.lengths.limit)
    refusal: RecipeError | None = None
    for plan in plans.ladder(limits, draft.target):
        text = draft.text(plan, _expected(plan, limits, draft.target))
        found = _checked(path, overrides, text)
        if isinstance(found, Recipe):
            return Drafted(text, found, _assumed(text))
        refusal = found
    if draft.target != Budget():
        raise _impossible(draft, limits, path, overrides)
    assert refusal is not None, "there is a plan without a target"
    raise refusal


def _checked(path: Path, overrides: tuple[str, ...], text: str) -> Recipe | RecipeError:
    """What a text says; the error if its stages do not suit the checkpoint, and others may.

    Raises:
        RecipeError: The checkpoint or the rows do not validate, whatever the stages.
    """
    try:
        return resolve(path, overrides, text).recipe
    except RecipeError as error:
        if all(problem.where.startswith("stages") for problem in error.problems):
            return error
        raise RecipeError([replace(problem, line=0) for problem in error.problems]) from None


def _impossible(draft: Draft, limits: Limits, path: Path, overrides: tuple[str, ...]) -> RecipeError:
    """The error of a target that no plan meets: what the smallest or the fastest would be."""
    size = draft.target.size_bytes

    def first(fast: bool) -> Reduction:
        found = plans.smallest(limits, fast)
        able = (plan for plan in found if isinstance(_checked(path, overrides, draft.text(plan, "")), Recipe))
        return next(able, found[-1])

    plan, called = first(fast=False), "smallest"
    if size is None or plan.size_bytes(limits.geometry) <= size:
        plan, called = first(fast=True), "fastest"
    least = f"the {called} is {_expected_of(plan, limits)}"
    hint = "raise the limit, or start from a smaller checkpoint"
    return RecipeError([Problem(TARGET, f"cannot be met with this checkpoint: {least}", hint, kind="value")])


def _expected(plan: Reduction, limits: Limits, target: Budget) -> str:
    """What is estimated of the file that ships, as a comment."""
    timed = target.latency_ms is not None
    speed = f" {ASSUMED}{OPERATIONS_PER_S / 1e9:.0f} billion int8 operations a second; gates measure what it is."
    return f"Expected, by the shapes: {_expected_of(plan, limits, timed)}.{speed if timed else ''}"


def _expected_of(plan: Reduction, limits: Limits, timed: bool = True) -> str:
    left = plan.geometry(limits.geometry)
    size = f"about {_size(plan.size_bytes(limits.geometry))} in int8 ({left.parameters / 1e6:.3g} M parameters)"
    return f"{size}, about {left.latency_ms(limits.tokens):.2g} ms for {limits.tokens} tokens" if timed else size


def _size(count: int) -> str:
    """Bytes, rounded up: as a target, it is met."""
    return f"{ceil(count / 1e5) / 10} MB" if count >= 1e6 else f"{ceil(count / 1e3)} kB"


def _least_tokens(given: Checkpoint) -> int | None:
    """The fewest tokens that the tokenizer can be trimmed to; None where it cannot be."""
    try:
        found = tokenizers.bounds(given.path)
    except StageError:
        return None
    return None if found is None else found[0]


def _assumed(text: str) -> tuple[str, ...]:
    """The comments of a recipe on what may be otherwise."""
    found = re.findall(rf"# ({ASSUMED}.*(?:\n *# .*)*)", text)
    return tuple(re.sub(r"\n *# ", " ", comment) for comment in found)


def _checkpoint_fact(given: Checkpoint, heads: Heads) -> str:
    size = f"{given.num_hidden_layers} layers, {given.hidden_size} wide, {given.num_parameters / 1e6:.3g} M parameters"
    head = f"a head for {', '.join(heads.tasks)}" if heads.tasks else "no trained head"
    return f"Checkpoint: {given.family}, {size}, {given.vocab_size:,} tokens, {head}."


def _rows_fact(read: Sample, guess: Guess) -> str:
    count = len(read.rows)
    more = "" if read.whole else " (its first)"
    fact = f"Rows: {count:,} of {read.train.name}{more}."
    if guess.counts:
        total = sum(guess.counts.values())
        listed = [f"{name} {_percent(part / total)}" for name, part in guess.counts.most_common(_MOST_LISTED)]
        fact += f" Labels: {', '.join(listed)}{', …' if len(guess.counts) > _MOST_LISTED else ''}."
    return fact


def _named(given: str, found: Path, recipe: Path) -> str:
    """A path as the recipe names it: relative to its folder, unless it was given otherwise."""
    if given.startswith("package:"):
        return given
    if Path(sources.expanded(given)).is_absolute():
        return str(found.absolute())
    relative = os.path.relpath(found.absolute(), recipe.parent.resolve())
    return f"./{relative}" if relative.startswith(("~", "package:")) else relative


def _called(source: str) -> str:
    """What rows or a checkpoint are called: the folder's name where the file's says nothing."""
    path = Path(source.removeprefix("package:"))
    return path.parent.name if path.stem in ("train", "training", "data", "model") and path.parent.name else path.stem


def _name(stem: str) -> str:
    """A name for the recipe and its run's folder."""
    return re.sub(r"[^A-Za-z0-9._-]+", "_", stem).strip("._-")[:_LONGEST_NAME] or "draft"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.01 else "under 1 %"
