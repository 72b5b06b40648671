"""A model of fewer tokens."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch

from compressor.models.parts import VOCABULARY, ModelParts, cut


def with_tokens(whole: ModelParts, sources: torch.Tensor) -> ModelParts:
    """A model whose tokens have new ids: rows of the embeddings, and of a language model's output, are chosen.

    Args:
        whole: The model.
        sources: For each new id, the old one whose row it takes. `(tokens,)`

    Returns:
        A model that gives the same logits for the same tokens under their new ids.
    """
    outside = {name: cut(name, tensor, {VOCABULARY: sources}) for name, tensor in whole.outside.items()}
    config = copy.deepcopy(whole.config)
    new_ids = {old: new for new, old in reversed(list(enumerate(sources.tolist())))}
    for name in ("pad", "bos", "eos", "cls", "sep", "mask", "unk"):
        if isinstance(old := getattr(config, f"{name}_token_id", None), int):
            setattr(config, f"{name}_token_id", new_ids.get(old))
    return replace(whole, outside=outside, config=config)
