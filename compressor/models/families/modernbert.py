"""ModernBERT: rotary positions, attention within a window in most layers, gated feed-forward blocks, few biases.

Source: Warner et al. 2024, "Smarter, Better, Faster, Longer: A Modern Bidirectional Encoder" (arXiv 2412.13663).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from compressor.models.families.base import Family, Shapes, dense, norm

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_LAYER = "model.layers.{}"
_KINDS = ("full_attention", "sliding_attention")
_POOLINGS = ("cls", "mean")
_BY_LENGTH = ("dynamic", "longrope")
"""Kinds of rotary positions that no graph for all lengths has."""
_PRODUCTS = ("attn.Wqkv", "attn.Wo", "mlp.Wi", "mlp.Wo")


def _tensors(config: Mapping[str, Any]) -> Shapes:
    hidden, inner = (int(FAMILY.setting(config, name)) for name in ("hidden_size", "intermediate_size"))
    of_attention, of_mlp, of_norms = (
        bool(config.get(name, False)) for name in ("attention_bias", "mlp_bias", "norm_bias")
    )
    found = {
        "model.embeddings.tok_embeddings.weight": (int(FAMILY.setting(config, "vocab_size")), hidden),
        **norm("model.embeddings.norm", hidden, of_norms),
        **norm("model.final_norm", hidden, of_norms),
    }
    for number in range(int(FAMILY.setting(config, "num_hidden_layers"))):
        layer = _LAYER.format(number)
        for part in ("attn_norm", "mlp_norm") if number else ("mlp_norm",):
            found |= norm(f"{layer}.{part}", hidden, of_norms)
        found |= dense(f"{layer}.attn.Wqkv", 3 * hidden, hidden, of_attention)
        found |= dense(f"{layer}.attn.Wo", hidden, hidden, of_attention)
        found |= dense(f"{layer}.mlp.Wi", 2 * inner, hidden, of_mlp) | dense(f"{layer}.mlp.Wo", hidden, inner, of_mlp)
    return found


def _left_out(config: Mapping[str, Any]) -> tuple[str, ...]:
    biases = {
        "head.dense.bias": config.get("classifier_bias", False),
        "head.norm.bias": config.get("norm_bias", False),
        "decoder.bias": config.get("decoder_bias", True),
    }
    return tuple(name for name, there in biases.items() if not there)


def _unsupported(config: Mapping[str, Any]) -> str | None:
    of_layers, layers = config.get("layer_types"), FAMILY.setting(config, "num_hidden_layers")
    if of_layers is not None and not (
        isinstance(of_layers, list) and len(of_layers) == layers and all(kind in _KINDS for kind in of_layers)
    ):
        return f"layer_types: {of_layers}; it has to be a list with {' or '.join(_KINDS)} for each of {layers} layers"
    if (pooling := config.get("classifier_pooling", "cls")) not in _POOLINGS:
        return f"classifier_pooling: {pooling}; there are {' and '.join(_POOLINGS)}"
    of_kinds, of_all = config.get("rope_parameters") or {}, config.get("rope_scaling") or {}
    given = [*of_kinds.values(), of_all] if isinstance(of_kinds, dict) else [of_kinds]
    if wrong := [each for each in given if not isinstance(each, dict)]:
        return f"rope_parameters or rope_scaling: {wrong[0]}, which is no mapping"
    if wrong := [kind for each in given if (kind := each.get("rope_type", each.get("type"))) in _BY_LENGTH]:
        return f"rope_type: {wrong[0]}, by which places of tokens depend on the length of their text"
    return None


def _masks(config: Any, mask: torch.Tensor, dtype: torch.dtype, least: float) -> dict[str, Any]:
    """The mask of layers that see all, and of those that see a window; and the places of tokens.

    A padded position sees itself: beyond the window of all tokens it would see nothing, and half precision has no
    softmax of that.
    """
    places = (mask[:1] * 0 + 1).cumsum(1) - 1
    apart = (places[:, None, None, :] - places[:, None, :, None]).abs()
    hidden = (mask[:, None, None, :] == 0).to(dtype)
    far, other = (apart > int(config.sliding_window)).to(dtype), (apart > 0).to(dtype)
    of_kinds = {"full_attention": hidden * least, "sliding_attention": (hidden * other + far).clamp(max=1) * least}
    return {"attention_mask": of_kinds, "position_ids": places}


def _prepare(model: PreTrainedModel, least: float) -> None:
    """Cuts in places that are known, where its classes compute them for every text; turns queries and keys as one."""
    for layer in model.base_model.layers:
        layer.attn.forward, layer.mlp.forward = partial(_attend, layer.attn), partial(_gated, layer.mlp)


def _gated(block: Any, states: torch.Tensor) -> torch.Tensor:
    """A feed-forward block with gates: Shazeer 2020, "GLU Variants Improve Transformer" (arXiv 2002.05202), eq. 6."""
    both, width = block.Wi(states), block.config.intermediate_size
    found: torch.Tensor = block.Wo(block.act(both[..., :width]) * both[..., width:])
    return found


def _attend(
    attention: Any,
    states: torch.Tensor,
    position_embeddings: tuple[torch.Tensor, torch.Tensor],
    attention_mask: torch.Tensor,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """Attention with rotary positions.

    Args:
        attention: The block.
        states: `(batch, sequence, hidden)`.
        position_embeddings: Cosines and sines of the places' angles, twice. `(1, sequence, width)` each
        attention_mask: What is added to scores.

    Returns:
        The states that were attended to, and no probabilities.

    Source: Su et al. 2021, "RoFormer" (arXiv 2104.09864), section 3.2.2, eq. 34; a pair is a channel of the one half
        and the same of the other.
    """
    import torch
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
    from transformers.models.modernbert.modeling_modernbert import eager_attention_forward

    config, width = attention.config, attention.head_dim
    heads, half = config.num_attention_heads, attention.head_dim // 2
    every = attention.Wqkv(states).view(*states.shape[:-1], 3 * heads, width).transpose(1, 2)
    cosine, sine = (table[:, None, :, :half] for table in position_embeddings)
    first, second = every[:, : 2 * heads, :, :half], every[:, : 2 * heads, :, half:]
    turned = torch.cat((first * cosine - second * sine, second * cosine + first * sine), dim=-1)
    attend = ALL_ATTENTION_FUNCTIONS.get_interface(config._attn_implementation, eager_attention_forward)
    found, _ = attend(
        attention,
        turned[:, :heads],
        turned[:, heads:],
        every[:, 2 * heads :],
        attention_mask,
        scaling=width**-0.5,
        dropout=0.0,
    )
    return attention.Wo(found.reshape(*states.shape[:-1], heads * width)), None


FAMILY = Family(
    model_type="modernbert",
    prefix="ModernBert",
    inputs=("input_ids", "attention_mask"),
    outside={
        "word": "model.embeddings.tok_embeddings",
        "embedding_norm": "model.embeddings.norm",
        "pooler": "head.dense",
        "classifier": "classifier",
        "transform": "head.dense",
        "transform_norm": "head.norm",
        "decoder": "decoder",
    },
    of_head={"ForQuestionAnswering": {"span": "classifier"}},
    inside={},
    stacks=(_LAYER,) * 2,
    head_tensors=("head.", "classifier.", "decoder."),
    language_head="head",
    config_names={
        "hidden_act": "hidden_activation",
        "attention_probs_dropout_prob": "attention_dropout",
        "layer_norm_eps": "norm_eps",
    },
    defaults={
        "vocab_size": 50368,
        "hidden_size": 768,
        "num_hidden_layers": 22,
        "num_attention_heads": 12,
        "intermediate_size": 1152,
        "max_position_embeddings": 8192,
        "pad_token_id": 50283,
        "local_attention": 128,
        "global_attn_every_n_layers": 3,
    },
    tensors=_tensors,
    matrices=_PRODUCTS,
    left_out=_left_out,
    layer_settings=("layer_types",),
    keeps_first=True,
    padding_varies=True,
    unsupported=_unsupported,
    prepare=_prepare,
    masks=_masks,
)
