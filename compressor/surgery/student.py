"""A shallower student out of a model's own layers, as the same family or as a real DistilBERT."""

from __future__ import annotations

import copy
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch

from compressor.errors import StageError

if TYPE_CHECKING:
    from transformers import PreTrainedModel

State = dict[str, torch.Tensor]

_LAYER = re.compile(r"(.*\.layer\.)(\d+)(\..*)")

_BERT_TO_DISTILBERT = {
    "attention.self.query": "attention.q_lin",
    "attention.self.key": "attention.k_lin",
    "attention.self.value": "attention.v_lin",
    "attention.output.dense": "attention.out_lin",
    "attention.output.LayerNorm": "sa_layer_norm",
    "intermediate.dense": "ffn.lin1",
    "output.dense": "ffn.lin2",
    "output.LayerNorm": "output_layer_norm",
}


def chosen_layers(total: int, count: int | None, layers: Sequence[int] | str) -> list[int]:
    """Which of a model's layers a student starts from.

    Args:
        total: Layers of the model.
        count: Layers of the student; None for as many as listed, or half of the model's.
        layers: A list, or `every_other`: evenly spaced from layer 0, so 0, 2, 4… for half of them.

    Raises:
        StageError: A layer that the model does not have.

    Source: Sanh et al. 2019, section 2, "Student initialization": one layer out of two.
    """
    chosen = list(layers) if not isinstance(layers, str) else []
    if isinstance(layers, str):
        count = count or max(1, total // 2)
        chosen = [index * total // count for index in range(count)]
    if (count or 0) > total or any(layer >= total for layer in chosen):
        raise StageError(f"the incoming checkpoint has {total} layers, 0 to {total - 1}; got {count or chosen}")
    return chosen


def shallower(model: PreTrainedModel, layers: Sequence[int], architecture: str) -> PreTrainedModel:
    """Builds a student from chosen layers; embeddings and head are carried over.

    Args:
        model: `Bert…` or `DistilBert…ForSequenceClassification`; not changed.
        layers: Layers to keep, in the student's order.
        architecture: `bert` or `distilbert`.

    Returns:
        A new model with copies of the weights. Hidden states after layer i of a student of the first layers equal the
        model's (for DistilBERT: of a single segment, its token types folded into the positions).

    Raises:
        StageError: A DistilBERT cannot become a BERT: it has no token types and no pooler.
    """
    family = model.config.model_type
    if family == architecture:
        config = copy.deepcopy(model.config)
        config.num_hidden_layers = len(layers)
        state = _keep_layers(model.state_dict(), layers)
    elif (family, architecture) == ("bert", "distilbert"):
        config = _distilbert_config(model.config, len(layers))
        state = _as_distilbert(_keep_layers(model.state_dict(), layers))
    else:
        raise StageError(f"a {family} checkpoint cannot become {architecture}; use architecture: {family}")
    from transformers import AutoModelForSequenceClassification

    student = AutoModelForSequenceClassification.from_config(config)
    student.load_state_dict(state)
    return student


def _keep_layers(state: State, layers: Sequence[int]) -> State:
    kept: State = {}
    for name, tensor in state.items():
        match = _LAYER.match(name)
        if match is None:
            kept[name] = tensor.clone()
            continue
        for position, layer in enumerate(layers):
            if int(match[2]) == layer:
                kept[f"{match[1]}{position}{match[3]}"] = tensor.clone()
    return kept


def _distilbert_config(config: PreTrainedModel, layers: int) -> PreTrainedModel:
    from transformers import DistilBertConfig

    classifier_dropout = getattr(config, "classifier_dropout", None)
    return DistilBertConfig(
        vocab_size=config.vocab_size,
        max_position_embeddings=config.max_position_embeddings,
        n_layers=layers,
        n_heads=config.num_attention_heads,
        dim=config.hidden_size,
        hidden_dim=config.intermediate_size,
        dropout=config.hidden_dropout_prob,
        attention_dropout=config.attention_probs_dropout_prob,
        activation=config.hidden_act,
        initializer_range=config.initializer_range,
        seq_classif_dropout=config.hidden_dropout_prob if classifier_dropout is None else classifier_dropout,
        pad_token_id=config.pad_token_id,
        id2label=config.id2label,
        label2id=config.label2id,
    )


def _as_distilbert(state: State) -> State:
    """BERT's tensors under DistilBERT's names.

    Token types go: the first type's row, which single sentences use, is added to every position. BERT's pooler becomes
    DistilBERT's pre-classifier, though that has ReLU where the pooler has tanh: training has to make up for it.
    """
    embeddings = "bert.embeddings."
    first_type = state[f"{embeddings}token_type_embeddings.weight"][0]
    new: State = {
        "distilbert.embeddings.word_embeddings.weight": state[f"{embeddings}word_embeddings.weight"],
        "distilbert.embeddings.position_embeddings.weight": state[f"{embeddings}position_embeddings.weight"]
        + first_type,
    }
    for kind in ("weight", "bias"):
        new[f"distilbert.embeddings.LayerNorm.{kind}"] = state[f"{embeddings}LayerNorm.{kind}"]
        new[f"pre_classifier.{kind}"] = state[f"bert.pooler.dense.{kind}"]
        new[f"classifier.{kind}"] = state[f"classifier.{kind}"]
    for name, tensor in state.items():
        match = re.match(r"bert\.encoder\.layer\.(\d+)\.(.*)\.(weight|bias)", name)
        if match:
            new[f"distilbert.transformer.layer.{match[1]}.{_BERT_TO_DISTILBERT[match[2]]}.{match[3]}"] = tensor
    return new
