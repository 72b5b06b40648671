"""The trainer: resumed training is the same training, targets belong to their rows, the teacher is run in order."""

from __future__ import annotations

import io
import shutil
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from conftest import make_tokenizer
from kinds import make_model
from rich.console import Console
from training_rows import batches, rows, schedule

from compressor.errors import StageError
from compressor.models import loading
from compressor.progress import Progress
from compressor.tasks import text_classification
from compressor.training import trainer, training_checkpoints
from compressor.training.objectives import Labels, TaskDistillation
from compressor.training.row_order import RowOrder
from compressor.training.teacher_outputs import write_answers


def run(model: Any, work: Path, objective: Any = None, data: Any = None, **keywords: Any) -> dict[str, Any]:
    torch.manual_seed(0)
    with Progress(Console(file=io.StringIO())) as progress, progress.step("test") as step:
        return trainer.train(
            model,
            data or batches(),
            objective or Labels(text_classification),
            keywords.pop("schedule", schedule()),
            seed=0,
            work=work,
            step=step,
            **keywords,
        )


def test_training_that_was_stopped_ends_where_training_that_was_not_ends(classifier: Path, tmp_path: Path, monkeypatch):
    straight = loading.load_model(classifier)
    facts = run(straight, tmp_path / "straight")
    assert facts["steps"] == 16 and facts["resumed_from_step"] == 0

    monkeypatch.setenv("COMPRESS_SAVE_EVERY_S", "0")

    class Killed(Labels):
        calls = 0

        def terms(self, *arguments: Any) -> trainer.Terms:
            self.calls += 1
            if self.calls == 12:
                raise KeyboardInterrupt
            return super().terms(*arguments)

    try:
        run(loading.load_model(classifier), tmp_path / "stopped", Killed(text_classification))
    except KeyboardInterrupt:
        pass
    resumed = loading.load_model(classifier)
    facts = run(resumed, tmp_path / "stopped")
    assert facts["resumed_from_step"] == 11
    for (name, a), b in zip(straight.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.allclose(a, b, atol=1e-6), name


def test_training_goes_on_from_a_whole_checkpoint_only(classifier: Path, tmp_path: Path, monkeypatch):
    """One that was cut off is passed over; one whose bytes have changed since is not gone on from."""
    monkeypatch.setenv("COMPRESS_SAVE_EVERY_S", "0")
    assert training_checkpoints.last_whole_checkpoint(tmp_path) is None
    run(loading.load_model(classifier), tmp_path)
    (last,) = tmp_path.glob("checkpoint-*")
    shutil.copytree(last, tmp_path / "checkpoint-99", ignore=shutil.ignore_patterns("trainer_state.json"))
    assert training_checkpoints.last_whole_checkpoint(tmp_path) == last
    for name in ("optimizer.pt", "rng_state.pth"):
        content = bytearray((last / name).read_bytes())
        content[len(content) // 2] ^= 1
        (last / name).write_bytes(content)
        assert training_checkpoints.last_whole_checkpoint(tmp_path) is None
        content[len(content) // 2] ^= 1
        (last / name).write_bytes(content)
    assert training_checkpoints.last_whole_checkpoint(tmp_path) == last
    (last / "optimizer.pt").unlink()
    assert training_checkpoints.last_whole_checkpoint(tmp_path) is None


def test_terms_are_reported_without_their_weights(classifier: Path, tmp_path: Path):
    class Two(Labels):
        weights: ClassVar = {"hard": 1.0, "constant": 3.0}

        def items(self, batch: Any) -> trainer.Terms:
            return {**super().items(batch), "constant": torch.tensor(1)}

        def terms(self, *arguments: Any) -> trainer.Terms:
            return {**super().terms(*arguments), "constant": torch.tensor(2.0)}

    facts = run(loading.load_model(classifier), tmp_path, Two(text_classification))
    assert [value for _, value in facts["terms"]["constant"]] == [2.0] * len(facts["loss"])
    for (_, total), (_, hard) in zip(facts["loss"], facts["terms"]["hard"], strict=True):
        assert total == pytest.approx(hard + 6.0, abs=2e-4)


def test_accumulated_gradients_are_those_of_the_large_batch(classifier: Path, tmp_path: Path):
    """One step over 16 rows at once, or over 4 batches of 4: the same weights, where nothing is drawn."""
    states = []
    for name, size, accumulated in (("once", 16, 1), ("four", 4, 4)):
        model = loading.load_model(classifier)
        plan = schedule(batch_size=size, gradient_accumulation_steps=accumulated, epochs=1, warmup_ratio=0.0, dropout=0)
        run(model, tmp_path / name, data=batches(16), schedule=plan)
        states.append(model.state_dict())
    for name in states[0]:
        # A key's bias has no gradient (softmax does not see it), only rounding, which Adam blows up.
        if not name.endswith("key.bias"):
            assert torch.allclose(states[0][name], states[1][name], atol=2e-5), name


def test_bf16_trains_and_fp16_asks_for_a_gpu(classifier: Path, tmp_path: Path):
    model = loading.load_model(classifier)
    facts = run(model, tmp_path / "bf16", schedule=schedule(precision="bf16", learning_rate=3e-3, epochs=6))
    assert facts["loss"][-1][1] < facts["loss"][0][1]
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    if not torch.accelerator.is_available():
        with pytest.raises(StageError, match="fp16 needs a GPU"):
            run(model, tmp_path / "fp16", schedule=schedule(precision="fp16"))


@pytest.mark.parametrize("family", ["bert", "distilbert", "albert", "shared_attention", "pruned"])
def test_without_dropout_training_draws_nothing(family: str, tmp_path: Path):
    """In every family, attention's own dropout too: what a model in training says is what it says at rest."""
    inputs = {name: batches(8).batch(list(range(8)))[name] for name in ("input_ids", "attention_mask")}

    def drawn(model: Any) -> bool:
        with torch.no_grad():
            training, rest = model.train()(**inputs).logits, model.eval()(**inputs).logits
        return not torch.allclose(training, rest, atol=1e-6)

    model = make_model(family)
    run(model, tmp_path / "own", data=batches(8), schedule=schedule(epochs=1))
    assert drawn(model), "by default the checkpoint's own"
    run(model, tmp_path / "none", data=batches(8), schedule=schedule(epochs=1, dropout=0))
    assert not drawn(model)


def test_padding_is_small_because_batches_hold_rows_of_like_length(classifier: Path, tmp_path: Path):
    data = batches(600)
    run(loading.load_model(classifier), tmp_path, data=data, schedule=schedule(epochs=1))
    assert 0 < data.padding < 0.1
    alone = batches(600)
    for row in range(0, 600, 8):
        alone.batch(list(range(row, row + 8)))
    assert alone.padding > 0.2, "that is not so of any batches"


def test_every_row_comes_once_an_epoch_in_an_order_of_its_own():
    lengths = np.random.default_rng(0).integers(3, 60, 1003)
    epochs = iter((0, 0, 1))
    sampler = RowOrder(1003, lengths, 16, seed=0, epoch=lambda: next(epochs))
    first, again, later = list(sampler), list(sampler), list(sampler)
    assert first == again != later
    assert sorted(first) == sorted(later) == list(range(1003))
    batches = [lengths[first[start : start + 16]] for start in range(0, 992, 16)]
    assert sum(np.ptp(batch) for batch in batches) / len(batches) < 3, "of like length"
    means = np.array([batch.mean() for batch in batches])
    assert abs(np.corrcoef(means, np.arange(len(means)))[0, 1]) < 0.4, "in no order of length"


def answers_of(model: Any, folder: Path, count: int = 50, **layers: list[int]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    wanted = {"hidden": [], "attention": [], **layers}
    with Progress(Console(file=io.StringIO())) as progress, progress.step("test") as step:
        write_answers(model, text_classification, make_tokenizer(), rows(count), folder, **wanted, step=step)
    return folder


def test_a_teachers_answers_belong_to_their_rows(classifier: Path, tmp_path: Path):
    model = loading.load_model(classifier, attn_implementation="eager").eval()
    data = batches(50, answers_of(model, tmp_path, hidden=[1, 3], attention=[0, 2]))
    assert len(set(data.lengths)) > 3
    batch = data.batch([7, 31, 2, 48])
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    with torch.no_grad():
        outputs = model(**inputs, output_hidden_states=True, output_attentions=True)
    tokens = batch["attention_mask"].bool()
    pairs = tokens[:, None, :, None] & tokens[:, None, None, :]
    assert torch.allclose(batch["teacher_logits"], outputs.logits, atol=1e-5)
    for place, layer in enumerate((1, 3)):
        assert torch.allclose(
            batch["teacher_hidden"][place][tokens], outputs.hidden_states[layer + 1][tokens], atol=5e-3
        )
    for place, layer in enumerate((0, 2)):
        given, expected = batch["teacher_attention"][place], outputs.attentions[layer]
        assert torch.allclose(given, expected * pairs, atol=1e-3)


def test_a_teacher_as_its_own_student_costs_nothing(classifier: Path, tmp_path: Path):
    model = loading.load_model(classifier, attn_implementation="eager").eval()
    everything = [0, 1, 2, 3]
    data = batches(50, answers_of(model, tmp_path, hidden=everything, attention=everything))
    objective = TaskDistillation(
        text_classification, {"soft": 1.0, "hard": 0.0, "cosine": 1.0, "attention": 1.0}, 2.0, everything
    )
    batch = data.batch(list(range(20)))
    with torch.no_grad():
        inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
        terms = objective.terms(model, inputs, batch)
    assert sorted(terms) == ["attention", "cosine", "soft"], "what weighs nothing is not computed"
    for name, value in terms.items():
        assert abs(value.item()) < 1e-5, name


def test_the_layer_map_says_which_layer_is_learned_from(classifier: Path, tmp_path: Path):
    model = loading.load_model(classifier, attn_implementation="eager").eval()
    data = batches(50, answers_of(model, tmp_path, hidden=[1, 3], attention=[1, 3]))
    batch = data.batch(list(range(20)))
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}

    class FirstTwo(torch.nn.Module):
        """Says of its layers 0 and 1 what the teacher's 3 and 1 do."""

        def forward(self, **given: Any) -> Any:
            outputs = model(**given)
            outputs.hidden_states = [None, outputs.hidden_states[4], outputs.hidden_states[2]]
            outputs.attentions = [outputs.attentions[3], outputs.attentions[1]]
            return outputs

    for layer_map, zero in (([3, 1], True), ([1, 3], False)):
        objective = TaskDistillation(text_classification, {"cosine": 1.0, "attention": 1.0}, 2.0, layer_map)
        with torch.no_grad():
            terms = objective.terms(FirstTwo(), inputs, batch)
        assert all((value.item() < 1e-5) == zero for value in terms.values())


def test_a_term_of_a_batch_is_that_of_its_parts_weighed_by_their_items(classifier: Path, tmp_path: Path):
    model = loading.load_model(classifier, attn_implementation="eager").eval()
    student = loading.load_model(classifier, attn_implementation="eager").eval()
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)) * 0.05)
    data = batches(50, answers_of(model, tmp_path, hidden=[1, 3], attention=[1, 3]))
    objective = TaskDistillation(
        text_classification, {"soft": 1.0, "hard": 1.0, "cosine": 1.0, "attention": 1.0}, 2.0, [1, 3, 3, 3]
    )
    parts = [data.batch(part) for part in ([0], [1, 2, 3, 4, 5], [6, 7])]

    def terms(batch: Any) -> trainer.Terms:
        with torch.no_grad():
            return objective.terms(student, {name: batch[name] for name in ("input_ids", "attention_mask")}, batch)

    for name, whole in terms(data.batch(list(range(8)))).items():
        items = torch.stack([objective.items(part)[name] for part in parts])
        means = torch.stack([terms(part)[name] for part in parts])
        assert float((means * items).sum() / items.sum()) == pytest.approx(float(whole), rel=1e-4), name
