"""A shallower student out of a model's own layers, as the same family or as a real DistilBERT."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from compressor.errors import StageError
from compressor.surgery.distilbert import State, as_distilbert, distilbert_config

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

LAYER = re.compile(r"(.*\.layer\.)(\d+)(\..*)")
"""A tensor's name inside a layer: what is before the layer's number, the number, what is after it."""

_STACKS = {"bert": "encoder", "distilbert": "transformer"}
_HEADS = ("ForMaskedLM", "ForSequenceClassification")


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


def least_harmful(
    model: PreTrainedModel, count: int, harm: Callable[[PreTrainedModel], float]
) -> tuple[list[int], list[dict[str, Any]]]:
    """Which layers to keep, by dropping the one that is missed least, again and again.

    Every round tries the model without each of the layers that are left, so that n layers down to k take
    n + (n - 1) + … + (k + 1) calls of `harm`. Its weights are neither copied nor changed.

    Args:
        model: A BERT or DistilBERT with any head; afterwards it is as it was, also if `harm` raises.
        count: Layers to keep, from 1 to all.
        harm: How bad a model is, such as its loss on held-out rows: finite, less is better. It gets `model` itself,
            with fewer layers, in eval mode and without gradients.

    Returns:
        The kept layers in ascending order, and for every round `dropped` and `harm` by layer (six significant digits;
        the layers are strings, as they come back from JSON). Of equally harmful layers the lowest goes.

    Raises:
        StageError: A count that the model does not have, or a harm that is not a finite number.

    Source: Peer et al. 2022, "Greedy-layer pruning" (arXiv 2105.14839), without fine-tuning every candidate; Sajjad et
        al. 2023, "On the effect of dropping layers of pre-trained transformer models" (arXiv 2004.03844), section 3,
        for the strategies without a search that it competes with.
    """
    total = model.config.num_hidden_layers
    if not 1 <= count <= total:
        raise StageError(f"the incoming checkpoint has {total} layers; keep 1 to {total} of them, got {count}")
    kept, rounds = list(range(total)), []
    with _ready_for_trials(model):
        while len(kept) > count:
            harms = {layer: _harm_without(model, kept, layer, harm) for layer in kept}
            dropped = min(kept, key=lambda layer: (harms[layer], layer))
            kept.remove(dropped)
            rounds.append({"dropped": dropped, "harm": {str(k): float(f"{v:.6g}") for k, v in harms.items()}})
    return kept, rounds


def _harm_without(
    model: PreTrainedModel, layers: Sequence[int], without: int, harm: Callable[[PreTrainedModel], float]
) -> float:
    with _only(model, [layer for layer in layers if layer != without]):
        value = float(harm(model))
    if not math.isfinite(value):
        raise StageError(f"without layer {without} the harm is {value}; list the layers, or measure on other rows")
    return value


@contextmanager
def _ready_for_trials(model: PreTrainedModel) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        with torch.no_grad():
            # transformers hooks the layers that it finds when hidden states are first asked for, and never again: a
            # layer that is out at that moment would be left out of `hidden_states` for good.
            token = torch.zeros(1, 1, dtype=torch.long, device=model.device)
            model.base_model(token, output_hidden_states=True)
            yield
    finally:
        for module, training in modes:
            module.training = training


@contextmanager
def _only(model: PreTrainedModel, layers: Sequence[int]) -> Iterator[None]:
    """The model with some of its layers, in place."""
    stack = getattr(model.base_model, _STACKS[model.config.model_type])
    whole = stack.layer
    try:
        stack.layer = torch.nn.ModuleList(whole[layer] for layer in layers).eval()
        model.config.num_hidden_layers = len(layers)  # negative indices of hidden states are counted from it
        yield
    finally:
        stack.layer = whole
        model.config.num_hidden_layers = len(whole)


def shallower(model: PreTrainedModel, layers: Sequence[int], architecture: str) -> PreTrainedModel:
    """Builds a student from chosen layers; embeddings and head are carried over.

    Args:
        model: `Bert…` or `DistilBert…`, `…ForSequenceClassification` or `…ForMaskedLM`; not changed.
        layers: Layers to keep, in the student's order.
        architecture: `bert` or `distilbert`.

    Returns:
        A new model with copies of the weights and the same kind of head. Hidden states after layer i of a student of
        the first layers equal the model's (for DistilBERT: of a single segment, its token types folded into the
        positions).

    Raises:
        StageError: A DistilBERT cannot become a BERT: it has no token types and no pooler. Or another kind of model.
    """
    family = model.config.model_type
    if (family, architecture) not in {(family, family), ("bert", "distilbert")}:
        raise StageError(f"a {family} checkpoint cannot become {architecture}; use architecture: {family}")
    head = head_of(model)
    config = copy.deepcopy(model.config)
    config.num_hidden_layers = len(layers)
    state = _keep_layers(model.state_dict(), layers)
    if family != architecture:
        config, state = distilbert_config(config), as_distilbert(state)
    return build(head, config, state)


def head_of(model: PreTrainedModel) -> str:
    """The head of a model, as the end of its class's name and of the Auto class's.

    Raises:
        StageError: Nobody here knows the tensors of such a model by name.
    """
    kind = type(model).__name__
    kinds = {f"{family}{head}": head for family in ("Bert", "DistilBert") for head in _HEADS}
    if kind not in kinds:
        raise StageError(f"cannot cut a {kind}; load the checkpoint as one of {', '.join(kinds)}")
    return kinds[kind]


def build(head: str, config: PreTrainedConfig, state: State) -> PreTrainedModel:
    """Builds a model from all of its tensors, which are copied; what the config ties stays tied.

    Args:
        head: What `head_of` says.
        config: Of the new model.
        state: Every tensor of the new model by name.
    """
    import transformers

    model = getattr(transformers, f"AutoModel{head}").from_config(config)
    model.load_state_dict(state)
    return model


def _keep_layers(state: State, layers: Sequence[int]) -> State:
    kept: State = {}
    for name, tensor in state.items():
        match = LAYER.match(name)
        if match is None:
            kept[name] = tensor
            continue
        for position, layer in enumerate(layers):
            if int(match[2]) == layer:
                kept[f"{match[1]}{position}{match[3]}"] = tensor
    return kept
