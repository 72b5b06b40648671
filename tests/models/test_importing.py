"""Checkpoints as people have them become one form, once, before any stage; what headers cannot say is found here."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import broken
import pytest
import torch
from broken import edit_config, edit_json, edit_weights
from problems import refused
from safetensors.torch import save_file

from compressor.models import checking, heads, importing, loading, settings, weights
from compressor.models.checkpoint import Checkpoint

Spoil = Callable[[Path], object]


def bring_in(folder: Path, output: Path) -> dict[str, Any]:
    assert checking.problems(folder, "model") == []
    output.mkdir()
    return importing.bring_in(folder, output, "model")


def logits(folder: Path) -> torch.Tensor:
    model = loading.load_model(folder).eval()
    with torch.inference_mode():
        output = model(input_ids=torch.arange(5, 17)[None])
    return output.logits


def pickled(f: Path, legacy: bool = False, tie: str | None = None) -> None:
    tensors = broken.state(f)
    if tie:
        tensors[tie] = tensors["bert.embeddings.word_embeddings.weight"]
    torch.save(tensors, f / "pytorch_model.bin", _use_new_zipfile_serialization=not legacy)
    (f / broken.WEIGHTS).unlink()


def sharded(f: Path, ending: str) -> None:
    tensors = broken.state(f)
    names = sorted(tensors)
    base = "model" if ending == "safetensors" else "pytorch_model"
    index = {}
    for number, some in enumerate((names[::2], names[1::2]), 1):
        shard = f"{base}-{number:05}-of-00002.{ending}"
        index.update(dict.fromkeys(some, shard))
        content = {name: tensors[name].clone() for name in some}
        save_file(content, f / shard) if ending == "safetensors" else torch.save(content, f / shard)
    (f / broken.WEIGHTS).unlink()
    (f / f"{base}.{ending}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))


def typed(kind: torch.dtype) -> Spoil:
    return lambda f: edit_weights(f, lambda s: {name: tensor.to(kind) for name, tensor in s.items()})


FORMS: dict[str, tuple[Spoil, float]] = {
    "a .bin": (pickled, 0),
    "a .bin of old": (lambda f: pickled(f, legacy=True), 0),
    "shards": (lambda f: sharded(f, "safetensors"), 0),
    "shards of .bin": (lambda f: sharded(f, "bin"), 0),
    "names of TensorFlow": (
        lambda f: edit_weights(
            f,
            lambda s: {
                n.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): t
                for n, t in s.items()
            },
        ),
        0,
    ),
    "float16": (typed(torch.float16), 2e-2),
    "bfloat16": (typed(torch.bfloat16), 2e-1),
    "float64": (typed(torch.float64), 0),
    "no model_type": (lambda f: edit_config(f, ("model_type", "architectures"), architectures=None), 0),
    "settings of outputs": (
        lambda f: edit_config(
            f, output_attentions=True, output_hidden_states=True, return_dict=False, torchscript=True
        ),
        0,
    ),
    "num_labels alone": (lambda f: edit_config(f, ("id2label", "label2id"), num_labels=2), 0),
    "padding on the left": (lambda f: edit_json(f / "tokenizer_config.json", padding_side="left"), 0),
    "a vocabulary alone": (lambda f: broken.write_vocabulary(f, broken.pieces(f)), 0),
}


@pytest.mark.parametrize("name", FORMS)
def test_weights_as_people_have_them_give_the_same_answers(classifier: Path, tmp_path: Path, name: str):
    folder = broken.copy(classifier, tmp_path / "given")
    change, tolerance = FORMS[name]
    change(folder)
    if name == "no model_type":
        edit_config(folder, architectures=["BertForSequenceClassification"])
    facts = bring_in(folder, tmp_path / "out")
    assert (tmp_path / "out" / "model.safetensors").is_file()
    plain = Checkpoint(tmp_path / "out")
    assert {tensor.kind for tensor in plain.tensors.values()} == {"float32"}
    assert plain.num_parameters == Checkpoint(folder).num_parameters == Checkpoint(classifier).num_parameters
    assert torch.allclose(logits(tmp_path / "out"), logits(classifier), atol=tolerance, rtol=0)
    changed = ("a .bin", "shards", "float", "bfloat", "padding")
    assert bool(facts.get("notes")) == name.startswith(changed)
    config = plain.config
    assert config["model_type"] == "bert" and config["dtype"] == "float32"
    assert not {"output_attentions", "output_hidden_states", "return_dict", "torchscript"} & set(config)
    assert loading.load_tokenizer(tmp_path / "out").padding_side == "right"


def test_a_language_models_matrix_that_is_the_embeddings_is_stored_once(tmp_path: Path):
    from conftest import make_tokenizer
    from tiny_models import make_model

    model = make_model("BertForMaskedLM")
    loading.save(tmp_path / "given", model, make_tokenizer())
    pickled(tmp_path / "given", tie="cls.predictions.decoder.weight")
    assert Checkpoint(tmp_path / "given").num_parameters == model.num_parameters()
    bring_in(tmp_path / "given", tmp_path / "out")
    assert Checkpoint(tmp_path / "out").num_parameters == model.num_parameters()
    assert torch.equal(logits(tmp_path / "out"), model(input_ids=torch.arange(5, 17)[None]).logits)


def lowercase(f: Path, value: bool) -> None:
    parts = json.loads((f / "tokenizer.json").read_text())
    parts["normalizer"]["lowercase"] = value
    (f / "tokenizer.json").write_text(json.dumps(parts))


NAME = "bert.encoder.layer.1.output.dense.weight"

BROKEN: dict[str, tuple[Spoil, str]] = {
    "NaN": (lambda f: edit_weights(f, lambda s: {**s, NAME: s[NAME] * float("nan")}), "value"),
    "infinite": (lambda f: edit_weights(f, lambda s: {**s, NAME: s[NAME] / 0}), "value"),
    "a normalizer that is dropped": (
        lambda f: (lowercase(f, False), edit_json(f / "tokenizer_config.json", ("do_lower_case",))),
        "conflict",
    ),
    "settings that contradict the file": (
        lambda f: edit_json(f / "tokenizer_config.json", do_lower_case=False),
        "conflict",
    ),
    "special tokens that are added": (
        lambda f: broken.write_vocabulary(f, ["mask" if p == "[MASK]" else p for p in broken.pieces(f)]),
        "conflict",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_what_headers_do_not_say_is_found_before_any_stage(classifier: Path, tmp_path: Path, name: str):
    folder = broken.copy(classifier, tmp_path / "given")
    spoil, kind = BROKEN[name]
    spoil(folder)
    with refused("model", kind):
        bring_in(folder, tmp_path / "out")


def test_a_tokenizer_that_is_taken_as_its_file_says_keeps_capitals(classifier: Path, tmp_path: Path):
    folder = broken.copy(classifier, tmp_path / "given")
    lowercase(folder, False)
    edit_json(folder / "tokenizer_config.json", tokenizer_class="PreTrainedTokenizerFast")
    bring_in(folder, tmp_path / "out")
    tokens = loading.load_tokenizer(tmp_path / "out").tokenize("Good good")
    assert tokens == ["[UNK]", "good"]


class Harmful:
    """A pickle of it calls a function."""

    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("run",)


def test_a_pickle_runs_nothing(classifier: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    folder = broken.copy(classifier, tmp_path / "given")
    for legacy in (False, True):
        (folder / broken.WEIGHTS).unlink(missing_ok=True)
        torch.save({"a": Harmful()}, folder / weights.PICKLED, _use_new_zipfile_serialization=not legacy)
        assert {problem.kind for problem in checking.problems(folder, "model")} == {"unreadable"}
    assert "run" not in capsys.readouterr().out


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_that_is_cut_off_is_refused(classifier: Path, tmp_path: Path, legacy: bool):
    folder = broken.copy(classifier, tmp_path / "given")
    pickled(folder, legacy)
    whole = (folder / weights.PICKLED).read_bytes()
    for length in (len(whole) - 100, len(whole) // 2, 20):
        (folder / weights.PICKLED).write_bytes(whole[:length])
        assert {problem.kind for problem in checking.problems(folder, "model")} == {"unreadable"}
    torch.save({"model": broken.state(classifier), "epoch": 3}, folder / weights.PICKLED)
    assert {problem.kind for problem in checking.problems(folder, "model")} == {"unreadable"}


def test_a_shard_that_is_missing_or_elsewhere_is_refused(classifier: Path, tmp_path: Path):
    folder = broken.copy(classifier, tmp_path / "given")
    sharded(folder, "safetensors")
    (folder / "model-00002-of-00002.safetensors").rename(tmp_path / "model-00002-of-00002.safetensors")
    assert {problem.kind for problem in checking.problems(folder, "model")} == {"unreadable"}
    index = folder / "model.safetensors.index.json"
    index.write_text(index.read_text().replace("model-00002", "../model-00002"))
    assert {problem.kind for problem in checking.problems(folder, "model")} == {"unreadable"}


HEADLESS: dict[str, Spoil] = {
    "a pooler is missing": lambda f: edit_weights(f, broken.without("pooler")),
    "a classifier is missing": lambda f: edit_weights(f, broken.without("classifier")),
    "a bias is missing": lambda f: edit_weights(f, broken.without("classifier.bias")),
    "three labels": lambda f: edit_config(
        f, id2label={"0": "a", "1": "b", "2": "c"}, label2id={"a": 0, "b": 1, "c": 2}
    ),
    "num_labels of three": lambda f: edit_config(f, num_labels=3),
    "num_labels alone, of three": lambda f: edit_config(f, ("id2label", "label2id"), num_labels=3),
    "numbers from 1": lambda f: edit_config(f, id2label={"1": "negative", "2": "positive"}),
    "one name twice": lambda f: edit_config(f, id2label={"0": "same", "1": "same"}),
    "several labels a text": lambda f: edit_config(f, problem_type="multi_label_classification"),
    "a number": lambda f: edit_config(f, problem_type="regression"),
    "one output": lambda f: (
        edit_weights(f, lambda s: {n: t[:1] if n.startswith("classifier") else t for n, t in s.items()}),
        edit_config(f, ("label2id",), id2label={"0": "LABEL_0"}),
    ),
    "layers that are not read": lambda f: edit_weights(f, lambda s: {**s, "crf.transitions": torch.ones(2, 2)}),
}


@pytest.mark.parametrize("name", HEADLESS)
def test_a_head_that_is_not_whole_is_none(classifier: Path, tmp_path: Path, name: str):
    folder = broken.copy(classifier, tmp_path / "given")
    HEADLESS[name](folder)
    assert not Checkpoint(folder).has_head(heads.SEQUENCE_CLASSIFICATION)
    if name not in ("one output", "several labels a text"):  # a head of another kind
        with refused("model", "missing"):
            loading.load_model(folder)
    bring_in(folder, tmp_path / "out")
    labels = {"num_labels": 4, "id2label": dict(enumerate("abcd")), "label2id": {k: i for i, k in enumerate("abcd")}}
    model = loading.load_model(tmp_path / "out", heads.SEQUENCE_CLASSIFICATION, **labels)
    assert model.config.num_labels == 4
    assert model.config.problem_type == "single_label_classification", "not that of the head before"


def test_every_activation_without_weights_is_known():
    from torch import nn
    from transformers.activations import ACT2FN

    functions = {name: ACT2FN[name] for name in ACT2FN}
    plain = {name for name, function in functions.items() if not list(nn.Module.parameters(function))}
    assert set(settings.ACTIVATIONS) == plain
