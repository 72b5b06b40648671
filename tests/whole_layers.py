"""Tiny models of the families whose layers can only be taken as they are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from conftest import MAX_POSITIONS, make_tokenizer
from tiny_models import class_named, with_random_vectors

PREFIXES = ("MPNet", "DebertaV2", "ModernBert")
FAMILY = {"MPNet": "mpnet", "DebertaV2": "deberta-v2", "ModernBert": "modernbert"}
WINDOW = 8
"""Of ModernBERT's local attention; texts of the tests are longer."""
_PAD, _CLS, _SEP = 0, 2, 3
_OWN: dict[str, dict[str, Any]] = {
    "MPNet": {"max_position_embeddings": MAX_POSITIONS + 2, "pad_token_id": 1},
    "DebertaV2": {
        "max_position_embeddings": MAX_POSITIONS,
        "relative_attention": True,
        "pos_att_type": ["p2c", "c2p"],
        "position_buckets": 8,
        "norm_rel_ebd": "layer_norm",
        "share_att_key": True,
        "position_biased_input": False,
    },
    "ModernBert": {
        "max_position_embeddings": MAX_POSITIONS,
        "local_attention": WINDOW,
        "pad_token_id": _PAD,
        **{"cls_token_id": _CLS, "bos_token_id": _CLS, "sep_token_id": _SEP, "eos_token_id": _SEP},
    },
}


def make(prefix: str, head: str, **values: Any) -> Any:
    """Random, in eval mode, with biases and norms that are random too."""
    torch.manual_seed(3)
    sizes = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 64}
    given = {"vocab_size": len(make_tokenizer()), "initializer_range": 0.2, **sizes, **_OWN[prefix], **values}
    config = getattr(transformers, f"{prefix}Config")(**given)
    return with_random_vectors(class_named(f"{prefix}{head}", config)(config).eval())


def save(folder: Path, prefix: str, head: str, **values: Any) -> Path:
    """As transformers saves it, without this package."""
    make(prefix, head, **values).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def rows(length: int, padding: int) -> dict[str, torch.Tensor]:
    """Rows of one length: whole, and padded on the right, on the left, inside."""
    masks = torch.ones(4, length, dtype=torch.long)
    half = length // 2
    masks[1, length - half :], masks[2, :half], masks[3, 1::3] = 0, 0, 0
    ids = torch.randint(5, 60, (4, length), generator=torch.Generator().manual_seed(0))
    return {"input_ids": torch.where(masks > 0, ids, padding), "attention_mask": masks}


def answers(outputs: Any, mask: torch.Tensor) -> list[torch.Tensor]:
    """The outputs of tokens that are not padding."""
    inside = mask.bool()
    found = [
        torch.as_tensor(outputs[name])
        for name in ("logits", "start_logits", "end_logits", "sentence_embedding", "token_embeddings")
        if name in outputs
    ]
    return [output if output.shape[:2] != inside.shape else output[inside] for output in found]
