"""DeBERTa-v2 and -v3: attention that adds products of contents with distances, and of distances with contents.

Source: He et al. 2021, "DeBERTa: Decoding-enhanced BERT with Disentangled Attention" (arXiv 2006.03654), and its v3
(arXiv 2111.09543).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

from compressor.models.families.base import Family, Shapes, dense, norm

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

_LAYER = "deberta.encoder.layer.{}"
_INSIDE = {
    "query": "attention.self.query_proj",
    "key": "attention.self.key_proj",
    "value": "attention.self.value_proj",
    "attention_output": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "feed_forward_norm": "output.LayerNorm",
}
_OF_DISTANCES = {"c2p": "attention.self.pos_key_proj", "p2c": "attention.self.pos_query_proj"}


def _kinds(config: Mapping[str, Any]) -> tuple[str, ...]:
    """The products with distances that a config asks for."""
    kinds = config.get("pos_att_type") or ()
    return tuple(part.strip() for part in kinds.lower().split("|")) if isinstance(kinds, str) else tuple(kinds)


def _distances(config: Mapping[str, Any]) -> int:
    """Distances, or ranges of them, that it tells apart to one side."""
    most = int(config.get("max_relative_positions", -1))
    buckets = int(config.get("position_buckets", -1))
    return buckets if buckets > 0 else most if most > 0 else int(FAMILY.setting(config, "max_position_embeddings"))


def _tensors(config: Mapping[str, Any]) -> Shapes:
    hidden, inner = (int(FAMILY.setting(config, name)) for name in ("hidden_size", "intermediate_size"))
    embedding = int(config.get("embedding_size", hidden))
    relative = bool(config.get("relative_attention", False))
    found: Shapes = {
        "deberta.embeddings.word_embeddings.weight": (int(FAMILY.setting(config, "vocab_size")), embedding),
        **norm("deberta.embeddings.LayerNorm", hidden),
    }
    if config.get("position_biased_input", True):
        rows = int(FAMILY.setting(config, "max_position_embeddings"))
        found["deberta.embeddings.position_embeddings.weight"] = (rows, embedding)
    if types := int(config.get("type_vocab_size", 0)):
        found["deberta.embeddings.token_type_embeddings.weight"] = (types, embedding)
    if embedding != hidden:
        found |= dense("deberta.embeddings.embed_proj", hidden, embedding, bias=False)
    if relative:
        found["deberta.encoder.rel_embeddings.weight"] = (2 * _distances(config), hidden)
    if "layer_norm" in str(config.get("norm_rel_ebd", "none")).lower():
        found |= norm("deberta.encoder.LayerNorm", hidden)
    own = relative and not config.get("share_att_key", False)
    projections = [_OF_DISTANCES[kind] for kind in _kinds(config) if own]
    for number in range(int(FAMILY.setting(config, "num_hidden_layers"))):
        layer = _LAYER.format(number)
        for module in (*(_INSIDE[part] for part in ("query", "key", "value", "attention_output")), *projections):
            found |= dense(f"{layer}.{module}", hidden, hidden)
        found |= dense(f"{layer}.{_INSIDE['up']}", inner, hidden) | dense(f"{layer}.{_INSIDE['down']}", hidden, inner)
        for part in ("attention_norm", "feed_forward_norm"):
            found |= norm(f"{layer}.{_INSIDE[part]}", hidden)
    return found


_NUMBERS = ("max_relative_positions", "position_buckets", "embedding_size", "type_vocab_size", "conv_kernel_size")


def _unsupported(config: Mapping[str, Any]) -> str | None:
    if wrong := [name for name in _NUMBERS if type(config.get(name, 0)) is not int]:
        return f"{wrong[0]}: {config[wrong[0]]!r}, which is no whole number"
    if not isinstance(kinds := config.get("pos_att_type"), str | list | None):
        return f"pos_att_type: {kinds}, which is no list"
    if wrong := [kind for kind in _kinds(config) if kind not in tuple(_OF_DISTANCES)]:
        return f"pos_att_type: {wrong[0]}; there are {' and '.join(_OF_DISTANCES)}"
    if int(config.get("conv_kernel_size", 0)) > 0:
        return "a convolution behind its first layer (conv_kernel_size), as deberta-v2-xlarge has"
    if int(config.get("type_vocab_size", 0)) > 1:
        return "several types of tokens (type_vocab_size)"
    if not isinstance(of_distances := config.get("norm_rel_ebd", "none"), str):
        return f"norm_rel_ebd: {of_distances}, which is no text"
    hidden = FAMILY.setting(config, "hidden_size")
    if (width := config.get("pooler_hidden_size", hidden)) != hidden:
        return f"pooler_hidden_size: {width}, which is not the hidden_size {hidden}"
    if (legacy := config.get("legacy", True)) is not True:
        return (
            f"legacy: {legacy}, with which a language model's head has other tensors; where there is none, write true"
        )
    return None


def _masks(config: Any, mask: torch.Tensor, dtype: torch.dtype, least: float) -> dict[str, Any]:
    """The mask as it is: embeddings of padding are zero, and `_prepare` has made what attention takes of it."""
    return {"attention_mask": mask}


def _prepare(model: PreTrainedModel, least: float) -> None:
    """Looks distances up, and takes products with those of a text alone.

    Its classes compute the bucket of every pair of tokens, and products with all distances that the model knows: with
    512 where a text of n tokens has 2 n.
    """
    import torch
    from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

    # One more than there are: what is looked up is always a part of the table, whose size a trace may keep free.
    encoder, longest = model.base_model.encoder, int(model.config.max_position_embeddings) + 1
    rows = torch.arange(-longest, longest)
    first = encoder.layer[0].attention.self
    if encoder.relative_attention:
        if encoder.position_buckets > 0:
            rows = make_log_bucket_position(rows, encoder.position_buckets, encoder.max_relative_positions).long()
        rows = (rows + first.pos_ebd_size).clamp(0, 2 * first.pos_ebd_size - 1)
        # Nothing is looked up in this table, so that formats cannot store it as they store tables.
        encoder.distances = torch.nn.Buffer(encoder.get_rel_embedding().detach(), persistent=False)
        encoder.get_rel_embedding = lambda: encoder.distances

    def pairs(states: torch.Tensor, *_: Any) -> torch.Tensor:
        """For each pair of tokens, the number of its distance, from `-sequence` on."""
        places = (states[:1, :, 0] * 0 + 1).long().cumsum(1)
        apart = places[:, None, :, None] - places[:, None, None, :] + states.shape[1]
        of_heads = (states[:, 0, : first.num_attention_heads] * 0).long()
        return of_heads[:, :, None, None] + apart  # `expand` becomes operators that few formats have

    def hidden(mask: torch.Tensor) -> torch.Tensor:
        """Pairs of which a token is padding: padding sees nothing, and so all alike."""
        there = (mask if mask.ndim > 2 else mask[:, None, None, :]) > 0
        return ~(there & there.transpose(-1, -2))

    encoder.get_rel_pos, encoder.get_attention_mask = pairs, hidden
    for layer in encoder.layer:
        attention = layer.attention.self
        attention.rows = torch.nn.Buffer(rows, persistent=False)
        attention.forward = partial(_attend, attention, longest, least)


def _attend(
    attention: Any,
    longest: int,
    least: float,
    states: torch.Tensor,
    hidden: torch.Tensor,
    *_: Any,
    relative_pos: torch.Tensor,
    rel_embeddings: torch.Tensor | None,
    **__: Any,
) -> tuple[torch.Tensor, None]:
    """Disentangled attention.

    Args:
        attention: The block.
        longest: The longest distance, and one more.
        least: The score of what is hidden.
        states: `(batch, sequence, hidden)`.
        hidden: Pairs of tokens that do not see each other. `(batch, 1, sequence, sequence)`
        relative_pos: For each pair of tokens, the number of its distance. `(batch, heads, sequence, sequence)`
        rel_embeddings: What stands for distances. `(distances, hidden)`

    Returns:
        The states that were attended to, and no probabilities.

    Source: He et al. 2021 (arXiv 2006.03654), section 3.1, eq. 4.
    """
    import torch

    kinds = attention.pos_att_type if rel_embeddings is not None else ()
    scale = float(attention.attention_head_size * (1 + len(set(attention.pos_att_type)))) ** -0.5
    shape = (*states.shape[:-1], attention.num_attention_heads, attention.attention_head_size)
    query, key, value = (
        module(states).view(shape).transpose(1, 2)
        for module in (attention.query_proj, attention.key_proj, attention.value_proj)
    )
    query, turned = query * scale, key.transpose(-1, -2)
    scores = torch.matmul(query, turned)
    own = not attention.share_att_key
    if "c2p" in kinds:
        table = _of_distances(attention, attention.pos_key_proj if own else attention.key_proj, rel_embeddings)
        there = table[..., longest - shape[1] : longest + shape[1]]
        scores = scores + torch.gather(torch.matmul(query, there), -1, relative_pos)
    if "p2c" in kinds:
        table = _of_distances(attention, attention.pos_query_proj if own else attention.query_proj, rel_embeddings)
        there = (table * scale).transpose(-1, -2)[:, longest - shape[1] : longest + shape[1]]
        scores = scores + torch.gather(torch.matmul(there, turned), -2, relative_pos)
    # Not a sum with the mask, which half precision could not hold where all is hidden.
    scores = scores.masked_fill(hidden, max(least, torch.finfo(scores.dtype).min))
    found = torch.matmul(scores.softmax(-1), value).transpose(1, 2)
    return found.reshape(*states.shape[:-1], -1), None


def _of_distances(attention: Any, module: Any, table: Any) -> torch.Tensor:
    """Keys or queries that stand for distances, `(heads, width, distances)`, from the least distance on."""
    shape = (*table.shape[:1], attention.num_attention_heads, attention.attention_head_size)
    found: torch.Tensor = module(table).view(shape).permute(1, 2, 0)[..., attention.rows]
    return found


FAMILY = Family(
    model_type="deberta-v2",
    prefix="DebertaV2",
    inputs=("input_ids", "attention_mask"),
    outside={
        "word": "deberta.embeddings.word_embeddings",
        "position": "deberta.embeddings.position_embeddings",
        "token_type": "deberta.embeddings.token_type_embeddings",
        "embedding_norm": "deberta.embeddings.LayerNorm",
        "pooler": "pooler.dense",
        "classifier": "classifier",
        "span": "qa_outputs",
        "transform": "cls.predictions.transform.dense",
        "transform_norm": "cls.predictions.transform.LayerNorm",
        "decoder": "cls.predictions.decoder",
    },
    # Checkpoints of v3 have the table that their configs turn off, and heads of their pretraining.
    idle=("deberta.embeddings.position_embeddings",),
    inside=_INSIDE,
    stacks=(_LAYER,) * 2,
    head_tensors=("classifier.", "pooler.", "qa_outputs.", "cls."),
    language_head="cls.predictions",
    decoder_bias="cls.predictions.bias",
    defaults={
        "vocab_size": 128100,
        "hidden_size": 1536,
        "num_hidden_layers": 24,
        "num_attention_heads": 24,
        "intermediate_size": 6144,
        "max_position_embeddings": 512,
    },
    tensors=_tensors,
    matrices=(*(module for part, module in _INSIDE.items() if not part.endswith("norm")), *_OF_DISTANCES.values()),
    unsupported=_unsupported,
    padding_varies=True,
    own_attention=True,
    prepare=_prepare,
    masks=_masks,
)
