"""Masked language modelling: what is hidden is guessed, the teacher's cached guesses belong to their tokens."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import make_config, make_tokenizer, sentences
from rich.console import Console

from compressor.data.corpus import packing
from compressor.data.corpus.masking import Vocabulary, mask
from compressor.data.spec import CorpusSpec
from compressor.files import ArrayWriter
from compressor.models import loading
from compressor.models.surgery.select_layers import reduce_depth
from compressor.progress import Progress
from compressor.tasks import masked_lm
from compressor.training import projection
from compressor.training.batches import MaskedBatches
from compressor.training.objectives import PretrainingDistillation, head_at
from compressor.training.sequences import Sequences
from compressor.training.teacher_outputs import write_targets

LENGTH, SLOTS = 24, 4


def language_model(family: str = "bert") -> Any:
    from transformers import AutoModelForMaskedLM

    torch.manual_seed(0)
    model = AutoModelForMaskedLM.from_config(make_config())
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.05)
    return (model if family == "bert" else reduce_depth(model, range(4), "distilbert")).eval()


@pytest.fixture
def sequences(tmp_path: Path) -> Sequences:
    texts = [text for text, _ in sentences(300, seed=3)]
    packing.pack(texts, CorpusSpec(source="x.txt"), make_tokenizer(), LENGTH, 0.1, tmp_path, lambda done: None)
    path = tmp_path / packing.TRAIN
    return Sequences(path, np.arange(5, 45), LENGTH, 0)


def masking(data: Sequences, folder: Path, seed: int) -> Path:
    folder.mkdir()
    tokens = data.tokens(np.arange(len(data)))
    masked = mask(tokens, Vocabulary.of(make_tokenizer()), probability=0.15, whole_words=seed > 1, seed=(seed,))
    for name in ("positions", "inputs"):
        values = getattr(masked, name)
        wide = np.pad(values, ((0, 0), (0, SLOTS - values.shape[1])), constant_values=-1 if name == "positions" else 0)
        np.save(folder / f"{name}.npy", wide)
    return folder


def targets(model: Any, data: Sequences, masked: Path, folder: Path, **overrides: Any) -> Path:
    folder.mkdir()
    values = {"top_k": 8, "temperature": 2.0, "hidden": True, "bf16": False, **overrides}
    with Progress(Console(file=io.StringIO())) as progress, progress.step("test") as step:
        write_targets(model, MaskedBatches(data, [masked]), folder, length=LENGTH, slots=SLOTS, step=step, **values)
    return folder


def inputs_of(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: batch[name] for name in ("input_ids", "attention_mask")}


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_logits_at_some_tokens_are_those_of_all_tokens_there(family: str):
    model = language_model(family)
    ids = torch.randint(5, 60, (3, 10), generator=torch.Generator().manual_seed(0))
    row, column = torch.tensor([0, 0, 2]), torch.tensor([1, 9, 4])
    with torch.no_grad():
        everywhere = model(input_ids=ids).logits
        with head_at(model, row, column):
            some = model(input_ids=ids).logits
        again = model(input_ids=ids).logits
    assert some.shape == (1, 3, everywhere.shape[-1])
    assert torch.allclose(some[0], everywhere[row, column], atol=1e-6)
    assert torch.equal(again, everywhere), "and the head is as it was"


def test_a_batch_hides_tokens_and_tells_which(sequences: Sequences, tmp_path: Path):
    maskings = [masking(sequences, tmp_path / str(seed), seed) for seed in (1, 2)]
    batches = MaskedBatches(sequences, maskings)
    assert len(batches) == 80 and batches.maskings == 2
    rows = [3, 43, 7, 79]  # the third sequence under both maskings, and two more
    batch = batches.batch(rows)
    original = torch.from_numpy(sequences.tokens(np.array([3, 7, 3, 39])))  # grouped by masking
    assert batch["input_ids"].shape == (4, LENGTH)
    assert torch.equal(original[batch["row"], batch["column"]], batch["labels"])
    changed = batch["input_ids"] != original
    hidden = torch.zeros_like(changed)
    hidden[batch["row"], batch["column"]] = True
    assert not (changed & ~hidden).any(), "nothing else is touched"
    assert (batch["input_ids"] == make_tokenizer().mask_token_id).sum() > 4
    assert not torch.equal(batch["input_ids"][0], batch["input_ids"][2]), "another masking hides other tokens"


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_cached_targets_belong_to_their_tokens(sequences: Sequences, tmp_path: Path, family: str):
    model = language_model(family)
    maskings = [masking(sequences, tmp_path / str(seed), seed) for seed in (1, 2)]
    kept = [targets(model, sequences, path, tmp_path / f"t{i}") for i, path in enumerate(maskings)]
    batch = MaskedBatches(sequences, maskings, kept).batch([5, 61, 39, 0])
    with torch.no_grad():
        outputs = model(**inputs_of(batch), output_hidden_states=True)
    logits = outputs.logits[batch["row"], batch["column"]]
    probabilities, ids = torch.softmax(logits / 2.0, dim=-1).topk(8)
    assert torch.equal(batch["top_ids"], ids)
    assert torch.allclose(batch["top_log_probabilities"].exp(), probabilities, atol=1e-5)
    assert torch.allclose(batch["log_rest"].exp(), 1 - probabilities.sum(dim=-1), atol=1e-5)
    assert torch.allclose(batch["hidden"], outputs.hidden_states[-1][batch["row"], batch["column"]], atol=5e-3)
    assert torch.allclose(batch["first_hidden"], outputs.hidden_states[-1][:, 0], atol=5e-3)


def test_a_language_model_as_its_own_student_costs_nothing(sequences: Sequences, tmp_path: Path):
    model = language_model()
    path = masking(sequences, tmp_path / "m", 1)
    batch = MaskedBatches(sequences, [path], [targets(model, sequences, path, tmp_path / "t")]).batch(list(range(40)))
    objective = PretrainingDistillation(model, {"soft": 5.0, "mlm": 2.0, "cosine": 1.0}, 2.0)
    with torch.no_grad():
        terms = objective.terms(model, inputs_of(batch), batch)
        logits = model(**inputs_of(batch)).logits[batch["row"], batch["column"]]
    assert abs(terms["soft"].item()) < 1e-5
    assert abs(terms["cosine"].item()) < 1e-5
    expected = torch.nn.functional.cross_entropy(logits, batch["labels"])
    assert terms["mlm"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_a_teacher_without_a_head_gives_hidden_states_only(sequences: Sequences, tmp_path: Path):
    model = language_model()
    path = masking(sequences, tmp_path / "m", 1)
    kept = targets(model, sequences, path, tmp_path / "t", top_k=0)
    assert sorted(file.stem for file in kept.iterdir()) == ["first_hidden", "hidden"]


def test_a_student_of_another_width_learns_through_a_projection_that_is_not_saved(tmp_path: Path):
    from transformers import AutoModelForMaskedLM

    student = AutoModelForMaskedLM.from_config(make_config(hidden_size=16, num_attention_heads=2))
    projection.add(student, projection.STATES, 16, 32)
    assert student.distillation_projection.weight.shape == (32, 16)
    projection.remove(student)
    loading.save(tmp_path, student, make_tokenizer())
    _, info = AutoModelForMaskedLM.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]


def test_scores_by_hand():
    # One token hidden in the first row, two in the second, none in the third.
    labels = np.array([[-100, 1, -100], [0, -100, 2], [-100, -100, -100]])
    outputs = np.zeros((3, 3, 4), dtype=np.float32)
    outputs[0, 1] = [0, math.log(7), 0, 0]  # p = 0.7, right
    outputs[1, 0] = [0, math.log(7), 0, 0]  # p = 0.1, wrong
    outputs[1, 2] = [0, 0, math.log(2), 0]  # p = 0.4, right
    given = {"logits": outputs}
    sums = masked_lm.answers(given, {"labels": labels})
    assert np.allclose(sums, [[-math.log(0.7), 1, 1], [-math.log(0.1) - math.log(0.4), 1, 2], [0, 0, 0]], atol=1e-6)
    scored = masked_lm.score(sums, {"order": np.zeros(0, dtype=np.int64)}, [])
    loss = -(math.log(0.7) + math.log(0.1) + math.log(0.4)) / 3
    values = {name: rows.estimate(0.95).value for name, rows in scored.items()}
    assert values == pytest.approx({"accuracy": 2 / 3, "loss": loss, "perplexity": math.exp(loss)}, rel=1e-5)
    assert np.array_equal(
        masked_lm.compared(given, {"labels": labels})[:, 0], [outputs[0, 1], outputs[1, 0], outputs[2, 0]]
    )


def test_an_array_is_written_whole_or_fails(tmp_path: Path):
    with ArrayWriter(tmp_path / "a.npy", np.float16, (2,), 3) as writer:
        writer.append(np.ones((1, 2)))
        writer.append(np.full((2, 2), 2.0))
    assert np.load(tmp_path / "a.npy").tolist() == [[1, 1], [2, 2], [2, 2]]
    with pytest.raises(AssertionError, match="whole"), ArrayWriter(tmp_path / "b.npy", np.float16, (2,), 3) as writer:
        writer.append(np.ones((1, 2)))


def test_a_term_of_a_batch_is_that_of_its_parts_weighed_by_their_items(sequences: Sequences, tmp_path: Path):
    teacher, student = language_model(), language_model("distilbert")
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)) * 0.05)
    path = masking(sequences, tmp_path / "m", 2)
    data = MaskedBatches(sequences, [path], [targets(teacher, sequences, path, tmp_path / "t")])
    objective = PretrainingDistillation(student, {"soft": 5.0, "mlm": 2.0, "cosine": 1.0}, 2.0)
    parts = [data.batch(part) for part in ([0], [1, 2, 3, 4, 5], [6, 7])]

    def terms(batch: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        with torch.no_grad():
            return objective.terms(student, inputs_of(batch), batch)

    for name, whole in terms(data.batch(list(range(8)))).items():
        items = torch.stack([objective.items(part)[name] for part in parts])
        means = torch.stack([terms(part)[name] for part in parts])
        assert float((means * items).sum() / items.sum()) == pytest.approx(float(whole), rel=1e-5), name
