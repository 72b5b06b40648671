from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import make_config

from compressor import checkpoint
from compressor.errors import StageError
from compressor.surgery.student import chosen_layers, shallower


@pytest.fixture
def batch() -> dict[str, torch.Tensor]:
    ids = torch.randint(5, 60, (3, 12), generator=torch.Generator().manual_seed(0))
    mask = torch.ones_like(ids)
    mask[1, 7:] = 0
    return {"input_ids": ids, "attention_mask": mask}


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


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_all_layers_give_the_same_logits(family, batch, classifier: Path, distilbert: Path):
    model = checkpoint.load_model(classifier if family == "bert" else distilbert).eval()
    student = shallower(model, range(4), family).eval()
    with torch.no_grad():
        assert torch.equal(student(**batch).logits, model(**batch).logits)


@pytest.mark.parametrize("family", ["bert", "distilbert"])
def test_first_layers_give_the_same_hidden_states(family, batch, classifier: Path, distilbert: Path):
    model = checkpoint.load_model(classifier if family == "bert" else distilbert).eval()
    student = shallower(model, [0, 1], family).eval()
    with torch.no_grad():
        ours = student(**batch, output_hidden_states=True).hidden_states
        theirs = model(**batch, output_hidden_states=True).hidden_states
    assert len(ours) == 3
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=False))


def test_bert_as_distilbert_has_the_same_hidden_states(batch, classifier: Path):
    model = checkpoint.load_model(classifier).eval()
    student = shallower(model, [0, 1, 2, 3], "distilbert").eval()
    with torch.no_grad():
        ours = student(**batch, output_hidden_states=True).hidden_states
        theirs = model(**batch, output_hidden_states=True).hidden_states
    kept = batch["attention_mask"].bool()
    for a, b in zip(ours, theirs, strict=True):
        assert torch.allclose(a[kept], b[kept], atol=1e-5)


def test_layers_are_taken_in_the_order_given_and_may_repeat(classifier: Path):
    model = checkpoint.load_model(classifier)
    state = shallower(model, [3, 0, 3], "bert").state_dict()
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
        student = shallower(teacher.to_empty(device="cpu"), chosen_layers(12, 6, "every_other"), "distilbert")
    count = sum(parameter.numel() for parameter in student.distilbert.parameters())
    assert round(count / 1e6) == 66
    assert count / sum(parameter.numel() for parameter in teacher.bert.parameters()) < 0.61


def test_distilbert_cannot_become_bert(distilbert: Path):
    with pytest.raises(StageError, match="cannot become bert"):
        shallower(checkpoint.load_model(distilbert), [0], "bert")


def test_dropout_and_labels_are_carried_over():
    from transformers import AutoModelForSequenceClassification

    config = make_config(classifier_dropout=0.3, hidden_dropout_prob=0.2, id2label={0: "no", 1: "yes"})
    student = shallower(AutoModelForSequenceClassification.from_config(config), [0], "distilbert")
    assert (student.config.seq_classif_dropout, student.config.dropout) == (0.3, 0.2)
    assert student.config.id2label == {0: "no", 1: "yes"}
