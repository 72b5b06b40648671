from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from tiny_models import KINDS, is_tied, logits_of, make_albert, make_batch, make_model

from compressor.models.convert import from_parts, to_parts
from compressor.models.surgery.vocabulary import with_tokens

ALL_KINDS = [*KINDS, "AlbertForSequenceClassification", "AlbertForMaskedLM"]


def model_of(kind: str, **overrides: Any) -> Any:
    return make_albert(kind) if kind.startswith("Albert") else make_model(kind, **overrides)


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_the_same_tokens_under_new_ids_give_the_same_logits(kind, tmp_path: Path):
    model = model_of(kind)
    batch = make_batch()
    sources = torch.unique(torch.cat([batch["input_ids"].flatten(), torch.tensor([0, 1, 3])]))
    small = from_parts(with_tokens(to_parts(model), sources)).eval()
    assert type(small) is type(model)
    assert small.config.vocab_size == len(sources) < model.config.vocab_size
    assert small.config.pad_token_id == model.config.pad_token_id
    new = {**batch, "input_ids": torch.searchsorted(sources, batch["input_ids"])}
    with torch.no_grad():
        ours, theirs = small(**new).logits, model(**batch).logits
    if "MaskedLM" in kind:
        theirs = theirs[..., sources]
        assert is_tied(small)
    assert torch.allclose(ours, theirs, atol=1e-6)
    small.save_pretrained(tmp_path)
    auto = getattr(transformers, f"AutoModel{kind[kind.index('For') :]}")
    loaded, info = auto.from_pretrained(tmp_path, output_loading_info=True)
    assert not any(info[keys] for keys in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    with torch.no_grad():
        assert torch.equal(loaded.eval()(**new).logits, ours)


@pytest.mark.parametrize("tied", [True, False])
def test_all_tokens_change_nothing(tied):
    model = make_model("BertForMaskedLM", tie_word_embeddings=tied)
    same = from_parts(with_tokens(to_parts(model), torch.arange(model.config.vocab_size)))
    assert same.config.to_dict() == model.config.to_dict()
    assert torch.equal(logits_of(same), logits_of(model))


def test_a_row_may_be_used_twice_and_padding_finds_its_new_id():
    model = make_model("BertForSequenceClassification", pad_token_id=7)
    small = from_parts(with_tokens(to_parts(model), torch.tensor([3, 9, 7, 9])))
    table, words = small.bert.embeddings.word_embeddings, model.bert.embeddings.word_embeddings.weight
    assert torch.equal(table.weight, words[[3, 9, 7, 9]])
    assert small.config.pad_token_id == table.padding_idx == 2
