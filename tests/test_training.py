"""The trainer: resumed training is the same training, targets belong to their rows, the teacher is run in order."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_tokenizer, sentences
from datasets import Dataset
from rich.console import Console

from compressor import checkpoint
from compressor.errors import StageError
from compressor.progress import Progress
from compressor.tasks import text_classification
from compressor.training import trainer
from compressor.training.losses import hard_label_loss
from compressor.training.teacher import write_logits


def rows(count: int) -> Dataset:
    texts, labels = zip(*sentences(count, seed=7), strict=True)
    data = Dataset.from_dict({"text": list(texts), "label": list(labels)})
    return text_classification.encode(data, make_tokenizer(), 24, {"negative": 0, "positive": 1})


def schedule(**overrides: Any) -> trainer.Schedule:
    values = dict(epochs=2, max_steps=None, batch_size=8, gradient_accumulation_steps=1, learning_rate=1e-3,
                  warmup_ratio=0.1, weight_decay=0.01, precision="fp32")  # fmt: skip
    return trainer.Schedule(**{**values, **overrides})


def run(model: Any, work: Path, loss: Any = None, data: Dataset | None = None, **keywords: Any) -> dict[str, Any]:
    torch.manual_seed(0)
    with Progress(Console(file=io.StringIO())) as progress, progress.step("test") as step:
        return trainer.train(
            model,
            make_tokenizer(),
            data if data is not None else rows(64),
            loss or (lambda logits, batch: hard_label_loss(logits, batch["labels"])),
            keywords.pop("schedule", schedule()),
            seed=0,
            work=work,
            step=step,
            **keywords,
        )


def test_training_that_was_stopped_ends_where_training_that_was_not_ends(classifier: Path, tmp_path: Path, monkeypatch):
    straight = checkpoint.load_model(classifier)
    facts = run(straight, tmp_path / "straight")
    assert facts["steps"] == 16 and facts["resumed_from_step"] == 0

    monkeypatch.setattr(trainer, "_SAVE_EVERY_S", 0.0)
    monkeypatch.setattr(trainer, "_SAVE_SHARE", 1e9)
    calls = 0

    def killed(logits: torch.Tensor, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == 12:
            raise KeyboardInterrupt
        return hard_label_loss(logits, batch["labels"])

    try:
        run(checkpoint.load_model(classifier), tmp_path / "stopped", killed)
    except KeyboardInterrupt:
        pass
    resumed = checkpoint.load_model(classifier)
    facts = run(resumed, tmp_path / "stopped")
    assert facts["resumed_from_step"] == 11
    for (name, a), b in zip(straight.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.allclose(a, b, atol=1e-6), name


def test_a_training_checkpoint_that_was_cut_off_is_passed_over(tmp_path: Path):
    for number, state in ((5, '{"global_step": 5}'), (9, '{"global_st')):
        folder = tmp_path / f"checkpoint-{number}"
        folder.mkdir()
        (folder / "trainer_state.json").write_text(state)
    (tmp_path / "checkpoint-12").mkdir()
    assert trainer._last_whole_checkpoint(tmp_path) == tmp_path / "checkpoint-5"


def test_targets_reach_the_loss_with_their_rows(classifier: Path, tmp_path: Path):
    data = rows(40)
    targets = np.asarray(data["labels"], dtype=np.float32)[:, None] * 10
    seen = 0

    def loss(logits: torch.Tensor, batch: dict[str, torch.Tensor]) -> torch.Tensor:
        nonlocal seen
        seen += len(logits)
        assert torch.equal(batch["mine"][:, 0], batch["labels"] * 10.0)
        return hard_label_loss(logits, batch["labels"])

    run(checkpoint.load_model(classifier), tmp_path, loss, data, targets={"mine": targets})
    assert seen == 80


def test_accumulated_gradients_are_those_of_the_large_batch(classifier: Path, tmp_path: Path):
    """One step over 16 rows at once, or over 4 batches of 4: the same weights, without dropout."""
    states = []
    for name, size, accumulated in (("once", 16, 1), ("four", 4, 4)):
        model = checkpoint.load_model(classifier, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
        plan = schedule(batch_size=size, gradient_accumulation_steps=accumulated, epochs=1, warmup_ratio=0.0)
        run(model, tmp_path / name, data=rows(16), schedule=plan)
        states.append(model.state_dict())
    for name in states[0]:
        # A key's bias has no gradient (softmax does not see it), only rounding, which Adam blows up.
        if not name.endswith("key.bias"):
            assert torch.allclose(states[0][name], states[1][name], atol=2e-5), name


def test_bf16_trains_and_fp16_asks_for_a_gpu(classifier: Path, tmp_path: Path):
    model = checkpoint.load_model(classifier)
    facts = run(model, tmp_path / "bf16", schedule=schedule(precision="bf16", learning_rate=3e-3, epochs=6))
    assert facts["loss"][-1][1] < facts["loss"][0][1]
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    if not torch.accelerator.is_available():
        with pytest.raises(StageError, match="fp16 needs a GPU"):
            run(model, tmp_path / "fp16", schedule=schedule(precision="fp16"))


def test_padding_is_small_because_batches_hold_rows_of_like_length(classifier: Path, tmp_path: Path):
    real = padded = 0
    data = rows(600)

    class Counting(trainer._Collator):
        def __call__(self, batch: list[dict[str, Any]]) -> dict[str, Any]:
            nonlocal real, padded
            collated = super().__call__(batch)
            real += int(collated["attention_mask"].sum())
            padded += collated["attention_mask"].numel()
            return collated

    original, trainer._Collator = trainer._Collator, Counting
    try:
        run(checkpoint.load_model(classifier), tmp_path, data=data, schedule=schedule(epochs=1))
    finally:
        trainer._Collator = original
    assert real / padded > 0.9


def test_teachers_logits_are_in_the_order_of_the_rows(classifier: Path, tmp_path: Path):
    data, model = rows(50), checkpoint.load_model(classifier).eval()
    with Progress(Console(file=io.StringIO())) as progress, progress.step("test") as step:
        write_logits(model, make_tokenizer(), data, tmp_path / "logits.npy", step)
    logits = np.load(tmp_path / "logits.npy")
    assert len(set(data["length"])) > 3
    for index in range(50):
        with torch.no_grad():
            alone = model(input_ids=torch.tensor([data[index]["input_ids"]])).logits[0]
        assert np.allclose(logits[index], alone.numpy(), atol=1e-5)
