"""A BERT's tensors and config under DistilBERT's names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from transformers import DistilBertConfig, PreTrainedConfig

State = dict[str, torch.Tensor]

_LAYER = re.compile(r"bert\.encoder\.layer\.(\d+)\.(.*)\.(weight|bias)")

_IN_LAYER = {
    "attention.self.query": "attention.q_lin",
    "attention.self.key": "attention.k_lin",
    "attention.self.value": "attention.v_lin",
    "attention.output.dense": "attention.out_lin",
    "attention.output.LayerNorm": "sa_layer_norm",
    "intermediate.dense": "ffn.lin1",
    "output.dense": "ffn.lin2",
    "output.LayerNorm": "output_layer_norm",
}

_OUTSIDE = {
    "bert.embeddings.word_embeddings.weight": "distilbert.embeddings.word_embeddings.weight",
    "bert.embeddings.position_embeddings.weight": "distilbert.embeddings.position_embeddings.weight",
    "bert.embeddings.LayerNorm.weight": "distilbert.embeddings.LayerNorm.weight",
    "bert.embeddings.LayerNorm.bias": "distilbert.embeddings.LayerNorm.bias",
    "bert.pooler.dense.weight": "pre_classifier.weight",
    "bert.pooler.dense.bias": "pre_classifier.bias",
    "classifier.weight": "classifier.weight",
    "classifier.bias": "classifier.bias",
    "cls.predictions.transform.dense.weight": "vocab_transform.weight",
    "cls.predictions.transform.dense.bias": "vocab_transform.bias",
    "cls.predictions.transform.LayerNorm.weight": "vocab_layer_norm.weight",
    "cls.predictions.transform.LayerNorm.bias": "vocab_layer_norm.bias",
    "cls.predictions.decoder.weight": "vocab_projector.weight",
    "cls.predictions.decoder.bias": "vocab_projector.bias",
}

_GONE = {
    "bert.embeddings.token_type_embeddings.weight",  # its first row goes into the positions
    "cls.predictions.bias",  # where the head is tied, another name of decoder.bias; where it is not, without use
}


def as_distilbert(state: State) -> State:
    """BERT's tensors under DistilBERT's names.

    Token types go: the first type's row, which single sentences use, is added to every position. BERT's pooler becomes
    DistilBERT's pre-classifier, though that has ReLU where the pooler has tanh: training has to make up for it. The
    head for masked words is the same function in both.

    Args:
        state: Tensors of a `BertForSequenceClassification` or a `BertForMaskedLM`.

    Returns:
        Tensors of the DistilBERT with the same head; those that did not change are shared, not copied.

    Source: Sanh et al. 2019, section 2, "Student architecture": token types and pooler are removed.
    """
    new: State = {}
    for name, tensor in state.items():
        if name in _GONE:
            continue
        if match := _LAYER.fullmatch(name):
            new[f"distilbert.transformer.layer.{match[1]}.{_IN_LAYER[match[2]]}.{match[3]}"] = tensor
        else:
            new[_OUTSIDE[name]] = tensor
    first_type = state["bert.embeddings.token_type_embeddings.weight"][0]
    positions = "distilbert.embeddings.position_embeddings.weight"
    new[positions] = new[positions] + first_type
    return new


def distilbert_config(config: PreTrainedConfig) -> DistilBertConfig:
    """The config of the DistilBERT that a BERT becomes.

    DistilBERT's LayerNorms always have an epsilon of 1e-12, whatever `layer_norm_eps` says.

    Args:
        config: The BERT's.
    """
    from transformers import DistilBertConfig

    classifier_dropout = getattr(config, "classifier_dropout", None)
    return DistilBertConfig(
        vocab_size=config.vocab_size,
        max_position_embeddings=config.max_position_embeddings,
        n_layers=config.num_hidden_layers,
        n_heads=config.num_attention_heads,
        dim=config.hidden_size,
        hidden_dim=config.intermediate_size,
        dropout=config.hidden_dropout_prob,
        attention_dropout=config.attention_probs_dropout_prob,
        activation=config.hidden_act,
        initializer_range=config.initializer_range,
        seq_classif_dropout=config.hidden_dropout_prob if classifier_dropout is None else classifier_dropout,
        pad_token_id=config.pad_token_id,
        tie_word_embeddings=config.tie_word_embeddings,
        problem_type=config.problem_type,
        id2label=config.id2label,
        label2id=config.label2id,
        dtype=config.dtype,
    )
