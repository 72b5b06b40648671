from __future__ import annotations

import json
import math
from typing import Any

import pytest
import torch
from tiny_models import KINDS, family_of, hidden_states_of, logits_of, make_model

from compressor.errors import StageError
from compressor.models.surgery.select_layers import least_harmful, reduce_depth


def marked(kind: str = "BertForMaskedLM") -> Any:
    """A model whose layers can be told apart wherever they are put."""
    model = make_model(kind)
    for layer, bias in enumerate(biases_of(model)):
        bias.data.fill_(layer)
    return model


def biases_of(model) -> list[torch.nn.Parameter]:
    ending = "ffn.lin2.bias" if model.config.model_type == "distilbert" else ".output.dense.bias"
    return [p for name, p in model.named_parameters() if name.endswith(ending) and "attention" not in name]


def layers_in(model) -> list[int]:
    return [int(bias[0]) for bias in biases_of(model)]


@pytest.fixture
def model():
    return marked()


def test_the_layer_that_is_missed_least_goes_first(model):
    # What every set of layers costs; layer 0 is the cheapest alone, but not once layer 2 has gone.
    costs = {"123": 2, "023": 4, "013": 1, "012": 3, "13": 9, "03": 6, "01": 5.1234567}

    def degradation(model) -> float:
        present = layers_in(model)
        assert model.config.num_hidden_layers == len(present)
        return costs["".join(map(str, present))]

    kept, rounds = least_harmful(model, 2, degradation)
    assert kept == [0, 1]
    assert rounds == [
        {"dropped": 2, "degradation": {"0": 2.0, "1": 4.0, "2": 1.0, "3": 3.0}},
        {"dropped": 3, "degradation": {"0": 9.0, "1": 6.0, "3": 5.12346}},
    ]
    assert json.loads(json.dumps(rounds)) == rounds


def test_of_equally_harmful_layers_the_lowest_goes(model):
    kept, rounds = least_harmful(model, 2, lambda model: 1.0)
    assert kept == [2, 3]
    assert [entry["dropped"] for entry in rounds] == [0, 1]


def test_all_layers_can_stay(model):
    assert least_harmful(model, 4, pytest.fail) == ([0, 1, 2, 3], [])


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_that_does_nothing_goes_first(kind):
    model = make_model(kind)
    state = model.state_dict()
    number = f"{family_of(kind)}.{'transformer' if kind.startswith('Distil') else 'encoder'}.layer.2."
    for name, tensor in state.items():
        if "layernorm" in name.lower().replace("_", ""):
            tensor.fill_(1.0 if name.endswith("weight") else 0.0)  # the LayerNorm of a LayerNorm is the LayerNorm
        elif name.startswith(number) and any(part in name for part in ("out_lin", "lin2", "output.dense")):
            tensor.zero_()
    whole = logits_of(model)

    def degradation(model) -> float:
        return float((logits_of(model) - whole).square().mean())

    kept, rounds = least_harmful(model, 2, degradation)
    assert rounds[0]["dropped"] == 2
    assert rounds[0]["degradation"]["2"] < 1e-9 < min(rounds[0]["degradation"][layer] for layer in "013")
    assert torch.equal(logits_of(model), whole), "the model is as it was"
    student = reduce_depth(model, kept, model.config.model_type)
    assert degradation(student) == pytest.approx(rounds[1]["degradation"][str(rounds[1]["dropped"])], rel=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_degradation_gets_whole_models_that_are_ready_and_the_model_stays_as_it_is(kind):
    model = marked(kind).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}

    def degradation(candidate) -> float:
        assert candidate is not model
        assert not any(module.training for module in candidate.modules())
        assert not torch.is_grad_enabled()
        assert len(layers_in(candidate)) == candidate.config.num_hidden_layers
        assert len(hidden_states_of(candidate)) == candidate.config.num_hidden_layers + 1
        for parameter in candidate.parameters():
            parameter.zero_()  # nothing of it may be the model's own
        return 0.0

    least_harmful(model, 2, degradation)
    assert model.training
    assert torch.is_grad_enabled()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("count", [0, 5])
def test_a_count_that_cannot_be_is_refused(model, count):
    with pytest.raises(StageError, match=f"has 4 layers; keep 1 to 4 of them, got {count}"):
        least_harmful(model, count, lambda model: 0.0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_degradation_that_cannot_be_compared_is_refused(model, value):
    with pytest.raises(StageError, match="without layer 0 the degradation is"):
        least_harmful(model, 2, lambda model: value)
