"""A tiny model of every kind that can be quantized, exported."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from conftest import MAX_POSITIONS, make_config
from running import SESSION
from tiny_models import other_config

from compressor.runtimes import onnxruntime as onnx_runtime
from compressor.runtimes import tracing

LAYERS = 4
KINDS = [
    (family, head)
    for head in ("SequenceClassification", "MaskedLM")
    for family in ("bert", "distilbert", "albert", "shared_attention", "pruned")
]


def make_model(family: str, head: str = "SequenceClassification", layers: int = LAYERS) -> Any:
    """Random, with biases that are not zero; two models of one family are alike."""
    from compressor.models.convert import from_parts, to_parts
    from compressor.models.surgery import prune, pruning_widths
    from compressor.models.surgery.share_layers import Sharing, share

    torch.manual_seed(0)
    plain = make_config(num_hidden_layers=layers, initializer_range=0.2)
    distil = transformers.DistilBertConfig(
        vocab_size=plain.vocab_size,
        n_layers=layers,
        n_heads=4,
        dim=32,
        hidden_dim=64,
        max_position_embeddings=MAX_POSITIONS,
        initializer_range=0.2,
    )
    config = distil if family == "distilbert" else plain
    if family in ("roberta", "electra"):
        config = other_config(family.capitalize(), plain)
    model = getattr(transformers, f"AutoModelFor{head}").from_config(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.2)
    if family == "albert":
        model = share(model, Sharing("all", 2, layers), [0, layers // 2])
    elif family == "shared_attention":
        model = share(model, Sharing("attention", 1, layers), [1])
    elif family == "pruned":
        whole = to_parts(model)
        left = pruning_widths.after(whole.heads, whole.neurons, (0.25, 0.4), "global")
        model = from_parts(prune.pruned(whole, prune.choose(prune.magnitudes(whole), left, "global")))
    return model.eval()


@contextmanager
def loaded(model: Any) -> Iterator[None]:
    """Exporters find this model, whatever checkpoint they are given."""

    def load(source: Path, attention: str, masked: float | None = None, **_: bool) -> tracing.Traceable:
        model.set_attn_implementation(attention)
        return tracing.Traceable(model, masked).eval()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tracing, "load", load)
        yield


def export_anew(model: Any, folder: Path) -> Path:
    """The model's float graph, as our export writes it."""
    with loaded(model):
        onnx_runtime.export(folder, folder / "model.onnx")
    return folder / "model.onnx"


def export(model: Any, folder: Path) -> Path:
    """The same from the session's exports, since many tests start from equal models: each is exported once."""
    digest = hashlib.sha256(type(model).__name__.encode() + model.config.to_json_string(use_diff=False).encode())
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype}".encode())
        digest.update(tensor.detach().contiguous().numpy().tobytes())
    kept = Path(os.environ[SESSION]) / "exports" / f"{digest.hexdigest()}.onnx"
    if not kept.is_file():
        kept.parent.mkdir(exist_ok=True)
        shutil.copy(export_anew(model, folder), folder / "copy.onnx")
        (folder / "copy.onnx").rename(kept)
    return Path(shutil.copy(kept, folder / "model.onnx"))


def rows(model: Any, count: int = 6) -> list[dict[str, np.ndarray]]:
    """Rows of random tokens of different lengths, one to a batch; some of them padded."""
    random = np.random.default_rng(0)
    names = tracing.Traceable(model).input_names
    found = []
    for index in range(count):
        ids = random.integers(5, 60, (1, 4 + 5 * index))
        mask = np.ones_like(ids)
        mask[:, ids.shape[1] - index % 3 :] = 0 if index % 3 else 1
        inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": (np.arange(ids.shape[1]) > 3)[None] * 1}
        found.append({name: inputs[name] for name in names})
    return found
