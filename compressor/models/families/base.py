"""The entry of a family in the table: names, layout, and the parts that its classes can hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compressor.models.parts import ModelParts


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


@dataclass(frozen=True)
class Family:
    """A family of models.

    Attributes:
        model_type: The config's `model_type`.
        prefix: Beginning of its classes' names.
        inputs: Names of a model's inputs, in the order that traced formats take them.
        outside: Modules of the parts outside of the layers, by part.
        of_head: Other modules that a head has parts in, by the end of its class's name.
        inside: Modules of a block's parts, by part.
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
    """

    model_type: str
    prefix: str
    inputs: tuple[str, ...]
    outside: Mapping[str, str]
    inside: Mapping[str, str]
    stacks: tuple[str, str]
    head_tensors: tuple[str, ...]
    language_head: str
    blocks: Callable[[Any], LayerBlocks]
    holds: Callable[[ModelParts], bool]
    fit: Callable[[ModelParts], ModelParts]
    configure: Callable[[Any, ModelParts], None]
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

    @property
    def lists_blocks(self) -> bool:
        """Whether its config lists the widths of attention and feed-forward blocks."""
        return self.blocks_setting == "heads"

    def modules(self, head: str) -> Mapping[str, str]:
        """Modules of the parts outside of the layers, by part, in the class of a head.

        Args:
            head: End of the class's name.
        """
        return {**self.outside, **self.of_head.get(head, {})}

    @property
    def places(self) -> set[str]:
        """Modules of the parts outside of the layers, of all heads."""
        return {*self.outside.values(), *(place for parts in self.of_head.values() for place in parts.values())}

    def first_position(self, config: Mapping[str, Any]) -> int:
        """The row of the position table that the first token of a text uses."""
        return int(self.setting(config, "pad_token_id", 0)) + 1 if self.skips_padding else 0

    def setting(self, config: Mapping[str, Any], name: str, default: Any = None) -> Any:
        """A setting of a config.json, by its common name; where it is left out, the default of the family's classes."""
        fallback = self.defaults.get(name, default)
        return config.get(self.config_names.get(name, name), config.get(name, fallback))


def every_layer(config: Any) -> LayerBlocks:
    """Every layer has blocks of its own."""
    layers = tuple(range(int(config.num_hidden_layers)))
    return LayerBlocks(layers, layers, config.hidden_size // config.num_attention_heads)
