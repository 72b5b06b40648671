"""Models as collections of parts: takes the classes of transformers and our own apart, and builds them from parts."""

from __future__ import annotations

import copy
import re
from typing import TYPE_CHECKING, Any

import torch

from compressor.errors import StageError
from compressor.models import sentence_embedding, thresholds
from compressor.models.families import FAMILIES, register
from compressor.models.families.base import WHOLE_LAYERS_HINT, Family
from compressor.models.heads import CLASSES
from compressor.models.parts import ATTENTION, AXES, FEED_FORWARD, ModelParts, State

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel


def head_of(model: PreTrainedModel) -> str:
    """The head of a model, as the end of its class's name and of the Auto class's.

    Raises:
        StageError: The names of such a model's tensors are not known.
    """
    name = type(model).__name__
    known = {f"{family.prefix}{head}": head for family in FAMILIES.values() for head in CLASSES}
    if name not in known:
        raise StageError(f"cannot cut a {name}; load the checkpoint as one of {', '.join(known)}")
    return known[name]


def to_parts(model: PreTrainedModel) -> ModelParts:
    """A model's parts; its tensors are not copied.

    Args:
        model: A model of one of `FAMILIES` with one of the heads in `models.heads`.

    Raises:
        StageError: Another kind of model.
    """
    head, config = head_of(model), model.config
    family = FAMILIES[config.model_type]
    if family.whole_layers:
        return _to_whole_layers(model, head)
    outside: State = {}
    attentions: dict[int, State] = {}
    feed_forwards: dict[int, State] = {}
    part_of_module = _part_of_module(family, head)
    for name, tensor in model.state_dict().items():
        if name == family.decoder_bias:
            continue
        module, _, kind = name.rpartition(".")
        number = re.search(r"(?<=\.)\d+(?=\.)", module)
        part = part_of_module[module if number is None else f"{module[: number.start()]}{{}}{module[number.end() :]}"]
        block = outside
        if number is not None:
            blocks = attentions if part in ATTENTION else feed_forwards
            block = blocks.setdefault(int(number[0]), {})
        block[f"{part}.{kind}"] = tensor
    used = family.blocks(config)
    if skipped := family.first_position(config.to_dict()):
        outside["position.weight"] = outside["position.weight"][skipped:]
    return ModelParts(
        head,
        config,
        _without_idle_mapping(outside),
        tuple(attentions[index] for index in sorted(attentions)),
        tuple(feed_forwards[index] for index in sorted(feed_forwards)),
        used.attention_of_layer,
        used.feed_forward_of_layer,
        used.head_size,
        used.pooler_activation,
    )


def parts_inside(model: PreTrainedModel) -> ModelParts:
    """A model's parts, those of its layers too.

    Raises:
        StageError: Its layers can only be taken as they are; or it is another kind of model.
    """
    parts = to_parts(model)
    if parts.layers:
        raise StageError(f"the layers of a {model.config.model_type} stay as they are; {WHOLE_LAYERS_HINT}")
    return parts


def _to_whole_layers(model: PreTrainedModel, head: str) -> ModelParts:
    """The parts of a model whose layers are wholes."""
    config, family = model.config, FAMILIES[model.config.model_type]
    part_of_module = {module: part for part, module in family.modules(head).items()}
    start, _, _ = family.stacks[0].partition("{}")
    outside: State = {}
    layers: dict[int, State] = {}
    for name, tensor in model.state_dict().items():
        if name == family.decoder_bias:
            continue
        if name.startswith(start):
            number, _, rest = name.removeprefix(start).partition(".")
            layers.setdefault(int(number), {})[rest] = tensor
        else:
            module, _, kind = name.rpartition(".")
            outside[f"{part_of_module.get(module, module)}.{kind}"] = tensor
    if "position.weight" in outside:
        outside["position.weight"] = outside["position.weight"][family.first_position(config.to_dict()) :]
    used = family.blocks(config)
    return ModelParts(
        head,
        config,
        outside,
        (),
        (),
        used.attention_of_layer,
        used.feed_forward_of_layer,
        used.head_size,
        used.pooler_activation,
        tuple(layers[number] for number in sorted(layers)),
        {name: tuple(getattr(config, name)) for name in family.layer_settings},
    )


def _place(family: Family, part: str) -> str:
    """The module of a part that is in every block, with `{}` for the block's number."""
    return f"{family.stacks[part in FEED_FORWARD]}.{family.inside[part]}"


def _part_of_module(family: Family, head: str) -> dict[str, str]:
    """From modules, with `{}` for the number of a block, to parts."""
    inside = {_place(family, part): part for part in family.inside}
    return {module: part for part, module in family.modules(head).items()} | inside


def modules(model: PreTrainedModel, part: str) -> list[torch.nn.Module]:
    """The modules of a part that is in every block, block by block, in the order of `to_parts`; none if unknown."""
    family = FAMILIES[model.config.model_type]
    if part not in family.inside:
        return []
    place = _place(family, part)
    pattern = re.compile(re.escape(place).replace(r"\{\}", r"(\d+)"))
    found = {int(match[1]): module for name, module in model.named_modules() if (match := pattern.fullmatch(name))}
    return [found[index] for index in sorted(found)]


def layer_matrices(model: PreTrainedModel) -> list[torch.nn.Module]:
    """The modules of the layers that have a weight matrix, block by block."""
    family = FAMILIES[model.config.model_type]
    if not family.whole_layers:
        return [module for part in ATTENTION + FEED_FORWARD if len(AXES[part]) == 2 for module in modules(model, part)]
    start, _, _ = family.stacks[0].partition("{}")
    found = ((name.removeprefix(start).partition(".")[2], module) for name, module in model.named_modules())
    return [module for place, module in found if place in family.matrices]


def language_head(model: PreTrainedModel) -> torch.nn.Module:
    """The module of a masked language model that can be given some of the tokens instead of all."""
    head: torch.nn.Module = model.get_submodule(FAMILIES[model.config.model_type].language_head)
    return head


def _without_idle_mapping(outside: State) -> State:
    """An ALBERT always maps its embeddings; where the mapping is the identity, it is not a part."""
    weight = outside.get("mapping.weight")
    if weight is None or weight.shape[0] != weight.shape[1] or outside["mapping.bias"].any():
        return outside
    if not torch.equal(weight, torch.eye(len(weight), dtype=weight.dtype, device=weight.device)):
        return outside
    return {name: tensor for name, tensor in outside.items() if not name.startswith("mapping.")}


def plainest_family(parts: ModelParts) -> str:
    """The family that holds the parts as they are: the one that they came as, or the plainest."""
    origin = FAMILIES[parts.config.model_type]
    if origin.whole_layers:
        return origin.model_type
    if origin.keeps and origin.holds(parts):
        return origin.model_type
    return next(family.model_type for family in FAMILIES.values() if family.holds(parts))


def from_parts(parts: ModelParts, family: str | None = None) -> PreTrainedModel:
    """A model made of parts, which are copied; tied weights stay tied.

    Args:
        parts: The parts.
        family: The family of its class; None for the plainest one that can hold the parts.

    Raises:
        StageError: The family cannot hold the parts.
    """
    from compressor.models.sentence_encoder import auto_class

    register()
    target = FAMILIES[family or plainest_family(parts)]
    if parts.layers and target.model_type != parts.config.model_type:
        raise StageError(f"a {parts.config.model_type} stays one; leave architecture out")
    parts = target.fit(parts)
    config, places = _config(parts, target), target.modules(parts.head)
    state: State = {}
    for name, tensor in parts.outside.items():
        part, _, kind = name.rpartition(".")
        if name == "position.weight":
            skipped = target.first_position(config.to_dict())
            tensor = torch.cat([tensor.new_zeros(skipped, tensor.shape[1]), tensor])
        state[f"{places.get(part, part)}.{kind}"] = tensor
    for index, layer in enumerate(parts.layers):
        state |= {f"{target.stacks[0].format(index)}.{name}": tensor for name, tensor in layer.items()}
    for blocks, stack in zip((parts.attentions, parts.feed_forwards), target.stacks, strict=True):
        for index, block in enumerate(blocks):
            for name, tensor in block.items():
                part, _, kind = name.rpartition(".")
                state[f"{stack.format(index)}.{target.inside[part]}.{kind}"] = tensor
    if "decoder.bias" in parts.outside and target.decoder_bias is not None:
        state[target.decoder_bias] = parts.outside["decoder.bias"]
    model = auto_class(parts.head).from_config(config)
    model.load_state_dict(state)
    return model


def _config(parts: ModelParts, family: Family) -> PreTrainedConfig:
    """The config of a model of these parts."""
    if parts.config.model_type == family.model_type:
        config = copy.deepcopy(parts.config)
    else:
        from transformers import AutoConfig

        settings = {**_shared_settings(parts.config), **_settings(parts.config, family)}
        config = AutoConfig.for_model(family.model_type, **settings)
    config.vocab_size = len(parts.outside["word.weight"])
    config.num_hidden_layers = parts.num_hidden_layers
    for name, values in parts.layer_settings.items():
        setattr(config, name, list(values))
    if parts.layers:
        return config
    used = len(parts.outside["position.weight"])
    config.max_position_embeddings = used + family.first_position(config.to_dict())
    config.hidden_size = parts.hidden_size
    config.num_attention_heads = max(parts.heads)
    family.configure(config, parts)
    return config


def _shared_settings(config: PreTrainedConfig) -> dict[str, Any]:
    """Settings that all families call the same, and surgery does not change."""
    ours = (name for name in (thresholds.KEY, sentence_embedding.KEY) if hasattr(config, name))
    labels = ("problem_type", "id2label", "label2id", *ours)
    return {
        name: getattr(config, name)
        for name in ("initializer_range", "pad_token_id", "tie_word_embeddings", "dtype", *labels)
    }


def _settings(config: PreTrainedConfig, family: Family) -> dict[str, Any]:
    """Dropout, activation and epsilon of a config, under another family's names."""
    origin = FAMILIES[config.model_type]
    own = origin.config_names

    def given(name: str) -> Any:
        return getattr(config, own.get(name, name), None)

    hidden = given("hidden_dropout_prob")
    classifier = given("classifier_dropout")
    found = {
        "hidden_dropout_prob": hidden,
        "attention_probs_dropout_prob": given("attention_probs_dropout_prob"),
        "classifier_dropout": hidden if classifier is None else classifier,
        "hidden_act": given("hidden_act"),
    }
    settings = {family.config_names.get(name, name): value for name, value in found.items()}
    if family.layer_norm_epsilon is None:
        settings["layer_norm_eps"] = origin.layer_norm_epsilon or config.layer_norm_eps
    return settings
