from __future__ import annotations

import pytest
import torch
from tiny_models import KINDS, assert_loads_as_is, is_tied, logits_of, make_model
from transformers import AutoModel

from compressor.errors import StageError
from compressor.models.surgery.reduce_width import reduce_width
from compressor.models.surgery.select_layers import reduce_depth


@pytest.mark.parametrize("kind", KINDS)
def test_full_width_gives_the_same_logits(kind):
    model = make_model(kind)
    assert torch.equal(logits_of(reduce_width(model, 32)), logits_of(model))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("hidden_size", "ffn"), [(8, 16), (16, 32), (24, 48)])
def test_a_narrower_model_is_whole(kind, hidden_size, ffn):
    model = make_model(kind)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    small = reduce_width(model, hidden_size)
    narrow = kind.startswith("Electra")  # its embeddings are 16 wide, and keep their width
    assert type(small) is type(model) or (narrow and hidden_size == 16 and small.config.model_type == "albert")
    assert (small.config.hidden_size, small.config.num_attention_heads) == (hidden_size, hidden_size // 8)
    assert (model.config.hidden_size, model.config.num_attention_heads) == (32, 4)
    assert small.base_model.get_input_embeddings().weight.shape == (
        model.config.vocab_size,
        16 if narrow else hidden_size,
    )
    if not narrow:
        assert small.num_parameters() == expected_parameters(kind, model.config.vocab_size, hidden_size, ffn)
    logits = logits_of(small)
    assert logits.shape == logits_of(model).shape
    assert logits.isfinite().all()
    assert logits.std(dim=0).max() > 0, "it still answers by its input"
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def expected_parameters(kind: str, vocabulary: int, hidden: int, ffn: int, layers: int = 4, positions: int = 48) -> int:
    layer = 4 * (hidden + 1) * hidden + (hidden + 1) * ffn + (ffn + 1) * hidden + 4 * hidden
    types = 0 if kind.startswith("Distil") else 2  # a RoBERTa has one, and two rows of padding
    positions, types = (positions + 2, 1) if kind.startswith("Roberta") else (positions, types)
    encoder = (vocabulary + positions + types + 2) * hidden + layers * layer
    square = (hidden + 1) * hidden
    return encoder + (square + 2 * hidden + vocabulary if "MaskedLM" in kind else square + (hidden + 1) * 3)


@pytest.mark.parametrize("kind", KINDS)
def test_saved_it_is_what_transformers_expects(kind, tmp_path):
    assert_loads_as_is(reduce_width(make_model(kind), 24), kind, tmp_path)


@pytest.mark.parametrize("kind", ["BertForMaskedLM", "DistilBertForMaskedLM"])
def test_tied_embeddings_stay_tied_and_untied_ones_apart(kind):
    assert is_tied(reduce_width(make_model(kind), 16))
    model = make_model(kind, tie_word_embeddings=False)
    assert not is_tied(reduce_width(model, 16))
    assert torch.equal(logits_of(reduce_width(model, 32)), logits_of(model))


def test_channels_heads_and_neurons_are_the_largest_and_the_same_everywhere():
    model = make_model(
        "BertForMaskedLM", num_hidden_layers=1, hidden_size=4, num_attention_heads=2, intermediate_size=16
    )
    state = model.state_dict()
    for name, tensor in state.items():
        if "LayerNorm.weight" in name:
            tensor.copy_(torch.tensor([0.1, 1.0, 0.3, 0.2]))
        if "LayerNorm.bias" in name:
            tensor.copy_(torch.tensor([0.2, 0.0, 0.4, 0.1]))  # root mean squares 0.22, 1, 0.5, 0.22: channels 1 and 2
    layer = "bert.encoder.layer.0."
    projection = state[f"{layer}attention.output.dense.weight"]
    projection[:, :2] = 9.0  # head 0 writes a lot, but to channels that go
    projection[1:3, :2], projection[1:3, 2:] = 0.1, 0.2
    state[f"{layer}intermediate.dense.weight"].fill_(0.1)
    state[f"{layer}output.dense.weight"].fill_(0.1)
    state[f"{layer}intermediate.dense.weight"][[3, 5, 6, 8, 9, 11, 12, 15]] = 0.2
    state[f"{layer}intermediate.dense.weight"][0] = 5.0
    state[f"{layer}output.dense.weight"][:, 0] = 0.001  # neuron 0 takes a lot in and gives next to nothing out
    small = reduce_width(model, 2).state_dict()

    channels, head, neurons = [1, 2], [2, 3], [3, 5, 6, 8, 9, 11, 12, 15]
    expected = {
        "bert.embeddings.word_embeddings.weight": (slice(None), channels),
        "bert.embeddings.token_type_embeddings.weight": (slice(None), channels),
        "bert.embeddings.LayerNorm.bias": (channels,),
        f"{layer}attention.self.query.weight": (head, channels),
        f"{layer}attention.self.value.bias": (head,),
        f"{layer}attention.output.dense.weight": (channels, head),
        f"{layer}intermediate.dense.weight": (neurons, channels),
        f"{layer}intermediate.dense.bias": (neurons,),
        f"{layer}output.dense.weight": (channels, neurons),
        f"{layer}output.dense.bias": (channels,),
        "cls.predictions.transform.dense.weight": (channels, channels),
        "cls.predictions.transform.LayerNorm.weight": (channels,),
        "cls.predictions.decoder.weight": (slice(None), channels),
        "cls.predictions.bias": (slice(None),),
    }
    for name, index in expected.items():
        tensor = state[name]
        for axis, kept in enumerate(index):
            tensor = tensor.index_select(axis, torch.arange(tensor.shape[axis])[kept])
        assert torch.equal(small[name], tensor), name


def test_a_head_over_sentences_keeps_the_same_channels():
    model = make_model("DistilBertForSequenceClassification")
    state = model.state_dict()
    for name, tensor in state.items():
        if "layer_norm.weight" in name.lower():
            tensor[8:24] += 10
    small = reduce_width(model, 16).state_dict()
    assert torch.equal(small["pre_classifier.weight"], state["pre_classifier.weight"][8:24, 8:24])
    assert torch.equal(small["classifier.weight"], state["classifier.weight"][:, 8:24])
    assert torch.equal(small["classifier.bias"], state["classifier.bias"])


@pytest.mark.parametrize(
    ("intermediate_size", "hidden_size", "expected"),
    [(3072, 16, 1536), (100, 32, 100), (100, 16, 48), (100, 24, 72), (12, 8, 8), (4, 8, 4)],
)
def test_the_feed_forward_network_shrinks_in_eights(intermediate_size, hidden_size, expected):
    model = make_model("BertForMaskedLM", num_hidden_layers=1, intermediate_size=intermediate_size)
    assert reduce_width(model, hidden_size).config.intermediate_size == expected


@pytest.mark.parametrize("hidden_size", [12, 0, -8, 40])
def test_a_hidden_size_of_broken_heads_is_refused(hidden_size):
    expected = f"hidden_size is {hidden_size}; heads of 8 channels stay whole: use one of 8, 16, 24, 32"
    with pytest.raises(StageError, match=expected):
        reduce_width(make_model("BertForMaskedLM"), hidden_size)


def test_a_model_of_another_kind_is_refused():
    with pytest.raises(StageError, match=r"BertModel.*BertForMaskedLM"):
        reduce_width(AutoModel.from_config(make_model("BertForMaskedLM").config), 16)


def test_narrower_and_shallower_go_together():
    model = make_model("BertForMaskedLM")
    one, other = (
        reduce_width(reduce_depth(model, range(4), "distilbert"), 16),
        reduce_depth(reduce_width(model, 16), [0, 2], "distilbert"),
    )
    assert (one.config.dim, one.config.n_layers, one.config.n_heads) == (16, 4, 2)
    assert (other.config.dim, other.config.hidden_dim, other.config.n_layers) == (16, 32, 2)
    assert logits_of(one).shape == logits_of(other).shape
