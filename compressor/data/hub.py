"""The only module that talks to the network, and only for ids that the recipe names."""

from __future__ import annotations

from pathlib import Path

from compressor.checkpoint import MODEL_FILES
from compressor.data.sources import HubModel
from compressor.errors import CompressError
from compressor.recipe import HubDataset


def model_folder(model: HubModel, download: bool) -> Path | None:
    """The local copy of a hub model.

    Args:
        model: Id and revision.
        download: Fetch it if it is not there.

    Returns:
        Its folder, named by the commit; None when it is not there and is not to be fetched.

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


def _reason(what: str, name: str, error: Exception) -> str:
    first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    return (
        f"{what} {name} cannot be fetched from the hub: {first}\n"
        f"  check the name and the network, or download it once and give the local path"
    )
