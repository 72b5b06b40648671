"""A BERT whose layers may share weights and differ in width, for what no class of transformers can hold.

It is ALBERT, part by part, with three liberties: each layer names its attention and its feed-forward block, so that
either can be shared without the other; each block has its own number of heads or neurons; the embeddings need no
mapping when they are as wide as the layers. Blocks are stored once, however many layers use them.
"""

# No `from __future__ import annotations`: transformers reads `config: …` at run time.
from dataclasses import field
from typing import Any

import torch
from torch import nn
from transformers import (
    AlbertConfig,
    AlbertForMaskedLM,
    AlbertForPreTraining,
    AlbertForQuestionAnswering,
    AlbertForSequenceClassification,
    AlbertForTokenClassification,
)
from transformers.activations import ACT2FN
from transformers.modeling_outputs import BaseModelOutput
from transformers.models.albert.modeling_albert import (
    AlbertAttention,
    AlbertEmbeddings,
    AlbertMLMHead,
    AlbertModel,
    AlbertPreTrainedModel,
    AlbertSOPHead,
)


class CompactBertConfig(AlbertConfig):  # type: ignore[misc]  # transformers is untyped here
    """Config of a `CompactBertModel`.

    Attributes:
        attention_of_layer: For each layer, the index of its attention block.
        feed_forward_of_layer: For each layer, the index of its feed-forward block.
        heads: Attention heads of each attention block.
        neurons: Width of each feed-forward block.
        head_size: Channels of a head.
        embedding_mapping: Whether a matrix maps the embeddings to the layers' width.
        pooler_activation: What follows the pooler's matrix: `tanh` as in BERT, or `relu` as in DistilBERT.
    """

    model_type = "compact_bert"

    attention_of_layer: list[int] = field(default_factory=list)
    feed_forward_of_layer: list[int] = field(default_factory=list)
    heads: list[int] = field(default_factory=list)
    neurons: list[int] = field(default_factory=list)
    head_size: int = 64
    embedding_mapping: bool = True
    pooler_activation: str = "tanh"


class CompactAttention(AlbertAttention):  # type: ignore[misc]  # transformers is untyped here
    """Attention with residual connection and LayerNorm, of any number of heads.

    Args:
        config: The model's.
        heads: Of this block.
    """

    def __init__(self, config: CompactBertConfig, heads: int) -> None:
        nn.Module.__init__(self)
        hidden, width = config.hidden_size, heads * config.head_size
        self.config = config
        self.num_attention_heads, self.attention_head_size, self.all_head_size = heads, config.head_size, width
        self.scaling = config.head_size**-0.5
        self.attention_dropout = nn.Dropout(config.attention_probs_dropout_prob)
        self.output_dropout = nn.Dropout(config.hidden_dropout_prob)
        self.query, self.key, self.value = (nn.Linear(hidden, width) for _ in range(3))
        self.dense = nn.Linear(width, hidden)
        self.LayerNorm = nn.LayerNorm(hidden, eps=config.layer_norm_eps)
        self.is_causal = False


class CompactFeedForward(nn.Module):
    """Feed-forward network with residual connection and LayerNorm, of any width.

    Args:
        config: The model's.
        neurons: Of this block.
    """

    def __init__(self, config: CompactBertConfig, neurons: int) -> None:
        super().__init__()
        self.ffn = nn.Linear(config.hidden_size, neurons)
        self.activation = ACT2FN[config.hidden_act]
        self.ffn_output = nn.Linear(neurons, config.hidden_size)
        self.LayerNorm = nn.LayerNorm(config.hidden_size, eps=config.layer_norm_eps)

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """`(batch, sequence, hidden)` in and out."""
        output: torch.Tensor = self.LayerNorm(self.ffn_output(self.activation(self.ffn(hidden_states))) + hidden_states)
        return output


class CompactLayer(nn.Module):
    """One layer: the blocks belong to the encoder, because other layers may use them too."""

    def forward(
        self,
        hidden_states: torch.Tensor,
        attention: CompactAttention,
        feed_forward: CompactFeedForward,
        attention_mask: torch.Tensor | None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """`(batch, sequence, hidden)` in and out."""
        output: torch.Tensor = feed_forward(attention(hidden_states, attention_mask, **kwargs)[0])
        return output


class CompactEncoder(nn.Module):
    """The layers, and the blocks that they use.

    Args:
        config: The model's.
    """

    def __init__(self, config: CompactBertConfig) -> None:
        super().__init__()
        self.config = config
        if config.embedding_mapping:
            self.embedding_hidden_mapping_in = nn.Linear(config.embedding_size, config.hidden_size)
        self.attentions = nn.ModuleList(CompactAttention(config, heads) for heads in config.heads)
        self.feed_forwards = nn.ModuleList(CompactFeedForward(config, neurons) for neurons in config.neurons)
        self.layers = nn.ModuleList(CompactLayer() for _ in range(config.num_hidden_layers))

    def forward(
        self, hidden_states: torch.Tensor, attention_mask: torch.Tensor | None = None, **kwargs: Any
    ) -> BaseModelOutput:
        """From embeddings `(batch, sequence, embedding)` to the last hidden states `(batch, sequence, hidden)`."""
        if self.config.embedding_mapping:
            hidden_states = self.embedding_hidden_mapping_in(hidden_states)
        used = zip(self.layers, self.config.attention_of_layer, self.config.feed_forward_of_layer, strict=True)
        for layer, attention, feed_forward in used:
            blocks = self.attentions[attention], self.feed_forwards[feed_forward]
            hidden_states = layer(hidden_states, *blocks, attention_mask, **kwargs)
        return BaseModelOutput(last_hidden_state=hidden_states)


class CompactBertModel(AlbertModel):  # type: ignore[misc]  # transformers is untyped here
    """The encoder without a head.

    Args:
        config: Its config.
        add_pooling_layer: Whether it has the matrix that classifiers read the first token through.
    """

    config: CompactBertConfig
    _can_record_outputs = {"hidden_states": CompactLayer, "attentions": CompactAttention}  # noqa: RUF012 -- as theirs

    def __init__(self, config: CompactBertConfig, add_pooling_layer: bool = True) -> None:
        AlbertPreTrainedModel.__init__(self, config)
        self.config = config
        self.embeddings = AlbertEmbeddings(config)
        self.encoder = CompactEncoder(config)
        self.pooler = nn.Linear(config.hidden_size, config.hidden_size) if add_pooling_layer else None
        self.pooler_activation = ACT2FN[config.pooler_activation] if add_pooling_layer else None
        self.post_init()


class CompactBertForSequenceClassification(AlbertForSequenceClassification):  # type: ignore[misc]  # as above
    """With a classifier of the first token.

    Args:
        config: Its config.
    """

    config: CompactBertConfig

    def __init__(self, config: CompactBertConfig) -> None:
        AlbertPreTrainedModel.__init__(self, config)
        self.num_labels = config.num_labels
        self.albert = CompactBertModel(config)
        self.dropout = nn.Dropout(config.classifier_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()


class CompactBertForTokenClassification(AlbertForTokenClassification):  # type: ignore[misc]  # as above
    """With a classifier of every token.

    Args:
        config: Its config.
    """

    config: CompactBertConfig

    def __init__(self, config: CompactBertConfig) -> None:
        AlbertPreTrainedModel.__init__(self, config)
        self.num_labels = config.num_labels
        self.albert = CompactBertModel(config, add_pooling_layer=False)
        self.dropout = nn.Dropout(config.classifier_dropout_prob)
        self.classifier = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()


class CompactBertForQuestionAnswering(AlbertForQuestionAnswering):  # type: ignore[misc]  # as above
    """With a head for where an answer starts and ends.

    Args:
        config: Its config.
    """

    config: CompactBertConfig

    def __init__(self, config: CompactBertConfig) -> None:
        AlbertPreTrainedModel.__init__(self, config)
        self.num_labels = config.num_labels
        self.albert = CompactBertModel(config, add_pooling_layer=False)
        self.qa_outputs = nn.Linear(config.hidden_size, config.num_labels)
        self.post_init()


class CompactBertForMaskedLM(AlbertForMaskedLM):  # type: ignore[misc]  # as above
    """With a masked language model's head.

    Args:
        config: Its config.
    """

    config: CompactBertConfig

    def __init__(self, config: CompactBertConfig) -> None:
        AlbertPreTrainedModel.__init__(self, config)
        self.albert = CompactBertModel(config, add_pooling_layer=False)
        self.predictions = AlbertMLMHead(config)
        self.post_init()


class CompactBertForPreTraining(AlbertForPreTraining):  # type: ignore[misc]  # as above
    """With a masked language model's head and one for the order of two segments.

    Args:
        config: Its config.
    """

    config: CompactBertConfig

    def __init__(self, config: CompactBertConfig) -> None:
        AlbertPreTrainedModel.__init__(self, config)
        self.albert = CompactBertModel(config)
        self.predictions = AlbertMLMHead(config)
        self.sop_classifier = AlbertSOPHead(config)
        self.post_init()
