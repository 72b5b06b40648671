"""Metadata of an ONNX file: its task, the names of its labels, and its origin."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from compressor import __version__

PRODUCER = "bert-compressor"


def describe(path: Path, task: str, labels: Sequence[str], recipe: str, digest: str) -> None:
    """Writes the metadata of an ONNX file, in place; the same again for the same arguments.

    `task`, `labels` (a JSON list in the order of the outputs; only where the head has names for them), `recipe`,
    `recipe_digest` and `compressor_version`: whoever loads the file reads them with `get_modelmeta()`.

    Args:
        path: The .onnx file.
        task: What it does.
        labels: Names of the head's outputs.
        recipe: The recipe's name.
        digest: Stands for everything that decides what is in the file, see `compressor.training.context`.
    """
    import onnx

    model = onnx.load(str(path))
    model.producer_name, model.producer_version = PRODUCER, __version__
    entries = {
        "task": task,
        **({"labels": json.dumps(list(labels), ensure_ascii=False)} if labels else {}),
        "recipe": recipe,
        "recipe_digest": digest,
        "compressor_version": __version__,
    }
    onnx.helper.set_model_props(model, entries)
    onnx.save(model, str(path))
