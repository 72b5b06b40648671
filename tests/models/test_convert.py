from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import transformers
from tiny_models import KINDS, LABELS, hidden_states_of, logits_of, make_albert, make_batch, make_model

from compressor.errors import StageError
from compressor.models.convert import from_parts, plainest_family, to_parts
from compressor.models.parts import ATTENTION, AXES, FEED_FORWARD, part_of
from compressor.models.surgery.share_layers import Sharing, share

ALL_KINDS = [*KINDS, "BertForPreTraining", "AlbertForSequenceClassification", "AlbertForMaskedLM"]


def model_of(kind: str):
    if kind == "BertForPreTraining":
        return transformers.BertForPreTraining(make_model("BertForMaskedLM").config).eval()
    return make_albert(kind) if kind.startswith("Albert") else make_model(kind)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_taken_apart_and_put_together_it_is_the_same(kind):
    model = model_of(kind)
    again = from_parts(to_parts(model)).eval()
    assert type(again) is type(model)
    state = again.state_dict()
    assert state.keys() == model.state_dict().keys()
    for name, tensor in model.state_dict().items():
        unused = 2 if "oberta" in name and "position" in name else 0  # rows in front of the first token's
        assert torch.equal(tensor[unused:], state[name][unused:]), name
    assert again.config.to_dict() == model.config.to_dict()


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_every_tensor_is_a_part_with_known_axes(kind):
    whole = to_parts(model_of(kind))
    for names, parts in (
        (whole.outside, set(AXES) - {*ATTENTION, *FEED_FORWARD}),
        (whole.attentions[0], set(ATTENTION)),
        (whole.feed_forwards[0], set(FEED_FORWARD)),
    ):
        assert {part_of(name) for name in names} <= parts
        assert all(tensor.ndim <= len(AXES[part_of(name)]) for name, tensor in names.items())


@pytest.mark.parametrize("kind", [*KINDS, "AlbertForSequenceClassification", "AlbertForMaskedLM"])
def test_a_compact_bert_computes_the_same(kind, tmp_path: Path):
    model = model_of(kind)
    compact = from_parts(to_parts(model), "compact_bert").eval()
    assert torch.equal(logits_of(compact), logits_of(model))
    ours, theirs = hidden_states_of(compact), hidden_states_of(model)
    assert len(ours) == len(theirs)
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    for each in (compact, model):
        each.set_attn_implementation("eager")
    with torch.no_grad():
        ours, theirs = (m(**make_batch(), output_attentions=True).attentions for m in (compact, model))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))
    back = from_parts(to_parts(compact), model.config.model_type).eval()
    assert type(back) is type(model)
    assert torch.allclose(logits_of(back), logits_of(model), atol=1e-6)


@pytest.mark.parametrize("kind", KINDS[:2])
def test_a_bert_as_an_albert_computes_the_same(kind):
    model = make_model(kind)
    albert = from_parts(to_parts(model), "albert").eval()
    assert type(albert).__name__ == f"Albert{kind.removeprefix('Bert')}"
    assert torch.equal(logits_of(albert), logits_of(model))
    assert plainest_family(to_parts(albert)) == "bert", "as long as its mapping does nothing"


def test_a_fresh_process_that_registers_our_classes_loads_a_compact_bert(tmp_path: Path):
    model = from_parts(to_parts(make_model("BertForSequenceClassification")), "compact_bert").eval()
    model.save_pretrained(tmp_path)
    code = (
        "import sys, {first}; from compressor.models import register; assert 'torch' not in sys.modules or {late}; "
        "import {second}, torch; register(); "
        "model, info = transformers.AutoModelForSequenceClassification.from_pretrained(sys.argv[1], "
        "output_loading_info=True); assert not any(info.values()), info; "
        "encoder = transformers.AutoModel.from_pretrained(sys.argv[1]); "
        "print(type(model).__name__, type(encoder).__name__, model.config.id2label[2])"
    )
    for first, second in (("compressor", "transformers"), ("transformers", "compressor")):
        command = code.format(first=first, second=second, late=first == "transformers")
        result = subprocess.run(
            [sys.executable, "-c", command, str(tmp_path)], capture_output=True, text=True, check=False
        )
        assert result.stdout.split() == ["CompactBertForSequenceClassification", "CompactBertModel", "maybe"], result
    config = json.loads((tmp_path / "config.json").read_text())
    assert config["architectures"] == ["CompactBertForSequenceClassification"]
    assert (config["model_type"], config["heads"], config["neurons"]) == ("compact_bert", [4] * 4, [64] * 4)
    assert config["label2id"] == LABELS["label2id"]


def test_a_family_that_cannot_hold_the_parts_is_refused():
    shared = to_parts(model_of("AlbertForMaskedLM"))
    with pytest.raises(StageError, match="cannot become bert; leave architecture out"):
        from_parts(shared, "bert")
    uneven = to_parts(share(make_model("BertForMaskedLM"), Sharing("ffn", 2, 4), [0, 2]))
    with pytest.raises(StageError, match="use compact_bert"):
        from_parts(uneven, "albert")
    with pytest.raises(StageError, match="no head for the order of sentences"):
        from_parts(to_parts(model_of("BertForPreTraining")), "distilbert")
