"""The order of segments on its own: both orders of each pair, a head with its own learning rate, and no tokens."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import make_config, make_tokenizer
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from training_rows import batches, ordered_texts, schedule
from transformers import AlbertConfig, AutoModelForPreTraining

from compressor.data.corpus import packing, sentence_pairs
from compressor.data.corpus.masking import Vocabulary, mask
from compressor.data.spec import CorpusSpec
from compressor.models import loading
from compressor.progress import Progress
from compressor.stages.distill import DistillSpec
from compressor.stages.finetune import FinetuneSpec
from compressor.tasks import text_classification
from compressor.training import trainer
from compressor.training.batches import MaskedBatches
from compressor.training.objectives import Labels, MaskedLanguageModel
from compressor.training.row_order import RowOrder
from compressor.training.sequences import Sequences

LENGTH, CLS, SEP, PAD = 24, 2, 3, 0


def test_turned_by_hand():
    tokens = np.array([[CLS, 5, 6, 7, SEP, 8, 9, SEP, PAD], [CLS, 5, SEP, 6, 7, 8, 9, 10, SEP]], dtype=np.uint16)
    assert sentence_pairs.turned(tokens, np.array([5, 3]), PAD).tolist() == [
        [CLS, 8, 9, SEP, 5, 6, 7, SEP, PAD],
        [CLS, 6, 7, 8, 9, 10, SEP, 5, SEP],
    ]


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(0, 3)), min_size=1, max_size=6))
def test_turned_twice_is_as_it_was(sizes: list[tuple[int, int, int]]):
    rows = [
        [CLS, *range(10, 10 + a), SEP, *range(30, 30 + b), SEP] + [PAD] * (13 - 3 - a - b + padding)
        for a, b, padding in sizes
    ]
    tokens = np.array([row + [PAD] * (16 - len(row)) for row in rows])
    second = np.array([a + 2 for a, _, _ in sizes])
    once = sentence_pairs.turned(tokens, second, PAD)
    back = np.array([b + 2 for _, b, _ in sizes])
    assert [row[:2].tolist() for row in once] == [[CLS, 30]] * len(sizes)
    assert np.array_equal(sentence_pairs.turned(once, back, PAD), tokens)


@pytest.fixture(scope="module")
def sequences(tmp_path_factory: pytest.TempPathFactory) -> Sequences:
    folder, spec = tmp_path_factory.mktemp("packed"), CorpusSpec(source="x.txt", sentence_order=True)
    packing.pack(ordered_texts(60, 1), spec, make_tokenizer(), LENGTH, 0.1, folder, lambda done: None)
    return Sequences(folder / packing.TRAIN, np.arange(3, 35), LENGTH, PAD)


def write_masking(sequences: Sequences, folder: Path, index: int) -> Path:
    folder.mkdir()
    tokens = sequences.under(index).tokens(np.arange(len(sequences)))
    vocabulary = Vocabulary.of(make_tokenizer())
    masked = mask(tokens, vocabulary, probability=0.15, whole_words=False, seed=(index,))
    np.save(folder / "positions.npy", masked.positions)
    np.save(folder / "inputs.npy", masked.inputs)
    return folder


def test_two_maskings_have_both_orders_of_a_pair_and_the_next_cut_it_elsewhere(sequences: Sequences, tmp_path: Path):
    data = MaskedBatches(sequences, [write_masking(sequences, tmp_path / str(index), index) for index in range(4)])
    count, rows = len(sequences), [0, 5, 9]
    batches = [data.batch([row + index * count for row in rows]) for index in range(4)]
    orders = [batch["order"].tolist() for batch in batches]
    assert orders[0] == orders[2] == [1 - order for order in orders[1]] == [1 - order for order in orders[3]]
    segments = []
    for index, batch in enumerate(batches):
        tokens, second, _ = sequences.under(index).segments(np.array(rows))
        assert np.array_equal(tokens, sequences.under(index).tokens(np.array(rows)))
        restored = batch["input_ids"].clone()
        restored[batch["row"], batch["column"]] = batch["labels"]
        assert restored.tolist() == tokens.tolist(), "what is hidden is where the tokens are in this order"
        ends = [np.flatnonzero(row == SEP) for row in tokens]
        assert batch["token_type_ids"].sum(dim=1).tolist() == [last - first for first, last in ends]
        assert [first + 1 for first, _ in ends] == second.tolist()
        inside = zip(tokens.tolist(), ends, strict=True)
        parts = [(row[1:first], row[first + 1 : last]) for row, (first, last) in inside]
        segments.append([part if order == 0 else part[::-1] for part, order in zip(parts, orders[index], strict=True)])
    assert segments[0] == segments[1] and segments[2] == segments[3] and segments[0] != segments[2]
    assert [first + last for first, last in segments[0]] == [first + last for first, last in segments[2]]
    order = RowOrder(len(data), data.lengths, 8, 0, lambda: 0, data.queries)
    drawn = np.array(list(order)).reshape(-1, 2)
    assert sorted(drawn.ravel().tolist()) == list(range(4 * count))
    assert (np.abs(np.diff(drawn, axis=1)) == count).all(), "the two orders of a pair follow each other"


def test_a_masking_that_is_turned_already(sequences: Sequences):
    other = sequences.under(1)
    rows = np.arange(4)
    assert np.array_equal(other.under(0).tokens(rows), other.tokens(rows))
    assert np.array_equal(other.under(2).tokens(rows), sequences.under(3).tokens(rows))


def pretrained(family: str) -> torch.nn.Module:
    torch.manual_seed(0)
    config = make_config(num_hidden_layers=2)
    if family == "albert":
        names = ("vocab_size", "hidden_size", "intermediate_size", "max_position_embeddings", "num_attention_heads")
        sizes = {name: getattr(config, name) for name in names}
        config = AlbertConfig(**sizes, num_hidden_layers=2, embedding_size=16, num_labels=2)
    return AutoModelForPreTraining.from_config(config).eval()


@pytest.mark.parametrize("family", ["bert", "albert"])
def test_without_tokens_only_the_order_is_learned(sequences: Sequences, tmp_path: Path, family: str):
    model = pretrained(family)
    batch = MaskedBatches(sequences, [write_masking(sequences, tmp_path / "masking", 0)]).batch([0, 1, 2, 3])
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask", "token_type_ids")}
    both = MaskedLanguageModel(model, order=1.0).terms(model, inputs, batch)
    alone = MaskedLanguageModel(model, mlm=0.0, order=1.0)
    terms = alone.terms(model, inputs, batch)
    assert set(terms) == set(alone.weights) == {"order"}
    assert terms["order"].item() == pytest.approx(both["order"].item(), rel=1e-6)
    terms["order"].backward()
    head = [tensor for name, tensor in model.named_parameters() if "transform" in name or "predictions.dense" in name]
    assert head and all(tensor.grad is None or not tensor.grad.any() for tensor in head)


def train(model: torch.nn.Module, folder: Path, **settings: float) -> None:
    with Progress(Console(file=io.StringIO())) as progress, progress.step("test") as step:
        given = schedule(epochs=1, weight_decay=0.0, warmup_ratio=0.0, **settings)
        objective = Labels(text_classification)
        trainer.train(model, batches(16), objective, given, seed=0, work=folder, step=step)


def moved(model: torch.nn.Module, before: dict[str, torch.Tensor]) -> dict[str, float]:
    return {name: (tensor - before[name]).abs().max().item() for name, tensor in model.state_dict().items()}


def test_the_head_has_its_own_learning_rate(classifier: Path, tmp_path: Path):
    # AdamW's first steps move each weight by about the learning rate, whatever the gradient's size.
    found = {}
    for rate in (None, 1e-2):
        model = loading.load_model(classifier)
        before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        train(model, tmp_path / str(rate), learning_rate=1e-4, head_learning_rate=rate)
        found[rate] = moved(model, before)
    for name, plain in found[None].items():
        if name.startswith(("classifier.", "bert.pooler.")):
            assert found[1e-2][name] > 30 * plain, name
        elif plain:
            assert found[1e-2][name] < 2 * plain, name


def test_little_is_hidden_where_order_is_learned_alone():
    def share(**keys: float) -> float:
        return FinetuneSpec.model_validate({"stage": "finetune", "objective": "pretraining", **keys}).hidden_share

    assert [share(), share(alpha_mlm=0), share(alpha_mlm=0.1)] == [0.15, 0.02, 0.15]
    assert [share(mlm_probability=0.3), share(alpha_mlm=0, mlm_probability=0.3)] == [0.3, 0.3]
    distilled = DistillSpec.model_validate({"stage": "distill", "objective": "pretraining", "alpha_mlm": 0})
    assert distilled.hidden_share == 0.15
