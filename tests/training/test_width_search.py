"""Widths that meet a target: how close they come, that the least harmful are taken, and what cannot be met."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from tiny_models import KINDS, make_albert, make_model

from compressor.errors import StageError
from compressor.models.checkpoint import Checkpoint
from compressor.models.convert import from_parts, to_parts
from compressor.models.surgery import prune
from compressor.models.surgery.pruning_widths import Widths
from compressor.training import width_search
from compressor.training.width_search import Target, fit

HEAD, NEURON = 4 * 32 * 8 + 24, 2 * 32 + 1


class Pretended:
    """Size and latency worked out from the config, with a bend that a straight line does not see."""

    def __init__(self, bend: float = 0.0) -> None:
        self.bend, self.calls = bend, 0

    def size_bytes(self, folders: Sequence[Path]) -> list[float]:
        return [4.0 * Checkpoint(folder).num_parameters + 5000 for folder in folders]

    def latency_p50_ms(self, folders: Sequence[Path]) -> list[float]:
        self.calls += 1
        return [self._latency(Checkpoint(folder)) for folder in folders]

    def _latency(self, checkpoint: Checkpoint) -> float:
        heads, neurons = sum(checkpoint.heads) / 16, sum(checkpoint.neurons) / 256
        return 1 + 4 * heads + 5 * neurons + self.bend * neurons * (1 - neurons)


def found(
    model: Any, target: Target, scope: str = "layer", degradation: Callable[[Any], float] | None = None, **kind: float
):
    whole = to_parts(model)

    def fewer_heads(model: Any) -> float:
        return -sum(to_parts(model).heads)

    trial = Pretended(**kind)
    widths, facts = fit(whole, prune.magnitudes(whole), scope, target, trial, degradation or fewer_heads)
    kept = prune.choose(prune.magnitudes(whole), widths, scope)
    return from_parts(prune.pruned(whole, kept)), widths, facts, trial


@pytest.mark.parametrize("kind", [*KINDS, "AlbertForSequenceClassification"])
@pytest.mark.parametrize("scope", ["layer", "global"])
@pytest.mark.parametrize("share", [0.9, 0.7])
def test_a_number_of_parameters_is_met_and_nearly_used_up(kind, scope, share):
    model = make_albert(kind) if kind.startswith("Albert") else make_model(kind)
    blocks = len(to_parts(model).attentions)
    smallest = model.num_parameters() - blocks * (3 * HEAD + 56 * NEURON)
    limit = smallest + share * (model.num_parameters() - smallest)
    small, _, facts, _ = found(model, Target("num_parameters", limit), scope)
    assert facts["reached"] == small.num_parameters() <= limit
    assert limit - small.num_parameters() < blocks * 8 * NEURON + 200, "one more group in each layer would not fit"


def test_the_mixture_of_least_harm_is_taken():
    model = make_model("BertForSequenceClassification")
    limit = Target("num_parameters", model.num_parameters() - 4 * 32 * NEURON)
    _, widths, facts, _ = found(model, limit)
    assert widths == Widths((4,) * 4, (32,) * 4), "heads are what is missed here"
    _, widths, facts, _ = found(model, limit, degradation=lambda model: -sum(to_parts(model).neurons))
    assert widths == Widths((2,) * 4, (64,) * 4)
    assert [entry["heads"] for entry in facts["tried"]] == [16, 12, 8, 4]
    assert facts["tried"][2] == {"heads": 8, "neurons": 256, "degradation": -256.0}


def test_a_size_is_that_of_the_file():
    model = make_model("DistilBertForSequenceClassification")
    small, _, facts, _ = found(model, Target("size_bytes", 4 * model.num_parameters() - 50_000))
    assert facts["reached"] == 4 * small.num_parameters() + 5000 <= facts["limit"]


@pytest.mark.parametrize("bend", [0.0, 6.0])
def test_a_latency_is_measured_until_it_is_met(bend):
    model = make_model("BertForSequenceClassification")
    _, widths, facts, trial = found(model, Target("latency_p50_ms", 7.0), bend=bend)
    assert 6.0 < facts["reached"] <= 7.0
    assert sum(widths.heads) == 16
    assert trial.calls == 2 if bend == 0 else trial.calls > 2


def test_what_is_met_already_is_left_alone():
    model = make_model("BertForSequenceClassification")
    _, widths, facts, _ = found(model, Target("latency_p50_ms", 10.0), degradation=pytest.fail)
    assert (widths, facts["tried"]) == (Widths((4,) * 4, (64,) * 4), [])


def test_what_cannot_be_met_says_what_can(monkeypatch: pytest.MonkeyPatch):
    model = make_model("BertForSequenceClassification")
    least = model.num_parameters() - 4 * (3 * HEAD + 56 * NEURON)
    with pytest.raises(
        StageError, match=rf"is 5,000, but with one head and .* is still {least:,}; ask for that or more"
    ):
        found(model, Target("num_parameters", 5000))
    assert found(model, Target("num_parameters", least))[1] == Widths((1,) * 4, (8,) * 4)
    with pytest.raises(StageError, match=r"is 2, but with one head and .* is still 2.625"):
        found(model, Target("latency_p50_ms", 2.0))
    monkeypatch.setattr(Pretended, "_latency", lambda self, checkpoint: 10 if sum(checkpoint.heads) > 4 else 5)
    with pytest.raises(StageError, match="the last of 6 tries came to"):
        monkeypatch.setattr(width_search, "_candidates", lambda *_: iter([Widths((3,) * 4, (64,) * 4)]))
        found(model, Target("latency_p50_ms", 9.0))
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(StageError, match="measured in one process"):
        found(model, Target("latency_p50_ms", 9.0))
