from __future__ import annotations

import json
import math

import pytest
import torch
from tiny_models import KINDS, hidden_states_of, logits_of, make_model

from compressor.errors import StageError
from compressor.surgery.student import least_harmful, shallower


def stack_of(model):
    return getattr(model.base_model, "encoder" if model.config.model_type == "bert" else "transformer")


def layers_in(model, of: list[torch.nn.Module]) -> list[int]:
    return [of.index(layer) for layer in stack_of(model).layer]


@pytest.fixture
def model():
    return make_model("BertForMaskedLM")


def test_the_layer_that_is_missed_least_goes_first(model):
    layers = list(stack_of(model).layer)
    # What every set of layers costs; layer 0 is the cheapest alone, but not once layer 2 has gone.
    costs = {"123": 2, "023": 4, "013": 1, "012": 3, "13": 9, "03": 6, "01": 5.1234567}

    def harm(model) -> float:
        present = layers_in(model, layers)
        assert model.config.num_hidden_layers == len(present)
        return costs["".join(map(str, present))]

    kept, rounds = least_harmful(model, 2, harm)
    assert kept == [0, 1]
    assert rounds == [
        {"dropped": 2, "harm": {"0": 2.0, "1": 4.0, "2": 1.0, "3": 3.0}},
        {"dropped": 3, "harm": {"0": 9.0, "1": 6.0, "3": 5.12346}},
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
    number = "distilbert.transformer.layer.2." if kind.startswith("Distil") else "bert.encoder.layer.2."
    for name, tensor in state.items():
        if "layernorm" in name.lower().replace("_", ""):
            tensor.fill_(1.0 if name.endswith("weight") else 0.0)  # the LayerNorm of a LayerNorm is the LayerNorm
        elif name.startswith(number) and any(part in name for part in ("out_lin", "lin2", "output.dense")):
            tensor.zero_()
    whole = logits_of(model)

    def harm(model) -> float:
        return float((logits_of(model) - whole).square().mean())

    kept, rounds = least_harmful(model, 2, harm)
    assert rounds[0]["dropped"] == 2
    assert rounds[0]["harm"]["2"] < 1e-9 < min(rounds[0]["harm"][layer] for layer in "013")
    assert torch.equal(logits_of(model), whole), "the model is as it was"
    student = shallower(model, kept, model.config.model_type)
    assert harm(student) == pytest.approx(rounds[1]["harm"][str(rounds[1]["dropped"])], rel=1e-5)


def test_the_model_is_as_it_was_also_when_harm_raises(model):
    model.train()
    model.base_model.embeddings.eval()  # a mixture, as a user may have made it
    stack, modes = stack_of(model).layer, [module.training for module in model.modules()]
    names = list(model.state_dict())

    def harm(model) -> float:
        assert not any(module.training for module in model.modules())
        assert not torch.is_grad_enabled()
        if len(stack_of(model).layer) == 2:
            raise ZeroDivisionError
        return 0.0

    with pytest.raises(ZeroDivisionError):
        least_harmful(model, 1, harm)
    assert stack_of(model).layer is stack
    assert len(stack) == model.config.num_hidden_layers == 4
    assert [module.training for module in model.modules()] == modes
    assert list(model.state_dict()) == names
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("kind", KINDS)
def test_hidden_states_are_all_there_during_and_after(kind):
    # transformers puts its hooks on the layers it finds when they are first asked for.
    model = make_model(kind)

    def harm(model) -> float:
        assert len(hidden_states_of(model)) == model.config.num_hidden_layers + 1
        return 0.0

    least_harmful(model, 3, harm)
    assert len(hidden_states_of(model)) == 5


@pytest.mark.parametrize("count", [0, 5])
def test_a_count_that_cannot_be_is_refused(model, count):
    with pytest.raises(StageError, match=f"has 4 layers; keep 1 to 4 of them, got {count}"):
        least_harmful(model, count, lambda model: 0.0)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_harm_that_cannot_be_compared_is_refused(model, value):
    with pytest.raises(StageError, match="without layer 0 the harm is"):
        least_harmful(model, 2, lambda model: value)
