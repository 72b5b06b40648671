"""How far a candidate is from the whole model, on batches as training has them."""

from __future__ import annotations

import pytest
import torch
from conftest import make_config
from rich.console import Console
from transformers import BertForSequenceClassification

from compressor.models.surgery.share_layers import Sharing, best_start, share
from compressor.progress import Progress
from compressor.training import layer_search


@pytest.fixture
def model() -> BertForSequenceClassification:
    torch.manual_seed(0)
    return BertForSequenceClassification(make_config()).eval()


@pytest.fixture
def sample() -> list[dict[str, torch.Tensor]]:
    ids = torch.randint(5, 60, (3, 12), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    return [{"input_ids": ids, "attention_mask": mask}]


def test_hidden_state_distance_is_the_mean_angle_of_hidden_states_at_the_same_depth(model, sample):
    shallow = share(model, Sharing("all", 2, 2), [1, 3]).eval()
    tokens = sample[0]["attention_mask"].bool()
    with torch.no_grad():
        theirs, ours = (m.base_model(**sample[0], output_hidden_states=True).hidden_states for m in (model, shallow))
        expected = torch.stack(
            [
                1 - torch.cosine_similarity(ours[layer][tokens], theirs[place][tokens], dim=-1).mean()
                for layer, place in ((1, 2), (2, 4))
            ]
        ).mean()
        with Progress(Console(quiet=True)).step("distance") as step:
            distance = layer_search.hidden_state_distance(model, sample, step)
            assert distance(shallow) == pytest.approx(float(expected), rel=1e-5)
            assert distance(model) == pytest.approx(0, abs=1e-6)
            assert step.done == 2


def test_padding_does_not_count(model, sample):
    other = {**sample[0], "input_ids": sample[0]["input_ids"].clone()}
    other["input_ids"][1, 7:] = 3
    shared = share(model, Sharing("all", 1, 4), [0]).eval()
    with torch.no_grad(), Progress(Console(quiet=True)).step("distance") as step:
        values = [layer_search.hidden_state_distance(model, [batch], step)(shared) for batch in (sample[0], other)]
    assert values[0] == pytest.approx(values[1], rel=1e-5)


def test_a_group_starts_from_the_layer_that_keeps_the_hidden_states(model, sample):
    layers = model.bert.encoder.layer
    for layer in layers[1:3]:
        layer.load_state_dict(layers[0].state_dict())  # the first three are one
    with Progress(Console(quiet=True)).step("distance") as step:
        start, tried = best_start(model, Sharing("all", 1, 4), layer_search.hidden_state_distance(model, sample, step))
    assert start == [0]
    assert min(tried[0], key=tried[0].__getitem__) == "0"
    assert tried[0]["3"] > 2 * tried[0]["0"]
