"""A checkpoint is what its config says: what differs is refused from the files' headers alone, with its cause."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import broken
import pytest
import torch
from broken import edit_config, edit_json, edit_weights, without

from compressor.errors import Problem
from compressor.models import checking
from compressor.models.checkpoint import Checkpoint, root

Spoil = Callable[[Path], object]

ROWS = "bert.embeddings.word_embeddings.weight"


def problems(folder: Path) -> list[Problem]:
    return checking.problems(folder, "model")


def extra(name: str) -> Spoil:
    return lambda f: edit_weights(f, lambda tensors: {**tensors, name: torch.ones(3)})


def tokenizer(f: Path, **values: object) -> None:
    edit_json(f / "tokenizer.json", **values)


REFUSED: dict[str, tuple[Spoil, str]] = {
    "no config": (lambda f: (f / "config.json").unlink(), "missing"),
    "half a config": (lambda f: (f / "config.json").write_text("{"), "unreadable"),
    "a list as config": (lambda f: (f / "config.json").write_text("[]"), "unreadable"),
    "null as config": (lambda f: (f / "config.json").write_text("null"), "unreadable"),
    "a nested config": (lambda f: (f / "config.json").write_text('{"a":' * 100_000), "unreadable"),
    "bytes as config": (lambda f: (f / "config.json").write_bytes(b"\xff\xfe{}"), "unreadable"),
    "a pointer as config": (lambda f: (f / "config.json").write_text(broken.POINTER), "unreadable"),
    "a page as config": (lambda f: (f / "config.json").write_text(broken.PAGE), "unreadable"),
    "a thousand digits": (
        lambda f: (f / "config.json").write_text('{"hidden_size": ' + "9" * 5000 + "}"),
        "unreadable",
    ),
    "another family": (lambda f: edit_config(f, model_type="gpt2"), "unsupported"),
    "no family": (lambda f: edit_config(f, ("model_type", "architectures"), model_type=None), "unsupported"),
    "a decoder": (lambda f: edit_config(f, is_decoder=True), "unsupported"),
    "cross attention": (lambda f: edit_config(f, add_cross_attention=True), "unsupported"),
    "weights of cross attention": (extra("bert.encoder.layer.0.crossattention.self.query.bias"), "unsupported"),
    "relative positions": (lambda f: edit_config(f, position_embedding_type="relative_key"), "unsupported"),
    "quantized": (lambda f: edit_config(f, quantization_config={"load_in_8bit": True}), "unsupported"),
    "labels in a list": (lambda f: edit_config(f, id2label=["a", "b"]), "type"),
    "labels without numbers": (lambda f: edit_config(f, id2label={"a": "0"}), "type"),
    "no layers": (lambda f: edit_config(f, num_hidden_layers=0), "value"),
    "negative layers": (lambda f: edit_config(f, num_hidden_layers=-2), "value"),
    "true layers": (lambda f: edit_config(f, num_hidden_layers=True), "value"),
    "layers with a point": (lambda f: edit_config(f, num_hidden_layers=4.0), "value"),
    "layers in words": (lambda f: edit_config(f, num_hidden_layers="4"), "value"),
    "a million layers": (lambda f: edit_config(f, num_hidden_layers=1_000_000), "value"),
    "zero heads": (lambda f: edit_config(f, num_attention_heads=0), "value"),
    "heads that do not fit": (lambda f: edit_config(f, num_attention_heads=5), "value"),
    "a null width": (lambda f: edit_config(f, hidden_size=None), "value"),
    "a null feed-forward": (lambda f: edit_config(f, intermediate_size=None), "value"),
    "an absurd vocabulary": (lambda f: edit_config(f, vocab_size=10**15), "value"),
    "a dropout of 2": (lambda f: edit_config(f, hidden_dropout_prob=2.0), "value"),
    "a dropout in words": (lambda f: edit_config(f, attention_probs_dropout_prob="0.1"), "value"),
    "an epsilon of 0": (lambda f: edit_config(f, layer_norm_eps=0), "value"),
    "an activation of a number": (lambda f: edit_config(f, hidden_act=1), "value"),
    "an unknown activation": (lambda f: edit_config(f, hidden_act="gelou"), "value"),
    "an activation with weights": (lambda f: edit_config(f, hidden_act="prelu"), "value"),
    "padding that is no token": (lambda f: edit_config(f, pad_token_id=96), "value"),
    "more positions": (lambda f: edit_config(f, max_position_embeddings=49), "missing"),
    "another vocabulary": (lambda f: edit_config(f, vocab_size=200), "missing"),
    "another feed-forward": (lambda f: edit_config(f, intermediate_size=128), "missing"),
    "more layers than weights": (lambda f: edit_config(f, num_hidden_layers=5), "conflict"),
    "fewer layers than weights": (lambda f: edit_config(f, num_hidden_layers=3), "conflict"),
    "a table is missing": (lambda f: edit_weights(f, without("position_embeddings")), "missing"),
    "a bias is missing": (lambda f: edit_weights(f, without("layer.2.output.dense.bias")), "missing"),
    "weights of positions": (extra("bert.encoder.layer.0.attention.self.distance_embedding.weight"), "unsupported"),
    "an adapter": (extra("bert.encoder.layer.1.output.adapter.down.weight"), "unsupported"),
    "integers": (lambda f: edit_weights(f, lambda s: {**s, ROWS: s[ROWS].to(torch.int8)}), "type"),
    "integers in the head": (
        lambda f: edit_weights(f, lambda s: {n: t.int() if n.startswith("class") else t for n, t in s.items()}),
        "type",
    ),
    "no weights": (lambda f: (f / broken.WEIGHTS).rename(f / "tf_model.h5"), "missing"),
    "empty weights": (lambda f: (f / broken.WEIGHTS).write_bytes(b""), "unreadable"),
    "noise": (lambda f: (f / broken.WEIGHTS).write_bytes(b"\xff" * 100), "unreadable"),
    "a pointer": (lambda f: (f / broken.WEIGHTS).write_text(broken.POINTER), "unreadable"),
    "a page": (lambda f: (f / broken.WEIGHTS).write_text(broken.PAGE), "unreadable"),
    "cut off": (lambda f: (f / broken.WEIGHTS).write_bytes((f / broken.WEIGHTS).read_bytes()[:-100]), "unreadable"),
    "half a header": (
        lambda f: (f / broken.WEIGHTS).write_bytes((f / broken.WEIGHTS).read_bytes()[:500]),
        "unreadable",
    ),
    "a list as header": (lambda f: broken.header(f, b"[]"), "unreadable"),
    "null as header": (lambda f: broken.header(f, b"null"), "unreadable"),
    "a nested header": (lambda f: broken.header(f, b'{"a":' * 100_000), "unreadable"),
    "a null entry": (lambda f: broken.header(f, b'{"a":null}'), "unreadable"),
    "a negative shape": (
        lambda f: broken.header(f, b'{"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}}'),
        "unreadable",
    ),
    "another name for weights": (lambda f: (f / broken.WEIGHTS).rename(f / "pytorch_model.bin"), "unreadable"),
    "no tokenizer": (lambda f: (f / "tokenizer.json").unlink(), "missing"),
    "a pointer as tokenizer": (lambda f: (f / "tokenizer.json").write_text(broken.POINTER), "unreadable"),
    "a page as tokenizer": (lambda f: (f / "tokenizer.json").write_text(broken.PAGE), "unreadable"),
    "a list as tokenizer": (lambda f: (f / "tokenizer.json").write_text("[]"), "unreadable"),
    "no model in the tokenizer": (lambda f: tokenizer(f, model=None), "unreadable"),
    "a token too many": (lambda f: tokenizer(f, added_tokens=[{"id": 96, "content": "<new>"}]), "conflict"),
    "settings of a list": (lambda f: (f / "tokenizer_config.json").write_text("[]"), "unreadable"),
    "a token twice": (lambda f: broken.write_vocabulary(f, [*broken.pieces(f), "good"]), "value"),
    "a line too many": (lambda f: broken.write_vocabulary(f, [*broken.pieces(f), "zzz"]), "conflict"),
    "capitals": (
        lambda f: broken.write_vocabulary(f, [p if p[0] == "[" else p.title() for p in broken.pieces(f)]),
        "conflict",
    ),
    "a tokenizer in Python": (
        lambda f: (
            broken.write_vocabulary(f, broken.pieces(f)),
            edit_json(f / "tokenizer_config.json", tokenizer_class="BertJapaneseTokenizer"),
        ),
        "unsupported",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_what_its_config_says_is_refused(classifier: Path, tmp_path: Path, name: str):
    folder = broken.copy(classifier, tmp_path / "spoiled")
    assert not problems(folder)
    spoil, kind = REFUSED[name]
    spoil(folder)
    found = problems(folder)
    assert kind in {problem.kind for problem in found}, found
    assert all(len(problem.what) < 600 for problem in found), "values are shortened"


ACCEPTED: dict[str, Spoil] = {
    "defaults left out": lambda f: edit_config(f, ("type_vocab_size", "position_embedding_type")),
    "no model_type, named by its class": lambda f: edit_config(f, ("model_type",)),
    "no model_type, named by its tensors": lambda f: edit_config(f, ("model_type", "architectures")),
    "buffers": extra("bert.embeddings.position_ids"),
    "heads of pretraining": lambda f: edit_weights(f, lambda s: {**s, "cls.seq_relationship.bias": torch.ones(2)}),
    "names of TensorFlow": lambda f: (
        edit_weights(f, broken.renamed("LayerNorm.weight", "LayerNorm.gamma")),
        edit_weights(f, broken.renamed("LayerNorm.bias", "LayerNorm.beta")),
    ),
    "no head": lambda f: edit_weights(f, without("classifier")),
    "half precision": lambda f: edit_weights(f, lambda s: {name: tensor.half() for name, tensor in s.items()}),
    "settings of outputs": lambda f: edit_config(f, output_attentions=True, return_dict=False, torchscript=True),
    "a mark before the config": lambda f: (f / "config.json").write_bytes(
        b"\xef\xbb\xbf" + (f / "config.json").read_bytes()
    ),
    "a vocabulary alone": lambda f: broken.write_vocabulary(f, broken.pieces(f)),
    "capitals that are kept": lambda f: (
        broken.write_vocabulary(f, [p if p[0] == "[" else p.title() for p in broken.pieces(f)]),
        edit_json(f / "tokenizer_config.json", do_lower_case=False),
    ),
}


@pytest.mark.parametrize("name", ACCEPTED)
def test_what_is_valid_is_not_refused(classifier: Path, tmp_path: Path, name: str):
    folder = broken.copy(classifier, tmp_path / "changed")
    ACCEPTED[name](folder)
    assert problems(folder) == []
    assert Checkpoint(folder).family == "bert"


def test_every_family_is_what_it_says(encoder: Path, distilbert: Path, tmp_path: Path):
    from tiny_models import make_albert, make_model

    for kind in ("BertForMaskedLM", "BertForPreTraining", "BertForTokenClassification", "DistilBertForMaskedLM"):
        save = tmp_path / kind
        make_model(kind).save_pretrained(save)
        broken.copy(encoder, tmp_path / f"{kind}-tokenizer")
        (tmp_path / f"{kind}-tokenizer" / "tokenizer.json").rename(save / "tokenizer.json")
        assert problems(save) == []
    albert = tmp_path / "albert"
    make_albert("AlbertForMaskedLM").save_pretrained(albert)
    assert {problem.kind for problem in problems(albert)} == {"missing"}, "only the tokenizer is"
    edit_config(albert, num_hidden_groups=4)
    assert "conflict" in {problem.kind for problem in problems(albert)}
    assert problems(distilbert) == []


def test_what_sentence_transformers_saves_is_found_in_its_folder(encoder: Path, tmp_path: Path):
    old = tmp_path / "old"
    broken.copy(encoder, old / "0_Transformer")
    (old / "config.json").write_text('{"__version__": "0.3.0"}')
    modules = [{"idx": 0, "name": "0", "path": "0_Transformer", "type": "sentence_transformers.models.Transformer"}]
    (old / "modules.json").write_text(json.dumps(modules))
    assert root(old) == old / "0_Transformer"
    new = broken.copy(encoder, tmp_path / "new")
    (new / "modules.json").write_text(json.dumps([{**modules[0], "path": ""}]))
    assert root(new) == new
    (new / "modules.json").write_text(json.dumps([{**modules[0], "path": "../old/0_Transformer"}]))
    assert root(new) == new, "nothing outside of the folder is read"


def test_nothing_heavy_is_imported_to_check(classifier: Path):
    code = (
        "import sys; from pathlib import Path; from compressor.models import checking; "
        f"assert not checking.problems(Path({str(classifier)!r}), 'model'); "
        "assert not {'torch', 'transformers', 'numpy.testing'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
