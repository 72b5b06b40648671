"""Whether the settings in a config.json are those of a model, as far as they can be judged one by one."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard

from compressor.models.families.base import Family

_MOST_LAYERS = 1000
_MOST = 10**9
_SIZES = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "intermediate_size",
    "max_position_embeddings",
    "type_vocab_size",
    "embedding_size",
    "num_hidden_groups",
    "relative_attention_num_buckets",
    "local_attention",
    "global_attn_every_n_layers",
)
ACTIVATIONS = (
    *("gelu", "gelu_10", "gelu_accurate", "gelu_fast", "gelu_new", "gelu_python", "gelu_python_tanh"),
    *("gelu_pytorch_tanh", "hardswish", "laplace", "leaky_relu", "linear", "mish", "quick_gelu", "relu", "relu2"),
    *("relu6", "sigmoid", "silu", "sqrtsoftplus", "swish", "tanh"),
)
"""transformers' activation functions that have no weights of their own."""
_FUNCTIONS = ("hidden_act", "pooler_hidden_act", "classifier_activation")
_SHARES = (
    *("hidden_dropout_prob", "attention_probs_dropout_prob", "classifier_dropout"),
    *("pooler_dropout", "embedding_dropout", "mlp_dropout"),
)
_FLAGS = (
    *("relative_attention", "share_att_key", "position_biased_input"),
    *("attention_bias", "mlp_bias", "norm_bias", "classifier_bias", "decoder_bias"),
)
_MOST_EPSILON = 0.1


def wrong(config: Mapping[str, Any], family: Family) -> list[str]:
    """What is wrong with the settings in a config.json; empty if they are those of a model."""
    found = list(_wrong_numbers(config, family))
    for name in _SIZES:
        if name not in family.defaults:
            continue
        value = family.setting(config, name)
        most = _MOST_LAYERS if name == "num_hidden_layers" else _MOST
        if type(value) is not int or not 1 <= value <= most:
            found.append(f"{family.config_names.get(name, name)} is {shown(value)}, must be from 1 to {most}")
    if not found and not family.lists_blocks:
        hidden, heads = (family.setting(config, name) for name in ("hidden_size", "num_attention_heads"))
        if hidden % heads:
            found.append(f"{heads} heads cannot share the {hidden} channels of a layer evenly")
    return found or list(_wrong_blocks(config, family))


def _wrong_numbers(config: Mapping[str, Any], family: Family) -> Iterator[str]:
    """What is wrong with the settings of a config.json that are no sizes."""
    for name in (family.config_names.get(share, share) for share in _SHARES):
        if name in config and not (config[name] is None and name == "classifier_dropout"):
            if not _is_number(config[name]) or not 0 <= config[name] <= 1:
                yield f"{name} is {shown(config[name])}, must be from 0 to 1"
    name = family.config_names.get("layer_norm_eps", "layer_norm_eps")
    epsilon = config.get(name, _MOST_EPSILON)
    if not _is_number(epsilon) or not 0 < epsilon <= _MOST_EPSILON:
        yield f"{name} is {shown(epsilon)}, must be above 0, at most {_MOST_EPSILON}"
    for name in (family.config_names.get(function, function) for function in _FUNCTIONS):
        if name in config and config[name] not in ACTIVATIONS:
            yield f"{name} is {shown(config[name])}, must be the name of a function: {', '.join(ACTIVATIONS)}"
    for name in _FLAGS:
        if type(config.get(name, False)) is not bool:
            yield f"{name} is {shown(config[name])}, must be true or false"
    padding, rows = config.get("pad_token_id"), family.setting(config, "vocab_size")
    if padding is not None and type(rows) is int and not (type(padding) is int and 0 <= padding < rows):
        yield f"pad_token_id is {shown(padding)}, must be a token from 0 to {rows - 1}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _wrong_blocks(config: Mapping[str, Any], family: Family) -> Iterator[str]:
    """What is wrong with the lists of blocks of a config that has them."""
    if not family.lists_blocks:
        groups, layers = (family.setting(config, name) for name in (family.blocks_setting, "num_hidden_layers"))
        if groups > layers:
            yield f"{family.blocks_setting} is {groups}, more than the {layers} layers"
        return
    layers = family.setting(config, "num_hidden_layers")
    if not _counts([config.get("head_size")]):
        yield f"head_size is {shown(config.get('head_size'))}, must be positive"
    for sizes, users in (("heads", "attention_of_layer"), ("neurons", "feed_forward_of_layer")):
        widths, of_layer = config.get(sizes), config.get(users)
        if not _counts(widths):
            yield f"{sizes} is {shown(widths)}, must be a list of positive numbers"
        elif (
            not isinstance(of_layer, list)
            or len(of_layer) != layers
            or any(type(block) is not int or not 0 <= block < len(widths) for block in of_layer)
        ):
            yield f"{users} is {shown(of_layer)}, must name one of {len(widths)} blocks for each of {layers} layers"


def _counts(values: Any) -> TypeGuard[list[int]]:
    return isinstance(values, list) and bool(values) and all(type(value) is int and value > 0 for value in values)


def shown(value: Any) -> str:
    """A value as a message has it: the beginning of a long one."""
    text = repr(value)
    return text if len(text) < 60 else f"{text[:57]}..."
