"""Zeros: the weights chosen, when they become zero, that they stay so, and the facts reported."""

from __future__ import annotations

import io
import json
import zlib
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from conftest import passing, recipe_writer
from prune_stages import CUT, END, TEACHER, TRAIN
from rich.console import Console
from training_rows import batches, schedule

from compressor.models import loading
from compressor.models.surgery import sparsity
from compressor.progress import Progress
from compressor.tasks import text_classification
from compressor.training import trainer
from compressor.training.objectives import Labels
from compressor.training.sparse_training import KeepZeros, Zeros, make_zero


def zeros_in(weights: list[torch.Tensor]) -> list[float]:
    return [float((weight == 0).float().mean()) for weight in weights]


def test_the_cubic_schedule_by_hand():
    # Zhu & Gupta 2017, eq. 1, with s_i = 0, s_f = 0.8: 0.8 - 0.8 * (1 - t)^3
    assert [sparsity.scheduled(done, 0.8) for done in (0, 0.5, 1)] == pytest.approx([0.0, 0.7, 0.8])


def test_the_smallest_become_zero_of_each_matrix_or_of_all():
    weights = [torch.tensor([[1.0, -2.0], [3.0, -4.0]]), torch.tensor([[0.1, 0.2], [-0.3, 0.4]])]
    each = sparsity.largest(weights, 0.5, "layer")
    assert [mask.tolist() for mask in each] == [[[False, False], [True, True]]] * 2
    together = sparsity.largest(weights, 0.5, "global")
    assert [mask.all().item() for mask in together] == [True, False] and not together[1].any()
    assert all(mask.all() for mask in sparsity.largest(weights, 0.0, "layer"))


def test_a_pattern_keeps_the_largest_of_each_group_along_the_inputs():
    weights = [torch.tensor([[1.0, -5.0, 2.0, 4.0, 9.0, 0.5], [0.0, 0.0, 0.0, 0.0, 1.0, 2.0]])]
    (mask,) = sparsity.in_pattern(weights, 2, 4)
    assert mask[0].tolist() == [False, True, False, True, True, True], "the last group has two weights"
    assert mask[1].sum() == 4
    for kept, of in ((1, 4), (2, 4), (3, 8)):
        weight = torch.randn(16, 32)
        groups = (weight * sparsity.in_pattern([weight], kept, of)[0]).reshape(16, -1, of)
        assert ((groups != 0).sum(dim=2) == kept).all()


class Watch(transformers.TrainerCallback):
    """Notes the share of zeros after each step."""

    def __init__(self, model: Any) -> None:
        self.weights, self.shares = sparsity.matrices(model), []

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.shares.append(sum(zeros_in(self.weights)) / len(self.weights))


def train(model: Any, work: Path, *callbacks: Any, objective: Any = None) -> dict[str, Any]:
    torch.manual_seed(0)
    with Progress(Console(file=io.StringIO())) as progress, progress.step("test") as step:
        arguments = (model, batches(), objective or Labels(text_classification), schedule(epochs=3))
        return trainer.train(*arguments, seed=0, work=work, step=step, callbacks=callbacks)


@pytest.mark.parametrize("scope", ["layer", "global"])
def test_zeros_come_by_the_schedule_and_stay(classifier: Path, tmp_path: Path, scope):
    model = loading.load_model(classifier)
    watch = Watch(model)
    before = [weight.clone() for weight in watch.weights]
    assert train(model, tmp_path, KeepZeros(Zeros(0.75, None, scope)), watch)["steps"] == 24
    sizes = [weight.numel() for weight in before]
    if scope == "layer":
        expected = [sparsity.scheduled(min(1, step / 16), 0.75) for step in range(1, 25)]
        assert watch.shares == pytest.approx(expected, abs=1e-3)
        assert zeros_in(watch.weights) == [0.75] * len(before)
    else:
        assert len(set(zeros_in(watch.weights))) > 5
    total = sum(share * size for share, size in zip(zeros_in(watch.weights), sizes, strict=True))
    assert total / sum(sizes) == pytest.approx(0.75, abs=1e-4)
    for old, weight in zip(before, watch.weights, strict=True):
        assert (weight - old)[weight != 0].abs().max() > 0, "the others learn"


def test_training_that_was_stopped_goes_on_with_its_zeros(classifier: Path, tmp_path: Path, monkeypatch):
    zeros = Zeros(0.6, None, "layer")
    straight = loading.load_model(classifier)
    train(straight, tmp_path / "straight", KeepZeros(zeros))
    monkeypatch.setenv("COMPRESS_SAVE_EVERY_S", "0")

    class Killed(Labels):
        calls = 0

        def terms(self, *arguments: Any) -> trainer.Terms:
            self.calls += 1
            if self.calls == 9:
                raise KeyboardInterrupt
            return super().terms(*arguments)

    with pytest.raises(KeyboardInterrupt):
        train(
            loading.load_model(classifier),
            tmp_path / "stopped",
            KeepZeros(zeros),
            objective=Killed(text_classification),
        )
    resumed = loading.load_model(classifier)
    assert train(resumed, tmp_path / "stopped", KeepZeros(zeros))["resumed_from_step"] == 8
    for (name, a), b in zip(straight.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.allclose(a, b, atol=1e-6), name


def test_a_pattern_is_there_from_the_start_and_stays(classifier: Path, tmp_path: Path):
    model = loading.load_model(classifier)
    watch = Watch(model)
    masks = sparsity.in_pattern(watch.weights, 2, 4)
    train(model, tmp_path, KeepZeros(Zeros(0.0, (2, 4), "layer")), watch)
    assert watch.shares == [0.5] * 24
    assert all(((weight != 0) == mask).all() for weight, mask in zip(watch.weights, masks, strict=True))


def test_what_layers_share_is_one_matrix():
    from transformers import AlbertConfig, AlbertForSequenceClassification

    config = AlbertConfig(
        vocab_size=50,
        embedding_size=8,
        hidden_size=16,
        num_attention_heads=2,
        intermediate_size=32,
        num_hidden_layers=3,
    )
    model = AlbertForSequenceClassification(config)
    weights = sparsity.matrices(model)
    assert len(weights) == 6
    make_zero(weights, Zeros(0.5, None, "layer").masks(weights))
    assert zeros_in(sparsity.matrices(model)) == [0.5] * 6


def test_the_report_says_what_zeros_are_worth(tmp_path: Path, encoder: Path):
    stages = passing(
        recipe_writer(tmp_path, encoder),
        tmp_path,
        [
            TEACHER,
            {"stage": "prune", "ffn": 0.25, "sparsity": 0.8, "epochs": 3, **TRAIN},
            {**CUT, "name": "two_of_four", "pattern": "2:4"},
            *END,
        ],
    )
    found, after = (stages[name]["details"]["sparsity"] for name in ("prune", "two_of_four"))
    assert found["matrices"] == pytest.approx(0.8, abs=1e-3) and 0.4 < found["all"] < 0.8
    assert after["matrices"] >= 0.8, "zeros count as smallest"
    path = tmp_path / "artifacts/tiny/model/model.safetensors"
    packed = len(zlib.compress(path.read_bytes()))
    assert after["gzip_bytes"] == pytest.approx(packed, rel=1e-3)
    assert found["gzip_bytes"] < 0.6 * found["gzip_bytes_before"]
    assert found["gzip_bytes"] == after["gzip_bytes_before"]
    assert after["file_bytes"] == path.stat().st_size == found["file_bytes"]
    report = (tmp_path / "artifacts/tiny/report.md").read_text()
    assert "prune: 80.0% of the weights in the layers' matrices are zero" in report
    assert "zeros do not change latency" in report
    model = transformers.AutoModelForSequenceClassification.from_pretrained(path.parent)
    assert min(zeros_in(sparsity.matrices(model))) >= 0.79
    assert type(model).__name__ == "BertForSequenceClassification"
    assert json.loads((path.parent / "config.json").read_text())["intermediate_size"] == 48
