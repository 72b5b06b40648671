from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import make_config
from tiny_models import KINDS, assert_loads_as_is, family_of, hidden_states_of, is_tied, logits_of, make_model

from compressor.errors import StageError
from compressor.models import loading
from compressor.models.surgery.select_layers import chosen_layers, reduce_depth


@pytest.mark.parametrize(
    ("total", "count", "layers", "expected"),
    [
        (6, None, "every_other", [0, 2, 4]),
        (12, 6, "every_other", [0, 2, 4, 6, 8, 10]),
        (12, 4, "every_other", [0, 3, 6, 9]),
        (12, 5, "every_other", [0, 2, 4, 7, 9]),
        (1, None, "every_other", [0]),
        (6, None, [5, 0], [5, 0]),
    ],
)
def test_chosen_layers(total, count, layers, expected):
    assert chosen_layers(total, count, layers) == expected


def test_layers_that_are_not_there_are_refused():
    with pytest.raises(StageError, match="has 4 layers, 0 to 3"):
        chosen_layers(4, None, [0, 4])
    with pytest.raises(StageError, match="has 4 layers"):
        chosen_layers(4, 5, "every_other")


@pytest.mark.parametrize("kind", KINDS)
def test_all_layers_give_the_same_logits(kind):
    model = make_model(kind)
    student = reduce_depth(model, range(4), family_of(kind))
    assert type(student) is type(model)
    assert torch.equal(logits_of(student), logits_of(model))


@pytest.mark.parametrize("kind", KINDS)
def test_first_layers_give_the_same_hidden_states(kind):
    model = make_model(kind)
    ours, theirs = hidden_states_of(reduce_depth(model, [0, 1], family_of(kind))), hidden_states_of(model)
    assert len(ours) == 3
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=False))


@pytest.mark.parametrize("kind", KINDS[:2])
@pytest.mark.parametrize("layers", [[0, 1], [0, 1, 2, 3]])
def test_bert_as_distilbert_has_the_same_hidden_states(kind, layers):
    model = make_model(kind)
    student = reduce_depth(model, layers, "distilbert")
    assert type(student).__name__ == f"Distil{kind}"
    ours, theirs = hidden_states_of(student), hidden_states_of(model)
    assert len(ours) == len(layers) + 1
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(ours, theirs, strict=False))


@pytest.mark.parametrize("tied", [True, False])
def test_bert_as_distilbert_guesses_the_same_words(tied):
    model = make_model("BertForMaskedLM", tie_word_embeddings=tied)
    student = reduce_depth(model, range(4), "distilbert")
    assert is_tied(student) == is_tied(model) == tied
    assert student.config.tie_word_embeddings == tied
    assert torch.allclose(logits_of(student), logits_of(model), atol=1e-5)


@pytest.mark.parametrize(
    ("kind", "architecture"),
    [(kind, family_of(kind)) for kind in KINDS] + [(kind, "distilbert") for kind in KINDS[:2]],
)
def test_saved_it_is_what_transformers_expects(kind, architecture, tmp_path):
    student = reduce_depth(make_model(kind), [0, 2], architecture)
    assert student.config.num_hidden_layers == 2
    expected = f"Distil{kind}" if family_of(kind) != architecture else kind
    if "MaskedLM" in kind:
        assert is_tied(student)
    assert_loads_as_is(student, expected, tmp_path)


def test_a_model_of_another_kind_is_refused():
    from transformers import AutoModelForNextSentencePrediction

    model = AutoModelForNextSentencePrediction.from_config(make_config())
    with pytest.raises(StageError, match=r"BertForNextSentencePrediction.*BertForMaskedLM"):
        reduce_depth(model, [0], "distilbert")


def test_layers_are_taken_in_the_order_given_and_may_repeat(classifier: Path):
    model = loading.load_model(classifier)
    state = reduce_depth(model, [3, 0, 3], "bert").state_dict()
    name = "bert.encoder.layer.{}.output.dense.weight"
    source = model.state_dict()
    assert torch.equal(state[name.format(0)], source[name.format(3)])
    assert torch.equal(state[name.format(1)], source[name.format(0)])
    assert torch.equal(state[name.format(2)], source[name.format(3)])
    state[name.format(0)].zero_()
    assert source[name.format(3)].abs().sum() > 0, "weights are copied"


def test_bert_base_becomes_the_distilbert_of_the_paper():
    # Sanh et al. 2019, table 1 and section 3: 66 M parameters, 40 % fewer than BERT-base's 110 M.
    from transformers import AutoConfig, AutoModelForSequenceClassification

    config = AutoConfig.for_model("bert", vocab_size=30522)
    with torch.device("meta"):
        teacher = AutoModelForSequenceClassification.from_config(config)
    with torch.device("cpu"):
        student = reduce_depth(teacher.to_empty(device="cpu"), chosen_layers(12, 6, "every_other"), "distilbert")
    count = sum(parameter.numel() for parameter in student.distilbert.parameters())
    assert round(count / 1e6) == 66
    assert count / sum(parameter.numel() for parameter in teacher.bert.parameters()) < 0.61


def test_distilbert_cannot_become_bert(distilbert: Path):
    with pytest.raises(StageError, match="cannot become bert"):
        reduce_depth(loading.load_model(distilbert), [0], "bert")


def test_dropout_and_labels_are_carried_over():
    from transformers import AutoModelForSequenceClassification

    config = make_config(classifier_dropout=0.3, hidden_dropout_prob=0.2, id2label={0: "no", 1: "yes"})
    config.problem_type = "multi_label_classification"
    student = reduce_depth(AutoModelForSequenceClassification.from_config(config), [0], "distilbert")
    assert student.config.problem_type == "multi_label_classification"
    assert (student.config.seq_classif_dropout, student.config.dropout) == (0.3, 0.2)
    assert student.config.id2label == {0: "no", 1: "yes"}
