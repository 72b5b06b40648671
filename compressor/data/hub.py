"""The only module that talks to the network, and only for ids that the recipe names."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compressor.data.hub_files import DataFiles
from compressor.data.sources import HubModel
from compressor.data.spec import HubDataset
from compressor.errors import CompressError, Problem, RecipeError, StageError, suggest
from compressor.files import write_atomic
from compressor.models.checkpoint import MODEL_FILES, PICKLED_WEIGHTS, root
from compressor.models.weights import weight_files

if TYPE_CHECKING:
    from datasets import Dataset

_NO_OPTIONS = ("name", "version", "data_dir", "data_files", "description", "features")
"""Fields of a reader's config that say what is read, not how."""


def local(model: Path | HubModel, where: str, download: bool) -> Path | None:
    """The folder of a model: its own, or the local copy of a hub model, in a folder that is named by the commit.

    Args:
        model: A folder, or id and revision.
        where: The recipe's key that names it, for errors.
        download: Fetch it if it is not there.

    Returns:
        Its folder; None when it is not there and `download` is false.

    Raises:
        RecipeError: The hub has no such model, or does not show it to us.
        StageError: The hub does not answer, and there is no copy.
    """
    if isinstance(model, Path):
        return model
    from huggingface_hub import snapshot_download

    def copy(local_files_only: bool) -> Path:
        given = {"revision": model.revision, "local_files_only": local_files_only}
        folder = Path(snapshot_download(model.repo, allow_patterns=list(MODEL_FILES), **given))
        if not weight_files(root(folder)):
            snapshot_download(model.repo, allow_patterns=list(PICKLED_WEIGHTS), **given)
        return root(folder)

    if download:
        try:
            return copy(local_files_only=False)
        except Exception as error:
            if not _unreachable(error):
                raise _problem("model", model.repo, model.revision, where, error) from error
            unreachable = error
    try:
        return copy(local_files_only=True)
    except Exception:
        if download:
            raise _problem("model", model.repo, model.revision, where, unreachable) from unreachable
        return None


def resolve(dataset: HubDataset, where: str, online: bool) -> tuple[HubDataset, str] | None:
    """A data set at the commit that its revision stands for now, and the digest of what is read of it.

    Args:
        dataset: The data set.
        where: The recipe's key that names it, for errors.
        online: Ask the hub; else only what was found before is known.

    Returns:
        The data set at its commit, and the SHA-256; None when that is not known without the network.

    Raises:
        RecipeError: The hub has no such data set, or does not show it to us, or it has no such split.
        StageError: The hub does not answer, and it was not resolved before.
    """
    found = _recorded(dataset)
    if online:
        try:
            found = _resolved(dataset)
        except Exception as error:
            if found is None or not _unreachable(error):
                raise _problem("data set", dataset.hub, dataset.revision, where, error) from error
    if found is None:
        return None
    if not found.names(dataset.split):
        what = f"{dataset.hub} has no split {dataset.split!r}"
        raise RecipeError([Problem(f"{where}.split", what, suggest(dataset.split, list(found.splits)), kind="unknown")])
    return dataset.model_copy(update={"revision": found.commit}), found.digest(dataset.split)


def rows(dataset: HubDataset, where: str, work: Path) -> Dataset:
    """The rows of a data set; its files are downloaded where they are not here yet.

    Args:
        dataset: The data set, at a commit.
        where: The recipe's key that names it, for errors.
        work: Folder for intermediate files.

    Raises:
        CompressError: As of `resolve`.
    """
    from huggingface_hub import hf_hub_download

    try:
        files = _at_commit(dataset)
        places = {
            path: hf_hub_download(dataset.hub, path, repo_type="dataset", revision=files.commit)
            for name in files.names(dataset.split)
            for path in files.splits[name]
        }
        builder = files.builder(dataset.split, places, work / "read")
    except Exception as error:
        raise _problem("data set", dataset.hub, dataset.revision, where, error) from error
    builder.download_and_prepare()
    return builder.as_dataset(split=dataset.split)


def stream(dataset: HubDataset, where: str) -> Iterator[dict[str, Any]]:
    """The rows of a data set in its order, fetched while they are read; class labels by name, None if missing.

    Args:
        dataset: The data set, at a commit.
        where: The recipe's key that names it, for errors.

    Raises:
        CompressError: As of `resolve`.
    """
    from datasets import ClassLabel

    try:
        files = _at_commit(dataset)
        folder = f"hf://datasets/{dataset.hub}@{files.commit}/"
        places = {path: folder + path for entry in files.splits.values() for path in entry}
        found = files.builder(dataset.split, places, None).as_streaming_dataset(split=dataset.split)
        features = (found.features or {}).items()
        names = {name: feature for name, feature in features if isinstance(feature, ClassLabel)}
        for row in found:
            labels = {
                name: feature.int2str(row[name]) if row[name] is not None and row[name] >= 0 else None
                for name, feature in names.items()
            }
            yield {**row, **labels}
    except Exception as error:
        raise _problem("data set", dataset.hub, dataset.revision, where, error) from error


def _at_commit(dataset: HubDataset) -> DataFiles:
    return _recorded(dataset) or _resolved(dataset)


def _resolved(dataset: HubDataset) -> DataFiles:
    """Asks the hub for the files of a data set, and notes them for later runs."""
    from huggingface_hub import HfApi

    commit = str(HfApi().dataset_info(dataset.hub, revision=dataset.revision).sha)
    pinned = dataset.model_copy(update={"revision": commit})
    files = _recorded(pinned) or _read_card(pinned, commit)
    for entry in (dataset, pinned):
        write_atomic(_record(entry), json.dumps(dataclasses.asdict(files)))
    return files


def _read_card(dataset: HubDataset, commit: str) -> DataFiles:
    """Has `datasets` find the reader of a data set and the files of its splits, and asks for the files' digests."""
    from datasets import load_dataset_builder
    from huggingface_hub import HfApi
    from huggingface_hub.hf_api import RepoFile

    # With the prefix, a folder of this name in the working directory is not taken for it.
    builder = load_dataset_builder(f"hf://datasets/{dataset.hub}", dataset.name, revision=commit)
    given = builder.config.data_files
    if given is None:  # `datasets` falls back on the last rows that it has read, of whatever commit
        raise ConnectionError(f"{dataset.hub} could not be read at {commit}")
    plain = type(builder.config)()
    options = {
        field.name: value
        for field in dataclasses.fields(builder.config)
        if field.name not in _NO_OPTIONS
        and (value := getattr(builder.config, field.name)) != getattr(plain, field.name)
    }
    tree = HfApi().list_repo_tree(dataset.hub, repo_type="dataset", revision=commit, recursive=True)
    digests = {
        entry.path: entry.lfs.sha256 if entry.lfs else entry.blob_id for entry in tree if isinstance(entry, RepoFile)
    }
    folder = f"hf://datasets/{dataset.hub}@{commit}/"
    paths = {str(name): [url.removeprefix(folder) for url in urls] for name, urls in given.items()}
    splits = {name: {path: digests[path] for path in entry} for name, entry in paths.items()}
    features = None if builder.info.features is None else builder.info.features.to_dict()
    return DataFiles(commit, type(builder).__module__, options, features, splits)


def _recorded(dataset: HubDataset) -> DataFiles | None:
    """What was found of a data set and revision before."""
    try:
        return DataFiles(**json.loads(_record(dataset).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _record(dataset: HubDataset) -> Path:
    """The file that keeps what was found of a data set and revision, in the hub's cache."""
    from datasets import __version__
    from huggingface_hub import cached_assets_path, constants

    named = [constants.ENDPOINT, __version__, dataset.hub, dataset.name, dataset.revision]
    folder: Path = cached_assets_path("compressor", namespace="datasets")
    return folder / f"{hashlib.sha256(json.dumps(named).encode()).hexdigest()}.json"


def _unreachable(error: Exception) -> bool:
    """Whether it is the network's or the hub's fault, not the recipe's."""
    from huggingface_hub import errors

    if isinstance(error, errors.HfHubHTTPError):
        return error.response is None or error.response.status_code >= 500
    return isinstance(error, errors.HTTPError | ConnectionError | TimeoutError)


def _problem(what: str, name: str, revision: str | None, where: str, error: Exception) -> CompressError:
    """The message for what went wrong: of the recipe where the hub has no such thing, else of the run."""
    from datasets.exceptions import DatasetsError
    from huggingface_hub import errors

    lines = [line for line in map(str.strip, str(error).splitlines()) if line]
    first = lines[0] if lines else type(error).__name__
    if isinstance(error, CompressError):
        return error
    if isinstance(error, errors.GatedRepoError):
        said = f"{what} {name} is on the hub for those only who have accepted its terms"
        return RecipeError([Problem(where, said, "accept them on its page, then: hf auth login", kind="not_found")])
    if isinstance(error, errors.RepositoryNotFoundError):
        said = f"there is no {what} {name} on the hub, or it is private"
        return RecipeError([Problem(where, said, "check the name; for a private one: hf auth login", kind="not_found")])
    if isinstance(error, errors.RevisionNotFoundError):
        said = f"{what} {name} has no revision {revision!r}"
        return RecipeError([Problem(where, said, "allowed: a commit, a tag or a branch", kind="not_found")])
    if isinstance(error, errors.HFValidationError):
        return RecipeError([Problem(where, f"{name!r} is no id on the hub: {first}", "such as org/name")])
    absent = isinstance(error, FileNotFoundError) and not isinstance(error, errors.LocalEntryNotFoundError)
    if absent or (isinstance(error, DatasetsError | ValueError | RuntimeError) and not _unreachable(error)):
        said = f"{what} {name} cannot be read: {first}"
        return RecipeError([Problem(where, said, "check its name, split and files", kind="unreadable")])
    if type(error) in (OSError, PermissionError):
        return StageError(
            f"{where}: {what} {name} cannot be kept: {error}\n  HF_HOME names the folder of the hub's cache"
        )
    return StageError(
        f"{where}: {what} {name} cannot be fetched from the hub: {first}\n"
        f"  check the network (and that HF_HUB_OFFLINE is not set), or download it once and give the local path"
    )
