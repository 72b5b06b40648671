"""Sentence-order prediction: what a batch of pairs holds, the loss by hand, heads that load, a run that learns it."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import WriteRecipe, make_config, make_tokenizer
from problems import refused
from rich.console import Console
from training_rows import ordered_texts

from compressor.data.corpus import packing, sentence_pairs
from compressor.data.corpus.masking import Vocabulary, mask
from compressor.data.spec import CorpusSpec
from compressor.errors import RecipeError
from compressor.models import heads, loading
from compressor.models.checkpoint import Checkpoint
from compressor.progress import Progress
from compressor.recipe import resolve
from compressor.tasks import masked_lm
from compressor.training.batches import MaskedBatches
from compressor.training.objectives import MaskedLanguageModel, PretrainingDistillation
from compressor.training.sequences import Sequences
from compressor.training.teacher_outputs import write_targets

LENGTH = 24


INPUTS = ("input_ids", "attention_mask", "token_type_ids")


@pytest.fixture(scope="module")
def sequences(tmp_path_factory: pytest.TempPathFactory) -> Sequences:
    folder, spec = tmp_path_factory.mktemp("packed"), CorpusSpec(source="x.txt", sentence_order=True)
    packing.pack(ordered_texts(60, 1), spec, make_tokenizer(), LENGTH, 0.1, folder, lambda done: None)
    return Sequences(folder / packing.TRAIN, np.arange(3, 35), LENGTH, 0)


@pytest.fixture(scope="module")
def masking(sequences: Sequences, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("masking")
    tokens = sequences.tokens(np.arange(len(sequences)))
    masked = mask(tokens, Vocabulary.of(make_tokenizer()), probability=0.15, whole_words=False, seed=(1,))
    np.save(folder / "positions.npy", masked.positions)
    np.save(folder / "inputs.npy", masked.inputs)
    return folder


def pretrained(family: str = "bert", **overrides: Any) -> Any:
    from transformers import AlbertConfig, AutoModelForPreTraining

    torch.manual_seed(0)
    config = make_config(**overrides)
    if family == "albert":
        names = ("vocab_size", "hidden_size", "intermediate_size", "max_position_embeddings", "num_attention_heads")
        sizes = {name: getattr(config, name) for name in names}
        config = AlbertConfig(
            **sizes, num_hidden_layers=2, embedding_size=16, num_labels=overrides.get("num_labels", 2)
        )
    return AutoModelForPreTraining.from_config(config).eval()


def order_head(model: Any) -> Any:
    return model.cls.seq_relationship if model.config.model_type == "bert" else model.sop_classifier.classifier


def test_a_batch_tells_segments_apart_and_their_order(sequences: Sequences, masking: Path):
    batches = MaskedBatches(sequences, [masking])
    batch = batches.batch([0, 9, 31])
    ids, types, seen = (batch[name] for name in INPUTS[:1] + INPUTS[2:] + INPUTS[1:2])
    assert ids.shape == types.shape == seen.shape == (3, LENGTH)
    original = sequences.tokens(np.array([0, 9, 31]))
    separator = make_tokenizer().sep_token_id
    for row, kinds, mask_row in zip(original, types.tolist(), seen.tolist(), strict=True):
        first, second = np.flatnonzero(row == separator)
        assert kinds == [0] * (first + 1) + [1] * (second - first) + [0] * (LENGTH - second - 1)
        assert mask_row == [1] * (second + 1) + [0] * (LENGTH - second - 1)
    expected = np.load(sentence_pairs.order_file(sequences.path))[np.array([3, 12, 34])]
    assert batch["order"].tolist() == expected.tolist() and batch["order"].dtype == torch.int64
    assert batches.padding == pytest.approx(float((original == 0).mean()))


def test_the_teacher_reads_segments_apart_too(sequences: Sequences, masking: Path, tmp_path: Path):
    from transformers import AutoModelForMaskedLM

    torch.manual_seed(0)
    model = AutoModelForMaskedLM.from_config(make_config()).eval()
    batches = MaskedBatches(sequences, [masking])
    slots = np.load(masking / "positions.npy").shape[1]
    with Progress(Console(file=io.StringIO())) as progress, progress.step("test") as step:
        sizes = {"length": LENGTH, "slots": slots, "top_k": 8, "temperature": 2.0}
        write_targets(model, batches, tmp_path, **sizes, hidden=True, bf16=False, step=step)
    batch = MaskedBatches(sequences, [masking], [tmp_path]).batch([5, 17])
    with torch.no_grad():
        apart, alike = (
            model(**{name: batch[name] for name in names}, output_hidden_states=True).hidden_states[-1][:, 0]
            for names in (INPUTS, INPUTS[:2])
        )
    assert torch.allclose(batch["first_hidden"], apart, atol=5e-3)
    assert not torch.allclose(batch["first_hidden"], alike, atol=5e-3)


@pytest.mark.parametrize("family", ["bert", "albert"])
def test_the_order_term_by_hand(sequences: Sequences, masking: Path, family: str):
    model = pretrained(family)
    with torch.no_grad():
        order_head(model).weight.zero_()
        order_head(model).bias.copy_(torch.tensor([0.0, math.log(3)]))  # swapped, with 0.75, whatever it reads
    batch = MaskedBatches(sequences, [masking]).batch([0, 1, 2, 3])
    batch["order"] = torch.tensor([1, 0, 1, 1])
    inputs = {name: batch[name] for name in INPUTS}
    expected = -(3 * math.log(0.75) + math.log(0.25)) / 4
    for objective, names in (
        (MaskedLanguageModel(model, order=1.0), ["mlm", "order"]),
        (MaskedLanguageModel(model), ["mlm"]),
        (PretrainingDistillation(model, {"soft": 0.0, "mlm": 2.0, "order": 0.5}, 2.0), ["mlm", "order"]),
        (PretrainingDistillation(model, {"soft": 0.0, "mlm": 2.0, "order": 0.0}, 2.0), ["mlm"]),
    ):
        with torch.no_grad():
            terms = objective.terms(model, inputs, batch)
            logits = model(**inputs).prediction_logits[batch["row"], batch["column"]]
        assert sorted(terms) == sorted(objective.weights) == names
        assert terms["mlm"].item() == pytest.approx(
            torch.nn.functional.cross_entropy(logits, batch["labels"]).item(), rel=1e-5
        )
        if "order" in names:
            assert terms["order"].item() == pytest.approx(expected, rel=1e-5)
    assert MaskedLanguageModel(model, order=1.0).weights == {"mlm": 1.0, "order": 1.0}


def test_scores_by_hand():
    labels = np.array([[-100, 1], [0, -100], [-100, 1], [0, -100]])
    logits = np.zeros((4, 2, 3), dtype=np.float32)
    order = np.array([[2, 1], [0, 3], [1, 4], [0, -1]], dtype=np.float32)  # 0, 1, 1, 0
    kept = masked_lm.answers({"logits": logits, "sentence_order_logits": order}, {"labels": labels})
    assert kept.shape == (4, 4) and kept[:, 3].tolist() == [0, 1, 1, 0]
    scored = masked_lm.score(kept, {"order": np.array([0, 1, 0, 0])}, [])
    assert scored["sentence_order_accuracy"].estimate(0.95).value == 0.75
    plain = masked_lm.score(
        masked_lm.answers({"logits": logits}, {"labels": labels}), {"order": np.array([0, 1, 0, 0])}, []
    )
    assert sorted(plain) == ["accuracy", "loss", "perplexity"], "no head, no such metric"
    assert {name: rows.estimate(0.95) for name, rows in plain.items()} == {
        name: scored[name].estimate(0.95) for name in plain
    }
    assert sorted(masked_lm.score(kept, {"order": np.zeros(0, dtype=np.int64)}, [])) == sorted(plain), (
        "no pairs, no such metric"
    )


@pytest.mark.parametrize("family", ["bert", "albert"])
def test_heads_are_loaded_made_and_left_out(tmp_path: Path, family: str):
    from transformers import AutoModelForMaskedLM, AutoModelForPreTraining

    model = pretrained(family)
    loading.save(tmp_path / "both", model, make_tokenizer())
    both = Checkpoint(tmp_path / "both")
    assert both.has_order_head and both.head is heads.MASKED_LM
    for given, expected in ((None, "ForPreTraining"), (True, "ForPreTraining"), (False, "ForMaskedLM")):
        loaded = loading.load_model(both.path, heads.MASKED_LM, sentence_order=given)
        assert type(loaded).__name__.endswith(expected)
    loaded = loading.load_model(both.path)
    assert torch.equal(order_head(loaded).weight, order_head(model).weight)
    for auto in (AutoModelForPreTraining, AutoModelForMaskedLM):
        _, info = auto.from_pretrained(both.path, output_loading_info=True)
        assert not info["missing_keys"]

    loading.save(tmp_path / "alone", loading.load_model(both.path, sentence_order=False), make_tokenizer())
    assert not Checkpoint(tmp_path / "alone").has_order_head
    assert type(loading.load_model(tmp_path / "alone")).__name__.endswith("ForMaskedLM")
    made = loading.load_model(tmp_path / "alone", heads.MASKED_LM, sentence_order=True)
    assert order_head(made).weight.shape == (2, 32)


def test_albert_s_head_has_two_outputs_whatever_its_labels_were(tmp_path: Path):
    loading.save(tmp_path, pretrained("albert", num_labels=3), make_tokenizer())
    loaded = loading.load_model(tmp_path, heads.MASKED_LM, sentence_order=True)
    assert order_head(loaded).weight.shape == (2, 32) and loaded.config.num_labels == 2


PRETRAIN: dict[str, Any] = {"stage": "distill", "architecture": "bert", "alpha_soft": 0}


@pytest.mark.parametrize(
    ("overrides", "pairs_wanted", "message"),
    [
        (
            {"alpha_order": 1.0},
            False,
            "alpha_order: is for a corpus of pairs of segments; set data.corpus.sentence_order",
        ),
        ({"gates": {"sentence_order_accuracy": {"min": 0.5}}}, False, "is measured on a corpus of pairs of segments"),
        ({"architecture": "distilbert"}, True, "give `architecture: bert`, or set `data.corpus.sentence_order: false`"),
        ({"max_sequence_length": 4}, True, "takes [CLS] a [SEP] b [SEP]; at least 5"),
        ({"alpha_mlm": 0, "alpha_cosine": 0, "alpha_order": 0}, True, "alpha_order are all 0: nothing to learn from"),
    ],
)
def test_mistakes(write_recipe: WriteRecipe, tmp_path: Path, overrides: dict, pairs_wanted: bool, message: str):
    (tmp_path / "texts.txt").write_text("some text\n")
    corpus = {"source": "texts.txt", "sentence_order": pairs_wanted}
    path = write_recipe(task="masked-lm", data={"corpus": corpus}, stages=[{**PRETRAIN, **overrides}])
    with pytest.raises(RecipeError) as error:
        resolve.resolve(path)
    assert message in str(error.value)
    resolve.resolve(write_recipe(task="masked-lm", data={"corpus": corpus}, stages=[PRETRAIN]))


def test_a_language_model_learns_tokens_or_the_order(write_recipe: WriteRecipe, tmp_path: Path):
    (tmp_path / "texts.txt").write_text("some text\n")
    alone = {"stage": "finetune", "alpha_mlm": 0, "alpha_order": 1}
    for pairs, stage in ((False, {"stage": "finetune", "alpha_mlm": 0}), (True, {**alone, "alpha_order": 0})):
        data = {"corpus": {"source": "texts.txt", "sentence_order": pairs}}
        with refused("stages[0] (finetune).alpha_mlm", "value"):
            resolve.resolve(write_recipe(task="masked-lm", data=data, stages=[stage]))
    resolve.resolve(write_recipe(task="masked-lm", data=data, stages=[alone]))


def test_a_teacher_of_the_order_alone_guesses_no_tokens(write_recipe: WriteRecipe, tmp_path: Path):
    (tmp_path / "texts.txt").write_text("some text\n")
    data = {"corpus": {"source": "texts.txt", "sentence_order": True}}
    alone, both = {"stage": "finetune", "name": "order", "alpha_mlm": 0}, {"stage": "finetune"}
    share = {"stage": "share", "num_hidden_groups": 1}

    def check(*stages: dict[str, Any]) -> None:
        resolve.resolve(write_recipe(task="masked-lm", data=data, stages=list(stages)))

    with refused("stages[1] (share).alpha_soft", "value"):
        check(alone, share)
    check(alone, {**share, "alpha_soft": 0})
    check(alone, both, share)
    check(alone, {**share, "epochs": 0})
    check(both, alone, share)  # the first that learns tokens is the teacher, and stays it
    factorize = {"stage": "factorize", "embedding_size": 8}
    with refused("stages[3] (factorize).alpha_soft", "value"):  # too late: share has ended the search for a teacher
        check(alone, {**share, "alpha_soft": 0}, both, factorize)


def test_a_distilbert_cannot_learn_the_order(write_recipe: WriteRecipe, tmp_path: Path, distilbert: Path):
    (tmp_path / "texts.txt").write_text("some text\n")
    data = {"corpus": {"source": "texts.txt", "sentence_order": True}}
    path = write_recipe(task="masked-lm", model=str(distilbert), data=data, stages=[{"stage": "finetune"}])
    with refused("stages[0] (finetune)", "missing"):
        resolve.resolve(path)
    stages = [{"stage": "finetune"}, {"stage": "distill", "student": str(distilbert)}]
    with refused("stages[1] (distill)", "missing"):
        resolve.resolve(write_recipe(task="masked-lm", data=data, stages=stages))


def test_gates_on_the_order_need_a_head_to_compare_with(write_recipe: WriteRecipe, tmp_path: Path, encoder: Path):
    (tmp_path / "texts.txt").write_text("some text\n")
    loading.save(tmp_path / "both", pretrained(), make_tokenizer())
    alone = loading.load_model(tmp_path / "both", sentence_order=False)
    loading.save(tmp_path / "alone", alone, make_tokenizer())
    data = {"corpus": {"source": "texts.txt", "sentence_order": True}}
    relative = {"gates": {"sentence_order_accuracy": {"min_retention": 0.9}}}
    absolute = {"gates": {"sentence_order_accuracy": {"min": 0.9}}}
    distill, finetune, export = {"stage": "distill", "architecture": "bert"}, {"stage": "finetune"}, {"stage": "export"}

    def told(model: Path, *stages: dict) -> str:
        try:
            resolve.resolve(write_recipe(task="masked-lm", model=str(model), data=data, stages=list(stages)))
        except RecipeError as error:
            return str(error)
        return ""

    assert "min_retention: there is nothing to compare with: the baseline has no head" in told(
        tmp_path / "alone", {**distill, **relative}
    )
    assert "the checkpoint has no head for the order" in told(tmp_path / "alone", {**export, **absolute})
    for model, stages in (
        (tmp_path / "alone", [{**distill, **absolute}]),
        (tmp_path / "alone", [finetune, {**distill, **relative}]),
        (tmp_path / "both", [{**distill, **relative}, {**export, **relative}]),
        (encoder, [finetune, {**export, **relative}]),
    ):
        assert not told(model, *stages)
