"""Taylor scores: by hand, against finite differences, and for what layers share."""

from __future__ import annotations

import io
from typing import Any, ClassVar

import pytest
import torch
from rich.console import Console
from tiny_models import make_albert, make_batch, make_model

from compressor.models.convert import from_parts, modules, to_parts
from compressor.models.surgery.prune import Kept, Scores, pruned
from compressor.progress import Progress
from compressor.tasks import text_classification
from compressor.training.objectives import Labels, MaskedLanguageModel
from compressor.training.taylor_importance import taylor
from compressor.training.trainer import Batch


def batch_of(model: Any) -> Batch:
    batch = make_batch()
    if not type(model).__name__.endswith("MaskedLM"):
        return {**batch, "labels": torch.tensor([0, 2, 1])}
    place = torch.tensor([[0, 2], [0, 5], [1, 1], [1, 4], [2, 3], [2, 9]])
    return {**batch, "row": place[:, 0], "column": place[:, 1], "labels": torch.tensor([7, 8, 9, 10, 11, 12])}


def scores_of(model: Any, sample: list[Batch]) -> Scores:
    objective = MaskedLanguageModel(model) if "row" in sample[0] else Labels(text_classification)
    with Progress(Console(file=io.StringIO())) as progress, progress.step("test") as step:
        return taylor(model, sample, objective, step)


def row_of(batch: Batch, row: int) -> Batch:
    if "row" not in batch:
        return {name: value[row : row + 1] for name, value in batch.items()}
    hidden = batch["row"] == row
    one = {name: batch[name][row : row + 1] for name in ("input_ids", "attention_mask")}
    return {
        **one,
        "row": batch["row"][hidden] * 0,
        "column": batch["column"][hidden],
        "labels": batch["labels"][hidden],
    }


def loss_with(model: Any, module: torch.nn.Linear, channels: slice, gate: float, batch: Batch) -> float:
    """The loss with some of a module's inputs multiplied, by changing its weights."""
    weight = module.weight.data.clone()
    module.weight.data[:, channels] *= gate
    objective = MaskedLanguageModel(model) if "row" in batch else Labels(text_classification)
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        (loss,) = objective.terms(model, inputs, batch).values()
    module.weight.data = weight
    return float(loss)


KINDS = ["BertForSequenceClassification", "DistilBertForSequenceClassification", "BertForMaskedLM"]
KINDS += ["AlbertForSequenceClassification", "AlbertForMaskedLM", "compact"]


def model_of(kind: str) -> Any:
    if kind == "compact":
        whole = to_parts(make_model("BertForSequenceClassification"))
        kept = Kept(tuple(torch.arange(n + 1) for n in range(4)), tuple(torch.arange(16) for _ in range(4)))
        return from_parts(pruned(whole, kept))
    return make_albert(kind) if kind.startswith("Albert") else make_model(kind)


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_the_slope_of_each_rows_loss_by_finite_differences(kind):
    model = model_of(kind).double().eval()
    batch = batch_of(model)
    found = scores_of(model, [batch])
    whole = to_parts(model)
    assert [len(score) for score in found.heads] == whole.heads
    assert [len(score) for score in found.neurons] == whole.neurons
    rows, step = [row_of(batch, row) for row in range(3)], 1e-4
    for part, scores, size in (("attention_output", found.heads, 8), ("down", found.neurons, 1)):
        for index in (0, len(scores) - 1):
            module = modules(model, part)[index]
            for unit in (0, len(scores[index]) - 1):
                channels = slice(unit * size, (unit + 1) * size)
                losses = [
                    [loss_with(model, module, channels, gate, row) for gate in (1 + step, 1 - step)] for row in rows
                ]
                slopes = [abs(up - down) / (2 * step) for up, down in losses]
                assert float(scores[index][unit]) == pytest.approx(sum(slopes) / 3, rel=1e-3, abs=1e-7)


class OfOneNeuron:
    """A loss that is the mean over rows of what one neuron of the last block says, summed over tokens."""

    weights: ClassVar = {"said": 1.0}

    def __init__(self, model: Any, neuron: int) -> None:
        self.said = torch.zeros(0)
        module = modules(model, "down")[-1]
        module.register_forward_hook(lambda _, given, out: setattr(self, "said", given[0][..., neuron].sum(dim=1)))

    def terms(self, model: Any, inputs: Batch, batch: Batch) -> dict[str, torch.Tensor]:
        model(**inputs)
        return {"said": self.said.mean()}


def test_a_score_by_hand():
    model = make_model("BertForSequenceClassification")
    objective = OfOneNeuron(model, 5)
    with Progress(Console(file=io.StringIO())) as progress, progress.step("test") as step:
        found = taylor(model, [make_batch()], objective, step)
    # The loss is linear in that neuron's gate: its slope is the activation, and it does not see the others.
    assert float(found.neurons[-1][5]) == pytest.approx(float(objective.said.detach().abs().mean()), rel=1e-5)
    assert found.neurons[-1].count_nonzero() == 1
    assert all(score.min() > 0 for score in found.heads), "what comes before it counts"


def test_more_batches_are_a_mean_over_their_rows():
    model = make_model("BertForSequenceClassification").double().eval()
    batch = batch_of(model)
    whole = scores_of(model, [batch])
    parts = scores_of(model, [{name: value[rows] for name, value in batch.items()} for rows in ([0, 1], [2])])
    for one, other in zip((*whole.heads, *whole.neurons), (*parts.heads, *parts.neurons), strict=True):
        assert torch.allclose(one, other, rtol=1e-6)


def test_the_model_is_as_it_was():
    model = make_model("BertForSequenceClassification")
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    scores_of(model, [batch_of(model)])
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in model.parameters())
    assert not any(module._forward_pre_hooks for module in model.modules())
