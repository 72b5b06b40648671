"""A model taken apart: its tensors as blocks with one set of names, whatever class they came from.

Surgery works on these parts, and knows nothing of classes; `families` knows their names and puts the parts together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import torch

State: TypeAlias = "dict[str, torch.Tensor]"
"""Tensors by name."""

HIDDEN, EMBEDDING, HEADS, NEURONS, VOCABULARY, ALL = "hidden", "embedding", "heads", "neurons", "vocabulary", "all"
"""Meaning of a tensor's axis: channels of the layers, of the embeddings, of all heads; neurons; tokens."""

AXES: dict[str, tuple[str, ...]] = {
    "word": (VOCABULARY, EMBEDDING),
    "position": (ALL, EMBEDDING),
    "token_type": (ALL, EMBEDDING),
    "embedding_norm": (EMBEDDING,),
    "mapping": (HIDDEN, EMBEDDING),
    "query": (HEADS, HIDDEN),
    "key": (HEADS, HIDDEN),
    "value": (HEADS, HIDDEN),
    "attention_output": (HIDDEN, HEADS),
    "attention_norm": (HIDDEN,),
    "up": (NEURONS, HIDDEN),
    "down": (HIDDEN, NEURONS),
    "feed_forward_norm": (HIDDEN,),
    "pooler": (HIDDEN, HIDDEN),
    "classifier": (ALL, HIDDEN),
    "span": (ALL, HIDDEN),
    "order": (ALL, HIDDEN),
    "sentence_dense": (ALL, HIDDEN),
    "transform": (EMBEDDING, HIDDEN),
    "transform_norm": (EMBEDDING,),
    "decoder": (VOCABULARY, EMBEDDING),
}
"""The parts, and what runs along the axes of their weights; a bias or a LayerNorm has the first axis only."""

ATTENTION = ("query", "key", "value", "attention_output", "attention_norm")
FEED_FORWARD = ("up", "down", "feed_forward_norm")


@dataclass(frozen=True)
class ModelParts:
    """An encoder with its head.

    Tensors are named `PART.weight` and `PART.bias`, with the parts of `AXES`. They are the model's own, not copies.

    Of a family whose layers are wholes there are `layers` in place of blocks, and what is no part of `AXES` goes by its
    module's name.

    Attributes:
        head: End of the class's name, such as `ForMaskedLM`.
        config: The transformers config that it came with.
        outside: Embeddings and head. Without `token_type` where there are no token types, without `mapping` where the
            embeddings go into the first layer as they are.
        attentions: Attention blocks, each once.
        feed_forwards: Feed-forward blocks, each once.
        attention_of_layer: For each layer, the index of its attention block.
        feed_forward_of_layer: For each layer, the index of its feed-forward block.
        head_size: Channels of a head.
        pooler_activation: `tanh`, or `relu` in a DistilBERT.
        layers: Layers that are wholes, by their modules' names; then there are no blocks.
        layer_settings: Settings of the config that have an entry for each layer.
    """

    head: str
    config: Any
    outside: State
    attentions: tuple[State, ...]
    feed_forwards: tuple[State, ...]
    attention_of_layer: tuple[int, ...]
    feed_forward_of_layer: tuple[int, ...]
    head_size: int
    pooler_activation: str
    layers: tuple[State, ...] = ()
    layer_settings: Mapping[str, tuple[Any, ...]] = field(default_factory=dict)

    @property
    def num_hidden_layers(self) -> int:
        """Layers, as called."""
        return len(self.attention_of_layer)

    @property
    def hidden_size(self) -> int:
        """Width of the layers."""
        return len(self.attentions[0]["attention_norm.bias"])

    @property
    def embedding_size(self) -> int:
        """Width of the embeddings."""
        return int(self.outside["word.weight"].shape[1])

    @property
    def heads(self) -> list[int]:
        """Attention heads of each attention block."""
        return [len(block["query.bias"]) // self.head_size for block in self.attentions]

    @property
    def neurons(self) -> list[int]:
        """Width of each feed-forward block."""
        return [len(block["up.bias"]) for block in self.feed_forwards]

    @property
    def even(self) -> bool:
        """Whether all blocks have the heads and neurons that one number in a config can say."""
        return set(self.heads) == {self.hidden_size // self.head_size} and len(set(self.neurons)) == 1

    @property
    def separate(self) -> bool:
        """Whether no two layers share weights."""
        layers = tuple(range(self.num_hidden_layers))
        return self.attention_of_layer == layers and self.feed_forward_of_layer == layers

    def with_layers(self, layers: Sequence[int]) -> ModelParts:
        """Some of the layers, in the order given; blocks that no layer uses any more are gone.

        What layers share stays shared; a layer that is listed twice and shares nothing becomes two.
        """
        if self.layers:
            numbers = tuple(range(len(layers)))
            settings = {name: tuple(values[layer] for layer in layers) for name, values in self.layer_settings.items()}
            return replace(
                self,
                layers=tuple(self.layers[layer] for layer in layers),
                layer_settings=settings,
                attention_of_layer=numbers,
                feed_forward_of_layer=numbers,
            )
        attentions, attention_of_layer = _used(self.attentions, self.attention_of_layer, layers)
        feed_forwards, feed_forward_of_layer = _used(self.feed_forwards, self.feed_forward_of_layer, layers)
        return replace(
            self,
            attentions=attentions,
            feed_forwards=feed_forwards,
            attention_of_layer=attention_of_layer,
            feed_forward_of_layer=feed_forward_of_layer,
        )

    def without_token_types(self) -> ModelParts:
        """As a DistilBERT has it: the first type's row, which single sentences use, is part of every position.

        Source: Sanh et al. 2019, section 2, "Student architecture": token types are removed.
        """
        outside = dict(self.outside)
        types = outside.pop("token_type.weight", None)
        if types is not None:
            outside["position.weight"] = outside["position.weight"] + types[0]
        return replace(self, outside=outside)


def _used(
    blocks: Sequence[State], of_layer: Sequence[int], layers: Sequence[int]
) -> tuple[tuple[State, ...], tuple[int, ...]]:
    """The blocks that layers use, in the order of their first use, and each layer's index among them."""
    if len(set(of_layer)) == len(of_layer):
        return tuple(blocks[of_layer[layer]] for layer in layers), tuple(range(len(layers)))
    order = list(dict.fromkeys(of_layer[layer] for layer in layers))
    return tuple(blocks[index] for index in order), tuple(order.index(of_layer[layer]) for layer in layers)


def part_of(name: str) -> str:
    """The part that a tensor belongs to."""
    return name.rpartition(".")[0]


def cut(name: str, tensor: torch.Tensor, kept: Mapping[str, torch.Tensor]) -> torch.Tensor:
    """A tensor with only some indices kept along some axes.

    Args:
        name: The tensor's.
        tensor: The tensor.
        kept: Indices to keep, by what runs along the axis; axes that are not named stay whole.
    """
    for axis, what in enumerate(AXES.get(part_of(name), ())[: tensor.ndim]):
        if what in kept:
            tensor = tensor.index_select(axis, kept[what])
    return tensor
