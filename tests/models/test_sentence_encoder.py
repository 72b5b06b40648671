"""Sentence encoders: what sentence-transformers' files say, and the same vectors after every way through the house."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from conftest import make_tokenizer
from kinds import rows
from tiny_models import with_random_vectors

from compressor.models import checking, heads, importing, loading, sentence_embedding
from compressor.models.checkpoint import Checkpoint
from compressor.models.convert import from_parts, to_parts
from compressor.models.sentence_embedding import KEY, SentenceEmbedding, Unsupported
from compressor.models.sentence_encoder import class_of, normalized, pooled
from compressor.models.surgery.select_layers import reduce_depth

HOW = [
    SentenceEmbedding(),
    SentenceEmbedding("cls", normalize=False),
    SentenceEmbedding("max", dense=5, activation="tanh", prompts={"query": "query: "}),
    SentenceEmbedding("mean", dense=7),
]


def encoder(how: SentenceEmbedding, family: str = "bert", **settings) -> transformers.PreTrainedModel:
    torch.manual_seed(3)
    sizes = {"hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4, "intermediate_size": 64}
    names = {"n_layers": 4, "dim": 32, "n_heads": 4, "hidden_dim": 64}
    vocabulary = {"vocab_size": len(make_tokenizer()), "max_position_embeddings": 64, "initializer_range": 0.2}
    given = names if family == "distilbert" else {**sizes, "embedding_size": 32} if family == "albert" else sizes
    config = transformers.AutoConfig.for_model(family, **given, **vocabulary, **settings)
    setattr(config, KEY, how.settings())
    return with_random_vectors(class_of(config)(config).eval())


def vectors(model, inputs) -> np.ndarray:
    with torch.inference_mode():
        return model(**{name: torch.from_numpy(value) for name, value in inputs.items()}).sentence_embedding.numpy()


@pytest.mark.parametrize("how", HOW)
def test_settings_are_read_as_they_are_written(how: SentenceEmbedding, tmp_path: Path):
    sentence_embedding.write(tmp_path, how, 32, 64)
    for name in ("1_Pooling", "2_Dense"):
        if how.dense is not None and name == "2_Dense":
            (tmp_path / name / "model.safetensors").touch()
    assert sentence_embedding.of(tmp_path, {}) == SentenceEmbedding(**how.settings(), max_length=64)
    assert sentence_embedding.of(tmp_path, {KEY: how.settings()}) == how


def test_a_transformer_beside_its_modules_is_found(tmp_path: Path):
    inner = tmp_path / "0_Transformer"
    inner.mkdir()
    sentence_embedding.write(tmp_path, SentenceEmbedding("cls"), 32, 64)
    modules = json.loads((tmp_path / "modules.json").read_text())
    modules[0]["path"] = "0_Transformer"
    (tmp_path / "modules.json").write_text(json.dumps(modules))
    assert sentence_embedding.of(inner, {}).pooling == "cls"
    other = tmp_path / "other"
    other.mkdir()
    assert sentence_embedding.root(other) is None, "modules.json is not of every folder below it"


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("modules.json", [{"type": "a.Transformer", "path": ""}, {"type": "a.LSTM", "path": "1"}], "LSTM; allowed"),
        ("1_Pooling/config.json", {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}, "cls + mean"),
        ("1_Pooling/config.json", {"pooling_mode_mean_sqrt_len_tokens": True}, "mean_sqrt_len_tokens; allowed"),
        ("1_Pooling/config.json", {"pooling_mode": "lasttoken"}, "lasttoken; allowed: mean, cls, max"),
        ("sentence_bert_config.json", {"do_lower_case": True}, "do_lower_case"),
        ("modules.json", [{"type": "a.Transformer", "path": "../other"}], "outside of its own"),
        ("modules.json", {"type": "a"}, "cannot be read"),
        ("1_Pooling/config.json", [], "cannot be read: "),
    ],
)
def test_what_has_no_form_here_is_refused(file: str, content: object, message: str, tmp_path: Path):
    sentence_embedding.write(tmp_path, SentenceEmbedding(), 32, 64)
    (tmp_path / file).write_text(json.dumps(content))
    with pytest.raises(Unsupported, match=message.replace("+", r"\+")):
        sentence_embedding.of(tmp_path, {})


def test_pooling_by_hand():
    states = torch.tensor([[[1.0, -4.0], [3.0, -2.0], [9.0, 9.0]]])
    mask = torch.tensor([[1, 1, 0]])
    assert pooled(states, mask, "mean").tolist() == [[2.0, -3.0]]
    assert pooled(states, mask, "max").tolist() == [[3.0, -2.0]]
    assert pooled(states, mask, "cls").tolist() == [[1.0, -4.0]]


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("family", ["bert", "distilbert", "albert"])
def test_the_same_vectors_of_parts_and_of_a_folder(family: str, how: SentenceEmbedding, tmp_path: Path):
    model = encoder(how, family)
    again = from_parts(to_parts(model)).eval()
    loading.save(tmp_path, model, make_tokenizer())
    assert checking.problems(tmp_path, "model") == []
    there = Checkpoint(tmp_path)
    assert there.head is heads.SENTENCE_EMBEDDING and there.fault(there.head) is None
    read = loading.load_model(tmp_path).eval()
    for inputs in rows(model):
        expected = vectors(model, inputs)
        assert expected.shape[1] == (how.dense or 32)
        for other in (again, read):
            assert np.allclose(vectors(other, inputs), expected, atol=1e-6)
        if how.normalize:
            assert np.allclose(np.linalg.norm(expected, axis=1), 1, atol=1e-6)


def test_a_folder_of_sentence_transformers_is_brought_in(tmp_path: Path):
    """As others have it: an encoder with a pooler, its files beside it, the dense layer in a file of its own."""
    how = SentenceEmbedding("mean", dense=6, activation="tanh", max_length=20)
    model, folder, output = encoder(how), tmp_path / "st", tmp_path / "in"
    loading.save(folder, model, make_tokenizer())
    config = json.loads((folder / "config.json").read_text())
    del config[KEY]
    (folder / "config.json").write_text(json.dumps({**config, "architectures": ["BertForMaskedLM"]}))
    plain = transformers.BertModel(model.config)
    plain.load_state_dict(model.base_model.state_dict(), strict=False)
    plain.config.architectures = None
    delattr(plain.config, KEY)
    from safetensors.torch import save_file

    save_file({name: tensor.contiguous() for name, tensor in plain.state_dict().items()}, folder / "model.safetensors")
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 20}))
    output.mkdir()
    importing.bring_in(folder, output, "model", {})
    brought = Checkpoint(output)
    assert brought.head is heads.SENTENCE_EMBEDDING and brought.max_sequence_length() == 20
    read = loading.load_model(output).eval()
    for inputs in rows(model):
        assert np.allclose(vectors(read, inputs), vectors(model, inputs), atol=1e-6)
    assert sentence_embedding.of(output, {}) == how, "a recipe that trains nothing ships these files"
    opened = pytest.importorskip("sentence_transformers").SentenceTransformer(str(output), device="cpu")
    texts = ["good", "bad film " * 30]
    tokens = dict(loading.load_tokenizer(output)(texts, padding=True, truncation=True, return_tensors="np"))
    assert np.abs(opened.encode(texts) - vectors(model, tokens)).max() < 1e-5


def test_the_recipe_has_the_last_word(tmp_path: Path):
    model, folder, output = encoder(SentenceEmbedding("mean")), tmp_path / "st", tmp_path / "in"
    loading.save(folder, model, make_tokenizer())
    output.mkdir()
    importing.bring_in(folder, output, "model", {"pooling": "cls", "normalize": False, "max_length": 9})
    assert Checkpoint(output).embedding == SentenceEmbedding("cls", normalize=False)
    assert Checkpoint(output).max_sequence_length() == 9
    assert sentence_embedding.of(output, {}) == SentenceEmbedding("cls", normalize=False, max_length=9)


def test_for_another_task_it_is_an_encoder(tmp_path: Path):
    loading.save(tmp_path / "st", encoder(SentenceEmbedding()), make_tokenizer())
    (tmp_path / "in").mkdir()
    importing.bring_in(tmp_path / "st", tmp_path / "in", "model")
    assert KEY not in json.loads((tmp_path / "in" / "config.json").read_text())


def test_fewer_layers_keep_the_settings():
    model = encoder(HOW[2])
    for architecture in ("distilbert", "bert"):
        student = reduce_depth(model, [0, 2], architecture)
        assert student.embedding == model.embedding and student.config.num_hidden_layers == 2


def test_large_numbers_in_half_precision_by_hand():
    # (3, -4, 0) times 2500 and a fifth as large: the length of the first is 12500, its square 1.6e8.
    large = torch.tensor([[7500.0, -10000.0, 0.0], [1500.0, -2000.0, 0.0]]).half()
    expected = torch.tensor([[0.6, -0.8, 0.0]] * 2)
    assert torch.allclose(normalized(large).float(), expected, atol=1e-3)
    assert torch.allclose(normalized(large * 1e-7).float(), expected, atol=0.2), "as far as a half has digits"
    assert torch.equal(normalized(torch.zeros(1, 3).half()), torch.zeros(1, 3).half())
    states = torch.full((2, 12, 2), 1e4).half()  # the sum of all tokens is 1.2e5
    states[1, 4:] = -6e4
    mask = torch.ones(2, 12, dtype=torch.long)
    mask[1, 4:] = 0
    for pooling in ("mean", "max", "cls"):
        assert torch.allclose(pooled(states, mask, pooling).float(), torch.full((2, 2), 1e4), rtol=1e-3), pooling
    assert torch.equal(pooled(-states, mask, "max"), torch.full((2, 2), -1e4).half())


def test_in_single_precision_nothing_changes():
    draw = torch.Generator().manual_seed(0)
    vectors = torch.randn(64, 384, generator=draw) * torch.logspace(-4, 4, 64)[:, None]
    assert (normalized(vectors) - torch.nn.functional.normalize(vectors)).abs().max() < 1e-6
    states, mask = torch.randn(64, 20, 384, generator=draw), (torch.rand(64, 20, generator=draw) > 0.3).long()
    mask[:, 0] = 1
    means = torch.stack([row[keep.bool()].mean(dim=0) for row, keep in zip(states, mask, strict=True)])
    assert (pooled(states, mask, "mean") - means).abs().max() < 1e-6
    largest = torch.stack([row[keep.bool()].amax(dim=0) for row, keep in zip(states, mask, strict=True)])
    assert torch.equal(pooled(states, mask, "max"), largest)
