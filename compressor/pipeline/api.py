"""The Python API: `compressor.run`, `validate`, `plan`, `verify` and `compare`, as the commands of these names.

No function prints, handles signals or redirects a stream unless it is asked to show progress.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

from compressor.errors import CompressError, StageError, described
from compressor.recipe.resolve import resolve

if TYPE_CHECKING:
    from compressor.package.verify import Verification
    from compressor.pipeline.cache_state import StageState
    from compressor.progress import Progress
    from compressor.recipe.document import Recipe
    from compressor.report.comparison import Group
    from compressor.report.model import Report

AnyPath = str | os.PathLike[str]
_Given = ParamSpec("_Given")
_Result = TypeVar("_Result")


def _explained(function: Callable[_Given, _Result]) -> Callable[_Given, _Result]:
    """Raises what no one expected as a StageError with a cause: callers catch `CompressError` and nothing else."""

    @wraps(function)
    def explained(*args: _Given.args, **kwargs: _Given.kwargs) -> _Result:
        try:
            return function(*args, **kwargs)
        except CompressError:
            raise
        except Exception as error:
            raise StageError(described(error)) from error

    return explained


@_explained
def run(
    recipe: AnyPath,
    *,
    overrides: Sequence[str] = (),
    artifacts: AnyPath = "artifacts",
    until: str | None = None,
    fresh: bool = False,
    baseline: AnyPath | None = None,
    progress: bool = False,
) -> Report:
    """Builds, measures and judges every stage of a recipe, as `compress run` does.

    Args:
        recipe: The recipe's file.
        overrides: Values that replace those of the file, such as `stages.distill.epochs=2`.
        artifacts: Folder of the run's folder, which is named after the recipe, and of the store.
        until: Name of the last stage to run; None for all.
        fresh: Rebuild this recipe's stages, ignoring the store.
        baseline: Another run's folder, whose model the last stage is compared with.
        progress: Show progress on the standard error.

    Returns:
        The report. Its `verdict` is `pass`, `fail` or `inconclusive`: a failed gate is a result, not an exception.

    Raises:
        RecipeError: The recipe, its data or an argument is wrong; `problems` lists all of them.
        StageError: A stage or a measurement could not be finished.
    """
    from compressor.measure.client import Client
    from compressor.pipeline import session, writable

    resolved = resolve(Path(recipe), tuple(overrides))
    other = None if baseline is None else Path(baseline)
    options = session.Options(Path(artifacts), until=until, fresh=fresh, baseline=other)
    writable.check(options.artifacts, resolved.recipe.name)
    with _environment_restored(), _progress(progress) as shown, Client() as client:
        return session.run(resolved, options, client, shown)


@_explained
def validate(recipe: AnyPath, overrides: Sequence[str] = ()) -> Recipe:
    """Checks a recipe and everything it points to, as `compress validate` does.

    Args:
        recipe: The recipe's file.
        overrides: Values that replace those of the file.

    Returns:
        The recipe.

    Raises:
        RecipeError: The recipe is wrong; `problems` lists every mistake.
    """
    return resolve(Path(recipe), tuple(overrides)).recipe


@dataclass(frozen=True)
class Planned:
    """The stages that a run would build, and why.

    Attributes:
        model: The checkpoint, as the recipe names it.
        downloaded: Whether the checkpoint is here; if not, all keys change once it is.
        stages: The state of each stage, in order.
    """

    model: str
    downloaded: bool
    stages: list[StageState]


@_explained
def plan(recipe: AnyPath, *, overrides: Sequence[str] = (), artifacts: AnyPath = "artifacts") -> Planned:
    """Lists the stages that a run would build, as `compress plan` does; reads the store and changes nothing.

    Args:
        recipe: The recipe's file.
        overrides: Values that replace those of the file.
        artifacts: Folder of the run's folder and of the store.

    Raises:
        RecipeError: The recipe is wrong; `problems` lists every mistake.
    """
    from compressor.pipeline import cache_state, lock, session
    from compressor.pipeline import plan as plans
    from compressor.pipeline.store import Store
    from compressor.report.files import LOCK_FILE

    resolved = resolve(Path(recipe), tuple(overrides))
    with _environment_restored():
        session.set_environment()
        made = plans.make(resolved, download=False)
    store = Store(Path(artifacts) / ".store")
    locked = lock.read(Path(artifacts) / resolved.recipe.name / LOCK_FILE)
    stages = [cache_state.state(stage, store, locked) for stage in made.stages]
    return Planned(resolved.recipe.model, made.model is not None, stages)


@_explained
def verify(
    folder: AnyPath,
    *,
    allowed_signers: AnyPath | None = None,
    identity: str | None = None,
    devices: Sequence[str] = (),
    progress: bool = False,
) -> Verification:
    """Checks a folder that ships, without the training data, as `compress verify` does.

    Args:
        folder: A run's folder, or its `model/`.
        allowed_signers: File of those of whom one has to have signed the manifest; None to ask for no signature.
        identity: The one of them that has to have signed; None for any.
        devices: Names of devices of its report whose answers and times are checked, too.
        progress: Show progress on the standard error.

    Raises:
        RecipeError: It is neither, or a device is not in the report.
        StageError: A signature is asked for, and ssh-keygen is not installed.
    """
    from compressor.measure.client import Client
    from compressor.package import verify as verification
    from compressor.package.signature import Signers

    signers = None if allowed_signers is None else Signers(Path(allowed_signers), identity)
    with _progress(progress) as shown, Client() as client:
        return verification.verify(Path(folder), client, shown, signers, devices)


@_explained
def compare(paths: Sequence[AnyPath], *, every_stage: bool = False) -> list[Group]:
    """Compares runs with each other, as `compress compare` does; a group for each task.

    Args:
        paths: Runs' folders, or their report.json.
        every_stage: Compare the results of every stage, not only those of the last.

    Raises:
        RecipeError: A path is not a run; `problems` lists all of them.
    """
    from compressor.report import comparison

    return comparison.compare([Path(path) for path in paths], every_stage)


@contextmanager
def _progress(shown: bool) -> Iterator[Progress]:
    from compressor.progress import Progress, console

    with Progress(console(sys.stderr, quiet=not shown)) as progress:
        yield progress


@contextmanager
def _environment_restored() -> Iterator[None]:
    """Undoes changes of environment variables: a run sets some for its libraries and processes."""
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)
