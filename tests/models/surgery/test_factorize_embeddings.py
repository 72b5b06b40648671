from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import transformers
from tiny_models import KINDS, hidden_states_of, is_tied, logits_of, make_model

from compressor.errors import StageError
from compressor.models.convert import from_parts, to_parts
from compressor.models.surgery import factorize_embeddings, share_layers
from compressor.models.surgery.factorize_embeddings import factorize
from compressor.models.surgery.share_layers import Sharing, share


def counts_of(model) -> torch.Tensor:
    return torch.arange(model.config.vocab_size)


@pytest.mark.parametrize("kind", KINDS)
def test_full_rank_is_exact_although_the_layer_norm_is_elsewhere(kind):
    model = make_model(kind)
    whole = to_parts(model)
    rotated, error = factorize_embeddings._narrowed(whole, whole.embedding_size, counts_of(model))
    assert error < 1e-20
    assert not torch.allclose(rotated.outside["word.weight"], whole.outside["word.weight"], atol=0.1), "other axes"
    ours, theirs = hidden_states_of(from_parts(rotated, "compact_bert").eval()), hidden_states_of(model)
    assert all(torch.allclose(a, b, atol=1e-5) for a, b in zip(ours, theirs, strict=True))
    if "Classification" in kind:
        assert torch.allclose(logits_of(from_parts(rotated, "compact_bert")), logits_of(model), atol=1e-5)


@pytest.mark.parametrize("kind", KINDS[:2])
def test_at_the_full_width_nothing_changes(kind):
    model = make_model(kind)
    same, error = factorize(model, 32, counts_of(model))
    assert (error, same.config.embedding_size, type(same).__name__) == (0.0, 32, kind.replace("Bert", "Albert"))
    assert torch.equal(logits_of(same), logits_of(model))


def test_embeddings_of_low_rank_lose_nothing():
    model = make_model("BertForSequenceClassification")
    axes = torch.randn(4, 32)
    tables = model.bert.embeddings
    for table in (tables.word_embeddings, tables.position_embeddings, tables.token_type_embeddings):
        table.weight.data = torch.randn(len(table.weight), 4) @ axes
    small, error = factorize(model, 5, counts_of(model))
    assert error < 1e-10
    assert torch.allclose(logits_of(small), logits_of(model), atol=1e-4)
    _, error = factorize(model, 4, counts_of(model))
    assert error > 1e-3, "one of five coordinates is taken by their sum"


def test_tokens_that_occur_often_lose_least():
    model = make_model("BertForMaskedLM")
    words = model.bert.embeddings.word_embeddings.weight

    def loss_of(token: int, counts: torch.Tensor) -> float:
        """What is lost of a token's embedding, read back through the mapping."""
        small = factorize(model, 8, counts)[0].albert
        mapping = small.encoder.embedding_hidden_mapping_in.weight  # a LayerNorm of gain 1 comes before it
        back = small.embeddings.word_embeddings.weight[token] @ mapping.T
        centred = words[token] - words[token].mean()
        return float(((centred - back).norm() / centred.norm()).detach())

    model.bert.embeddings.LayerNorm.weight.data.fill_(1.0)
    for table in (model.bert.embeddings.position_embeddings, model.bert.embeddings.token_type_embeddings):
        table.weight.data.zero_()
    counts = torch.zeros(model.config.vocab_size, dtype=torch.float64)
    often = counts.clone()
    often[17] = 10_000
    assert loss_of(17, often) < 0.05 < 0.5 < loss_of(17, counts)


@pytest.mark.parametrize("kind", KINDS)
def test_a_factorized_model_is_a_plain_albert(kind, tmp_path):
    model = make_model(kind)
    small, error = factorize(model, 8, counts_of(model))
    assert 0 < error < 1
    assert type(small).__name__ == f"Albert{kind[kind.index('For') :]}"
    assert (small.config.embedding_size, small.config.num_hidden_groups) == (8, 4)
    if "MaskedLM" in kind:
        assert is_tied(small)
    small.save_pretrained(tmp_path)
    auto = getattr(transformers, f"AutoModel{kind[kind.index('For') :]}")
    loaded, info = auto.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[keys] for keys in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    assert torch.equal(logits_of(loaded), logits_of(small))


def test_sharing_and_factorizing_work_in_either_order_and_again():
    model = make_model("BertForMaskedLM")
    one, _ = factorize(share(model, Sharing("all", 1, 4), [1]), 8, counts_of(model))
    other = share(factorize(model, 8, counts_of(model))[0], Sharing("all", 1, 4), [1])
    assert torch.equal(logits_of(one), logits_of(other))
    smaller, _ = factorize(one, 4, counts_of(model))
    assert (smaller.config.embedding_size, smaller.config.num_hidden_groups) == (4, 1)
    with pytest.raises(StageError, match="embedding_size is 16, but the embeddings are 8 wide"):
        factorize(one, 16, counts_of(model))
    attention, _ = factorize(share(model, Sharing("attention", 1, 4), [1]), 8, counts_of(model))
    assert (attention.config.model_type, attention.config.embedding_size) == ("compact_bert", 8)


# Lan et al. 2019, table 1: 12 M, 18 M, 60 M and 235 M; the counts are those of the published checkpoints.
SIZES = {"base": (768, 12, 11_683_584), "large": (1024, 24, 17_683_968), "xlarge": (2048, 24, 58_724_864)}
SIZES["xxlarge"] = (4096, 12, 222_595_584)


@pytest.mark.parametrize("size", SIZES)
def test_parameter_counts_of_the_papers_four_sizes(size):
    hidden, layers, expected = SIZES[size]
    config = transformers.BertConfig(
        vocab_size=30_000,
        hidden_size=hidden,
        num_hidden_layers=1,
        num_attention_heads=hidden // 64,
        intermediate_size=4 * hidden,
    )
    with torch.device("meta"):
        parts = to_parts(transformers.BertForSequenceClassification(config))
        tables = {name: torch.empty(len(parts.outside[name]), 128) for name in TABLES}
        norm = {f"embedding_norm.{kind}": torch.empty(128) for kind in ("weight", "bias")}
        mapping = {"mapping.weight": torch.empty(hidden, 128), "mapping.bias": torch.empty(hidden)}
        narrow = replace(parts, outside={**parts.outside, **tables, **norm, **mapping})
        small = from_parts(share_layers._shared(narrow, Sharing("all", 1, layers), [0]))
    assert small.config.model_type == "albert"
    assert sum(parameter.numel() for parameter in small.albert.parameters()) == expected


TABLES = ("word.weight", "position.weight", "token_type.weight")


def test_a_real_factorization_of_that_shape_has_that_count():
    config = transformers.BertConfig(
        vocab_size=500, hidden_size=768, num_hidden_layers=1, num_attention_heads=12, intermediate_size=3072
    )
    model = transformers.BertForSequenceClassification(config)
    small, _ = factorize(share(model, Sharing("all", 1, 12), [0]), 128, counts_of(model))
    count = sum(parameter.numel() for parameter in small.albert.parameters())
    assert count + (30_000 - 500) * 128 == SIZES["base"][2]
