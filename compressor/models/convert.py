"""The classes of transformers and our own as collections of parts: takes models apart, and puts them together."""

from __future__ import annotations

import copy
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from compressor.errors import StageError
from compressor.models.parts import ATTENTION, FEED_FORWARD, Anatomy, State

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

CLASSES = {"bert": "Bert", "distilbert": "DistilBert", "albert": "Albert", "compact_bert": "CompactBert"}
"""For each family, the beginning of its classes' names."""

_HEADS = (
    "ForMaskedLM",
    "ForPreTraining",
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
)

_ALBERT_OUTSIDE = {
    "word": "albert.embeddings.word_embeddings",
    "position": "albert.embeddings.position_embeddings",
    "token_type": "albert.embeddings.token_type_embeddings",
    "embedding_norm": "albert.embeddings.LayerNorm",
    "mapping": "albert.encoder.embedding_hidden_mapping_in",
    "pooler": "albert.pooler",
    "classifier": "classifier",
    "span": "qa_outputs",
    "order": "sop_classifier.classifier",
    "transform": "predictions.dense",
    "transform_norm": "predictions.LayerNorm",
    "decoder": "predictions.decoder",
}
_OUTSIDE = {
    "bert": {
        "word": "bert.embeddings.word_embeddings",
        "position": "bert.embeddings.position_embeddings",
        "token_type": "bert.embeddings.token_type_embeddings",
        "embedding_norm": "bert.embeddings.LayerNorm",
        "pooler": "bert.pooler.dense",
        "classifier": "classifier",
        "span": "qa_outputs",
        "order": "cls.seq_relationship",
        "transform": "cls.predictions.transform.dense",
        "transform_norm": "cls.predictions.transform.LayerNorm",
        "decoder": "cls.predictions.decoder",
    },
    "distilbert": {
        "word": "distilbert.embeddings.word_embeddings",
        "position": "distilbert.embeddings.position_embeddings",
        "embedding_norm": "distilbert.embeddings.LayerNorm",
        "pooler": "pre_classifier",
        "classifier": "classifier",
        "span": "qa_outputs",
        "transform": "vocab_transform",
        "transform_norm": "vocab_layer_norm",
        "decoder": "vocab_projector",
    },
    "albert": _ALBERT_OUTSIDE,
    "compact_bert": _ALBERT_OUTSIDE,
}
"""For each family, the modules of the parts outside of its layers."""

_INSIDE = {
    "bert": {
        "query": "attention.self.query",
        "key": "attention.self.key",
        "value": "attention.self.value",
        "attention_output": "attention.output.dense",
        "attention_norm": "attention.output.LayerNorm",
        "up": "intermediate.dense",
        "down": "output.dense",
        "feed_forward_norm": "output.LayerNorm",
    },
    "distilbert": {
        "query": "attention.q_lin",
        "key": "attention.k_lin",
        "value": "attention.v_lin",
        "attention_output": "attention.out_lin",
        "attention_norm": "sa_layer_norm",
        "up": "ffn.lin1",
        "down": "ffn.lin2",
        "feed_forward_norm": "output_layer_norm",
    },
    "albert": {
        "query": "attention.query",
        "key": "attention.key",
        "value": "attention.value",
        "attention_output": "attention.dense",
        "attention_norm": "attention.LayerNorm",
        "up": "ffn",
        "down": "ffn_output",
        "feed_forward_norm": "full_layer_layer_norm",
    },
    "compact_bert": {
        "query": "query",
        "key": "key",
        "value": "value",
        "attention_output": "dense",
        "attention_norm": "LayerNorm",
        "up": "ffn",
        "down": "ffn_output",
        "feed_forward_norm": "LayerNorm",
    },
}
"""For each family, the modules of the parts of a block."""

_STACKS = {
    "bert": ("bert.encoder.layer.{}",) * 2,
    "distilbert": ("distilbert.transformer.layer.{}",) * 2,
    "albert": ("albert.encoder.albert_layer_groups.{}.albert_layers.0",) * 2,
    "compact_bert": ("albert.encoder.attentions.{}", "albert.encoder.feed_forwards.{}"),
}
"""For each family, where its attention and its feed-forward blocks are."""

_BIASES = {"bert": "cls.predictions.bias", "albert": "predictions.bias", "compact_bert": "predictions.bias"}
"""Second names of the decoder's bias: the same tensor where the head is tied, and without use where it is not."""


def head_of(model: PreTrainedModel) -> str:
    """The head of a model, as the end of its class's name and of the Auto class's.

    Raises:
        StageError: Nobody here knows the tensors of such a model by name.
    """
    kind = type(model).__name__
    kinds = {f"{family}{head}": head for family in CLASSES.values() for head in _HEADS}
    if kind not in kinds:
        raise StageError(f"cannot cut a {kind}; load the checkpoint as one of {', '.join(kinds)}")
    return kinds[kind]


def published_groups(layers: int, groups: int) -> tuple[int, ...]:
    """The group of each layer as transformers' ALBERT computes it, off by one for some depths."""
    return tuple(int(layer / (layers / groups)) for layer in range(layers))


def take_apart(model: PreTrainedModel) -> Anatomy:
    """A model's parts; its tensors are not copied.

    Args:
        model: A BERT, DistilBERT, ALBERT or compact BERT with one of the heads known here.

    Raises:
        StageError: Another kind of model.
    """
    family, head, config = model.config.model_type, head_of(model), model.config
    outside: State = {}
    attentions: dict[int, State] = {}
    feed_forwards: dict[int, State] = {}
    places = _places(family)
    for name, tensor in model.state_dict().items():
        if name == _BIASES.get(family):
            continue
        module, _, kind = name.rpartition(".")
        number = re.search(r"(?<=\.)\d+(?=\.)", module)
        part = places[module if number is None else f"{module[: number.start()]}{{}}{module[number.end() :]}"]
        block = outside
        if number is not None:
            blocks = attentions if part in ATTENTION else feed_forwards
            block = blocks.setdefault(int(number[0]), {})
        block[f"{part}.{kind}"] = tensor
    layers = int(config.num_hidden_layers)
    attention_of_layer = feed_forward_of_layer = tuple(range(layers))
    head_size, activation = config.hidden_size // config.num_attention_heads, "tanh"
    if family == "distilbert":
        activation = "relu"
    elif family == "albert":
        attention_of_layer = feed_forward_of_layer = published_groups(layers, int(config.num_hidden_groups))
    elif family == "compact_bert":
        attention_of_layer = tuple(config.attention_of_layer)
        feed_forward_of_layer = tuple(config.feed_forward_of_layer)
        head_size, activation = config.head_size, config.pooler_activation
    return Anatomy(
        head,
        config,
        _without_idle_mapping(outside),
        tuple(attentions[index] for index in sorted(attentions)),
        tuple(feed_forwards[index] for index in sorted(feed_forwards)),
        attention_of_layer,
        feed_forward_of_layer,
        head_size,
        activation,
    )


def _places(family: str) -> dict[str, str]:
    """From modules, with `{}` for the number of a block, to parts."""
    inside = {part: _STACKS[family][part in FEED_FORWARD] + "." + module for part, module in _INSIDE[family].items()}
    return {module: part for part, module in (_OUTSIDE[family] | inside).items()}


def modules(model: PreTrainedModel, part: str) -> list[torch.nn.Module]:
    """The modules of a part that is in every block, block by block, in the order of `take_apart`."""
    family = model.config.model_type
    place = _STACKS[family][part in FEED_FORWARD] + "." + _INSIDE[family][part]
    pattern = re.compile(re.escape(place).replace(r"\{\}", r"(\d+)"))
    found = {int(match[1]): module for name, module in model.named_modules() if (match := pattern.fullmatch(name))}
    return [found[index] for index in sorted(found)]


def _without_idle_mapping(outside: State) -> State:
    """An ALBERT always maps its embeddings; as long as that does nothing, it is no part."""
    weight = outside.get("mapping.weight")
    if weight is None or weight.shape[0] != weight.shape[1] or outside["mapping.bias"].any():
        return outside
    if not torch.equal(weight, torch.eye(len(weight), dtype=weight.dtype, device=weight.device)):
        return outside
    return {name: tensor for name, tensor in outside.items() if not name.startswith("mapping.")}


def plainest_family(anatomy: Anatomy) -> str:
    """The family that holds the parts as they are, and that most tools know."""
    if not _even(anatomy):
        return "compact_bert"
    if _separate(anatomy) and "mapping.weight" not in anatomy.outside:
        if "token_type.weight" in anatomy.outside and anatomy.pooler_activation == "tanh":
            return "bert"
        return "distilbert" if "token_type.weight" not in anatomy.outside else "compact_bert"
    return "albert" if _in_groups(anatomy) else "compact_bert"


def fits_albert(anatomy: Anatomy) -> bool:
    """Whether an ALBERT can hold the parts: layers of equal width that share whole, in its own groups."""
    return _even(anatomy) and _in_groups(anatomy)


def _even(anatomy: Anatomy) -> bool:
    """Whether all blocks have the heads and neurons that one number in a config can tell."""
    whole = anatomy.hidden_size // anatomy.head_size
    return set(anatomy.heads) == {whole} and len(set(anatomy.neurons)) == 1


def _separate(anatomy: Anatomy) -> bool:
    """Whether no two layers share weights."""
    layers = tuple(range(anatomy.num_hidden_layers))
    return anatomy.attention_of_layer == layers and anatomy.feed_forward_of_layer == layers


def _in_groups(anatomy: Anatomy) -> bool:
    """Whether layers share whole, in the groups that transformers' ALBERT would compute."""
    groups = published_groups(anatomy.num_hidden_layers, len(anatomy.attentions))
    return anatomy.attention_of_layer == groups and anatomy.feed_forward_of_layer == groups


def put_together(anatomy: Anatomy, family: str | None = None) -> PreTrainedModel:
    """A model made of parts, which are copied; what the config ties stays tied.

    Args:
        anatomy: The parts.
        family: Of its class; None for the plainest one that can hold the parts.

    Raises:
        StageError: The family cannot hold the parts.
    """
    import transformers

    family = family or plainest_family(anatomy)
    parts = _fitted(anatomy, family)
    state: State = {}
    for name, tensor in parts.outside.items():
        part, _, kind = name.rpartition(".")
        state[f"{_OUTSIDE[family][part]}.{kind}"] = tensor
    for blocks, stack in zip((parts.attentions, parts.feed_forwards), _STACKS[family], strict=True):
        for index, block in enumerate(blocks):
            for name, tensor in block.items():
                part, _, kind = name.rpartition(".")
                state[f"{stack.format(index)}.{_INSIDE[family][part]}.{kind}"] = tensor
    if "decoder.bias" in parts.outside and family in _BIASES:
        state[_BIASES[family]] = parts.outside["decoder.bias"]
    model = getattr(transformers, f"AutoModel{parts.head}").from_config(_config(parts, family))
    model.load_state_dict(state)
    return model


def _fitted(anatomy: Anatomy, family: str) -> Anatomy:
    """The parts as a family has them."""
    came_as = anatomy.config.model_type
    if family in ("bert", "distilbert"):
        holds = _even(anatomy) and _separate(anatomy) and "mapping.weight" not in anatomy.outside
        if not holds or (came_as, family) == ("distilbert", "bert"):
            raise StageError(f"a {came_as} checkpoint like this cannot become {family}; leave architecture out")
    if family == "albert" and not fits_albert(anatomy):
        raise StageError("an ALBERT shares whole layers of equal width, in its own groups; use compact_bert")
    if family == "distilbert":
        if anatomy.head == "ForPreTraining":
            raise StageError("a DistilBERT has no head for the order of sentences; use architecture: bert")
        # BERT's pooler becomes the pre-classifier, though that has ReLU for tanh: training has to make up for it.
        return replace(anatomy.without_token_types(), pooler_activation="relu")
    outside = dict(anatomy.outside)
    if "token_type.weight" not in outside:
        outside["token_type.weight"] = torch.zeros_like(outside["position.weight"][:2])
    if family == "albert" and "mapping.weight" not in outside:
        outside["mapping.weight"] = torch.eye(anatomy.hidden_size)
        outside["mapping.bias"] = torch.zeros(anatomy.hidden_size)
    activation = anatomy.pooler_activation if family == "compact_bert" else "tanh"
    return replace(anatomy, outside=outside, pooler_activation=activation)


def _config(parts: Anatomy, family: str) -> PreTrainedConfig:
    """The config of a model of these parts."""
    if parts.config.model_type == family:
        config = copy.deepcopy(parts.config)
    else:
        from transformers import AutoConfig

        config = AutoConfig.for_model(family, **_shared_settings(parts.config), **_settings(parts.config, family))
    config.vocab_size = len(parts.outside["word.weight"])
    config.max_position_embeddings = len(parts.outside["position.weight"])
    config.num_hidden_layers, config.hidden_size = parts.num_hidden_layers, parts.hidden_size
    config.num_attention_heads = max(parts.heads)
    setattr(config, "hidden_dim" if family == "distilbert" else "intermediate_size", max(parts.neurons))
    if family != "distilbert":
        config.type_vocab_size = len(parts.outside["token_type.weight"])
    if family in ("albert", "compact_bert"):
        config.embedding_size = parts.embedding_size
        config.num_hidden_groups = len(parts.attentions)
    if family == "compact_bert":
        config.attention_of_layer = list(parts.attention_of_layer)
        config.feed_forward_of_layer = list(parts.feed_forward_of_layer)
        config.heads, config.neurons, config.head_size = parts.heads, parts.neurons, parts.head_size
        config.embedding_mapping = "mapping.weight" in parts.outside
        config.pooler_activation = parts.pooler_activation
    return config


def _shared_settings(config: PreTrainedConfig) -> dict[str, Any]:
    """What all families call the same, and surgery does not change."""
    labels = ("problem_type", "id2label", "label2id")
    return {
        name: getattr(config, name)
        for name in ("initializer_range", "pad_token_id", "tie_word_embeddings", "dtype", *labels)
    }


def _settings(config: PreTrainedConfig, family: str) -> dict[str, Any]:
    """Dropout, activation and epsilon of a config, under a family's names.

    DistilBERT's LayerNorms always have an epsilon of 1e-12, whatever `layer_norm_eps` says.
    """
    if config.model_type == "distilbert":
        dropout, attention, classifier = config.dropout, config.attention_dropout, config.seq_classif_dropout
        activation, epsilon = config.activation, 1e-12
    else:
        dropout, attention = config.hidden_dropout_prob, config.attention_probs_dropout_prob
        given = [getattr(config, name, None) for name in ("classifier_dropout", "classifier_dropout_prob")]
        classifier = next((value for value in given if value is not None), dropout)
        activation, epsilon = config.hidden_act, config.layer_norm_eps
    if family == "distilbert":
        return {
            "dropout": dropout,
            "attention_dropout": attention,
            "seq_classif_dropout": classifier,
            "activation": activation,
        }
    return {
        "hidden_dropout_prob": dropout,
        "attention_probs_dropout_prob": attention,
        "classifier_dropout" if family == "bert" else "classifier_dropout_prob": classifier,
        "hidden_act": activation,
        "layer_norm_eps": epsilon,
    }
