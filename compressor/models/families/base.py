"""The entry of a family in the table: names, layout, and the parts that its classes can hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from compressor.models.heads import SENTENCE_EMBEDDING

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    from compressor.models.parts import ModelParts

_EVERY_FAMILY: Mapping[str, Mapping[str, str]] = {SENTENCE_EMBEDDING.auto: {"sentence_dense": "sentence_dense"}}
"""Modules that a head has parts in, in classes of ours, by the end of a class's name."""

Shapes = dict[str, tuple[int, ...]]
"""Shapes of tensors, by name."""


WHOLE_LAYERS_HINT = (
    "distil into fewer of them (`- {stage: distill, num_hidden_layers: …}`) or into a ready student of another family"
)
"""The way to something smaller where the inside of layers cannot be changed."""


@dataclass(frozen=True)
class LayerBlocks:
    """The blocks of attention and feed-forward weights that each layer uses.

    Attributes:
        attention_of_layer: Index of each layer's attention block.
        feed_forward_of_layer: Index of each layer's feed-forward block.
        head_size: Channels of an attention head.
        pooler_activation: `tanh` or `relu`.
    """

    attention_of_layer: tuple[int, ...]
    feed_forward_of_layer: tuple[int, ...]
    head_size: int
    pooler_activation: str = "tanh"


def every_layer(config: Any) -> LayerBlocks:
    """Every layer has blocks of its own."""
    layers = tuple(range(int(config.num_hidden_layers)))
    return LayerBlocks(layers, layers, config.hidden_size // config.num_attention_heads)


def added_mask(config: Any, mask: torch.Tensor, dtype: torch.dtype, least: float) -> dict[str, Any]:
    """What is added to the scores of attention.

    Transformers would make it itself, by a detour of a dozen operators that traces keep.

    Args:
        config: The model's.
        mask: 1 for tokens, 0 for padding. `(batch, sequence)`
        dtype: Of scores.
        least: What is added to scores of padding.

    Returns:
        Arguments of the encoder by name: `attention_mask` `(batch, 1, 1, sequence)`.
    """
    return {"attention_mask": (mask[:, None, None, :] == 0).to(dtype) * least}


@dataclass(frozen=True)
class Family:
    """A family of models.

    Of some the inside of layers is not known: they have `tensors`, and no `blocks`, `holds`, `fit` and `configure`.
    Their layers can be chosen, and their tokens, but nothing in a layer can be cut, shared or made narrower.

    Attributes:
        model_type: The config's `model_type`.
        prefix: Beginning of its classes' names.
        inputs: Names of a model's inputs, in the order that traced formats take them.
        outside: Modules of the parts outside of the layers, by part.
        of_head: Other modules that a head has parts in, by the end of its class's name.
        inside: Modules of a block's parts, by part; where the inside of layers is not known, those that are.
        stacks: Where the attention and the feed-forward blocks are; `{}` stands for a block's number.
        head_tensors: Beginnings of the names of tensors that a new head brings.
        language_head: Module in front of which a language model's head can be given some of the tokens.
        blocks: Which block each layer uses, from a config.
        holds: Whether its classes can hold parts as they are.
        fit: The parts as its classes hold them; raises StageError where they cannot.
        configure: Sets what its config says of parts, beyond what all configs say.
        idle: Modules of the encoder that no head of ours reads; checkpoints may have them.
        skips_padding: Whether positions are counted from the row behind that of the padding token, so that the table
            has rows that no token uses.
        keeps_mapping: Whether its classes map embeddings whose width is not that of the layers.
        decoder_bias: Second name of the output embedding's bias: the same tensor in a tied head.
        config_names: Its names of settings that other families share, by the common name.
        becomes: Architectures that a distill stage can give a student of such a checkpoint; the first is the default.
            None: the student stays what the checkpoint is.
        keeps: Whether parts that came as this family stay it, and not a plainer one, as long as it holds them.
        defaults: Sizes that a config.json may leave out, by their common names.
        blocks_setting: The setting that counts the blocks it stores; `heads`: each kind of block has a list of its own.
        layer_norm_epsilon: Epsilon of its LayerNorms where the config does not say; None where it does.
        shared_blocks: How many layers use each stored block, by the beginning of its tensors' names.
        register: Makes transformers' Auto classes know classes of our own.
        tensors: Of a family whose layers are wholes, the tensors that its encoder has by a config.json.
        matrices: Of such a family, modules of a layer that have a weight matrix.
        left_out: Tensors that a head has not, by a config.json.
        layer_settings: Settings of which the config has a list with an entry for each layer.
        keeps_first: Whether the first layer is of a kind of its own: it stays the first.
        unsupported: What of a config.json this package has no form for, in words; None for nothing.
        padding_varies: Whether what is computed at a padded position depends on the padding around it, so that nothing
            can be read there: of a position that attends to padding alone.
        own_attention: Whether its classes have attention of their own, and take no other.
        prepare: Changes a loaded model that is going to be traced: the same answers in fewer operators, for any length.
            The number is the score of what is hidden.
        masks: What a traced encoder takes for its mask; see `added_mask`, which most take.
    """

    model_type: str
    prefix: str
    inputs: tuple[str, ...]
    outside: Mapping[str, str]
    inside: Mapping[str, str]
    stacks: tuple[str, str]
    head_tensors: tuple[str, ...]
    language_head: str
    blocks: Callable[[Any], LayerBlocks] = every_layer
    holds: Callable[[ModelParts], bool] = lambda parts: False
    fit: Callable[[ModelParts], ModelParts] = lambda parts: parts
    configure: Callable[[Any, ModelParts], None] = lambda config, parts: None
    of_head: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    idle: tuple[str, ...] = ()
    skips_padding: bool = False
    keeps_mapping: bool = False
    decoder_bias: str | None = None
    config_names: Mapping[str, str] = field(default_factory=dict)
    becomes: tuple[str, ...] = ()
    keeps: bool = True
    defaults: Mapping[str, int] = field(default_factory=dict)
    blocks_setting: str = "num_hidden_layers"
    layer_norm_epsilon: float | None = None
    shared_blocks: Callable[[Mapping[str, Any]], dict[str, int]] = lambda config: {}
    register: Callable[[], None] = lambda: None
    tensors: Callable[[Mapping[str, Any]], Shapes] | None = None
    matrices: tuple[str, ...] = ()
    left_out: Callable[[Mapping[str, Any]], tuple[str, ...]] = lambda config: ()
    layer_settings: tuple[str, ...] = ()
    keeps_first: bool = False
    unsupported: Callable[[Mapping[str, Any]], str | None] = lambda config: None
    padding_varies: bool = False
    own_attention: bool = False
    prepare: Callable[[PreTrainedModel, float], None] = lambda model, least: None
    masks: Callable[[Any, torch.Tensor, torch.dtype, float], dict[str, Any]] = added_mask

    @property
    def whole_layers(self) -> bool:
        """Whether its layers can only be taken as they are."""
        return self.tensors is not None

    @property
    def lists_blocks(self) -> bool:
        """Whether its config lists the widths of attention and feed-forward blocks."""
        return self.blocks_setting == "heads"

    def modules(self, head: str) -> Mapping[str, str]:
        """Modules of the parts outside of the layers, by part, in the class of a head.

        Args:
            head: End of the class's name.
        """
        return {**self.outside, **self.of_head.get(head, {}), **_EVERY_FAMILY.get(head, {})}

    @property
    def places(self) -> set[str]:
        """Modules of the parts outside of the layers, of all heads."""
        heads = (*self.of_head.values(), *_EVERY_FAMILY.values())
        return {*self.outside.values(), *(place for parts in heads for place in parts.values())}

    def first_position(self, config: Mapping[str, Any]) -> int:
        """The row of the position table that the first token of a text uses."""
        return int(self.setting(config, "pad_token_id", 0)) + 1 if self.skips_padding else 0

    def setting(self, config: Mapping[str, Any], name: str, default: Any = None) -> Any:
        """A setting of a config.json, by its common name; where it is left out, the default of the family's classes."""
        fallback = self.defaults.get(name, default)
        return config.get(self.config_names.get(name, name), config.get(name, fallback))


def dense(module: str, outputs: int, inputs: int, bias: bool = True) -> Shapes:
    """The tensors of a dense layer."""
    return {f"{module}.weight": (outputs, inputs), **({f"{module}.bias": (outputs,)} if bias else {})}


def norm(module: str, width: int, bias: bool = True) -> Shapes:
    """The tensors of a LayerNorm."""
    return {f"{module}.weight": (width,), **({f"{module}.bias": (width,)} if bias else {})}
