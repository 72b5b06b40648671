"""The only module that talks to the network, and only for ids that the recipe names."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from compressor.data.sources import HubModel
from compressor.data.spec import HubDataset
from compressor.errors import CompressError
from compressor.models.checkpoint import MODEL_FILES


def local(model: Path | HubModel, download: bool) -> Path | None:
    """The folder of a model: its own, or the local copy of a hub model as `model_folder` gives it."""
    return model if isinstance(model, Path) else model_folder(model, download)


def model_folder(model: HubModel, download: bool) -> Path | None:
    """The local copy of a hub model.

    Args:
        model: Id and revision.
        download: Fetch it if it is not there.

    Returns:
        Its folder, named by the commit; None when it is not there and `download` is false.

    Raises:
        CompressError: It cannot be fetched.
    """
    from huggingface_hub import snapshot_download

    try:
        return Path(
            snapshot_download(
                model.repo,
                revision=model.revision,
                allow_patterns=list(MODEL_FILES),
                local_files_only=not download,
            )
        )
    except Exception as error:
        if not download:
            return None
        raise CompressError(_reason("model", model.repo, error)) from error


def dataset_commit(dataset: HubDataset, online: bool) -> str | None:
    """The commit that a data set's revision stands for; None when that is not known without the network.

    Raises:
        CompressError: The hub does not answer, or has no such data set.
    """
    if not online:
        return None
    from huggingface_hub import HfApi

    try:
        return str(HfApi().dataset_info(dataset.hub, revision=dataset.revision).sha)
    except Exception as error:
        raise CompressError(_reason("data set", dataset.hub, error)) from error


def stream(dataset: HubDataset) -> Iterator[dict[str, Any]]:
    """The rows of a data set in its order, fetched while they are read; class labels by name, None if missing.

    Raises:
        CompressError: The hub does not answer, or has no such data set or split.
    """
    from datasets import ClassLabel, load_dataset

    try:
        rows = load_dataset(dataset.hub, dataset.name, split=dataset.split, revision=dataset.revision, streaming=True)
        features = (rows.features or {}).items()
        names = {name: feature for name, feature in features if isinstance(feature, ClassLabel)}
        for row in rows:
            labels = {
                name: feature.int2str(row[name]) if row[name] is not None and row[name] >= 0 else None
                for name, feature in names.items()
            }
            yield {**row, **labels}
    except Exception as error:
        raise CompressError(_reason("data set", dataset.hub, error)) from error


def _reason(what: str, name: str, error: Exception) -> str:
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return (
        f"{what} {name} cannot be fetched from the hub: {first}\n"
        f"  check the name and the network, or download it once and give the local path"
    )
