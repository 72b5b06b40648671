from __future__ import annotations

from pathlib import Path

import pytest
import torch
import transformers
from tiny_models import KINDS, family_of, hidden_states_of, logits_of, make_model

from compressor.errors import StageError
from compressor.models.convert import from_parts, to_parts
from compressor.models.families.albert import published_groups
from compressor.models.surgery.reduce_width import reduce_width
from compressor.models.surgery.select_layers import reduce_depth
from compressor.models.surgery.share_layers import MEAN, Sharing, best_start, share

BERTS = KINDS[:2]


@pytest.mark.parametrize("kind", [*BERTS, "DistilBertForMaskedLM"])
@pytest.mark.parametrize("what", ["all", "attention", "ffn"])
def test_as_many_groups_as_layers_give_the_same_logits(kind, what):
    model = make_model(kind)
    shared = share(model, Sharing(what, 4, 4), [0, 1, 2, 3]).eval()
    assert shared.config.model_type == "albert"
    assert torch.equal(logits_of(shared), logits_of(model))


@pytest.mark.parametrize(
    ("groups", "depth", "expected"),
    [(1, 4, (0, 0, 0, 0)), (2, 4, (0, 0, 1, 1)), (3, 4, (0, 0, 1, 2)), (2, 5, (0, 0, 0, 1, 1)), (14, 18, None)],
)
def test_the_group_of_a_layer(groups, depth, expected):
    found = Sharing("all", groups, depth).of_layer()
    if expected is None:  # one of the depths where the published formula is off by one
        assert found != published_groups(depth, groups)
        expected = tuple(layer * groups // depth for layer in range(depth))
    assert found == expected


def test_groups_that_alberts_formula_gets_wrong_become_a_compact_bert():
    model = make_model("BertForMaskedLM")
    shared = share(model, Sharing("all", 14, 18), [0] * 14)
    assert shared.config.model_type == "compact_bert"
    assert tuple(shared.config.attention_of_layer) == Sharing("all", 14, 18).of_layer()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("what", "family"), [("all", "albert"), ("attention", "compact_bert"), ("ffn", "compact_bert")]
)
def test_what_is_shared_is_stored_once(kind, what, family, tmp_path: Path):
    model = make_model(kind)
    shared = share(model, Sharing(what, 1, 4), [2])
    assert shared.config.model_type == family
    attention, ffn = 4 * 33 * 32 + 64, 33 * 64 + 65 * 32 + 64
    saved = {"all": 3 * (attention + ffn), "attention": 3 * attention, "ffn": 3 * ffn}[what]
    # An ALBERT always has two token types, zeros for a DistilBERT's, and no rows in front of the first position.
    rows = {"distilbert": 2, "roberta": 1 - 2}.get(family_of(kind), 0)
    mapping = 33 * 32 if family == "albert" and not kind.startswith("Electra") else 0
    assert shared.num_parameters() == model.num_parameters() - saved + 32 * rows + mapping
    shared.save_pretrained(tmp_path)
    head = kind[kind.index("For") :]
    loaded, info = getattr(transformers, f"AutoModel{head}").from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[keys] for keys in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    assert torch.equal(logits_of(loaded), logits_of(shared))
    assert (tmp_path / "model.safetensors").stat().st_size < 4 * shared.num_parameters() + 20_000


@pytest.mark.parametrize("kind", BERTS)
def test_all_shared_is_what_transformers_expects_of_an_albert(kind, tmp_path: Path):
    expected = kind.replace("Bert", "Albert")
    shared = share(make_model(kind), Sharing("all", 2, 4), [0, 3])
    assert type(shared).__name__ == expected
    shared.save_pretrained(tmp_path)
    encoder, info = transformers.AlbertModel.from_pretrained(tmp_path, output_loading_info=True)
    assert {name for name in info["missing_keys"] if "pooler" not in name} == set()
    assert encoder.config.num_hidden_groups == 2


def test_a_shared_layer_computes_like_the_layer_it_starts_from():
    model = make_model("BertForMaskedLM")
    first = hidden_states_of(share(model, Sharing("all", 1, 6), [2]).eval())
    assert len(first) == 7
    repeated = hidden_states_of(reduce_depth(model, [2] * 6, "bert"))
    assert all(torch.equal(a, b) for a, b in zip(first, repeated, strict=True))


@pytest.mark.parametrize(("depth", "own"), [(2, [0, 2]), (8, [0, 0, 1, 1, 2, 2, 3, 3])])
def test_what_is_not_shared_comes_from_the_layers_in_its_place(depth, own):
    model = make_model("BertForMaskedLM")
    whole, shared = to_parts(model), to_parts(share(model, Sharing("attention", 1, depth), [1]))
    assert shared.attention_of_layer == (0,) * depth
    assert shared.feed_forward_of_layer == tuple(range(depth))
    for block, layer in zip(shared.feed_forwards, own, strict=True):
        assert torch.equal(block["up.weight"], whole.feed_forwards[layer]["up.weight"])


def test_the_mean_is_that_of_the_layers_replaced():
    model = make_model("BertForMaskedLM")
    whole, shared = to_parts(model), to_parts(share(model, Sharing("all", 2, 4), [MEAN, 3]))
    expected = (whole.attentions[0]["key.weight"] + whole.attentions[1]["key.weight"]) / 2
    assert torch.allclose(shared.attentions[0]["key.weight"], expected)
    assert torch.equal(shared.attentions[1]["key.weight"], whole.attentions[3]["key.weight"])


def test_the_start_that_changes_the_outputs_least_is_found():
    model = make_model("BertForMaskedLM")
    parts = to_parts(model)
    for block in (*parts.attentions[2:], *parts.feed_forwards[2:]):
        for name, tensor in block.items():
            source = parts.attentions[1] if name in parts.attentions[1] else parts.feed_forwards[1]
            tensor.copy_(source[name])  # layers 1, 2 and 3 are one and the same
    whole = logits_of(model)

    def degradation(candidate) -> float:
        assert not candidate.training
        return float((logits_of(candidate) - whole).square().mean())

    start, tried = best_start(model, Sharing("all", 2, 4), degradation)
    assert start[1] == 2, "of equals the first"
    assert [set(entry) for entry in tried] == [{"0", "1", MEAN}, {"2", "3", MEAN}]
    assert tried[0][str(start[0])] == min(tried[0].values())
    assert best_start(model, Sharing("all", 4, 4), pytest.fail) == ([0, 1, 2, 3], [{}, {}, {}, {}])
    with pytest.raises(StageError, match="a degradation of nan"):
        best_start(model, Sharing("all", 1, 4), lambda candidate: float("nan"))


def test_shared_layers_stay_shared_in_what_is_cut_from_them():
    model = share(make_model("BertForMaskedLM"), Sharing("all", 2, 4), [0, 2])
    small = to_parts(reduce_width(reduce_depth(model, [0, 1, 2]), 16))
    assert (small.attention_of_layer, small.hidden_size, len(small.attentions)) == ((0, 0, 1), 16, 2)
    assert from_parts(small).config.model_type == "albert"


@pytest.mark.parametrize(
    ("sharing", "start", "message"),
    [
        (Sharing("all", 5, 4), [0] * 5, "num_hidden_groups is 5, but there are 4 layers to share"),
        (Sharing("all", 2, 4), [0], r"layers is \[0\]; it needs one entry for each of the 2 groups, 0 to 3"),
        (Sharing("all", 1, 4), [4], "0 to 3"),
    ],
)
def test_what_does_not_fit_is_refused(sharing, start, message):
    with pytest.raises(StageError, match=message):
        share(make_model("BertForMaskedLM"), sharing, start)
