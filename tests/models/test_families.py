"""RoBERTa and its descendants, and ELECTRA: read, taken apart, put together, and through runs of every task."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import task_rows
import torch
import transformers
from conftest import MAX_POSITIONS, WriteRecipe, make_config, make_tokenizer, sentences
from problems import refused
from running import compress, report_of, stage_of
from tiny_models import class_named, make_batch, other_config, saved_and_read, with_random_vectors

from compressor.models import checking, heads, loading
from compressor.models.convert import from_parts, to_parts
from compressor.recipe import resolve
from compressor.runtimes import onnxruntime as onnx_runtime

PREFIXES = ("Roberta", "XLMRoberta", "Camembert", "Electra")
TRAIN = {"batch_size": 16, "learning_rate": 3e-3, "max_sequence_length": 24}


def byte_pairs() -> Any:
    """A byte-level BPE as RoBERTa has it, trained on the words of the tests."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=["<s>", "<pad>", "</s>", "<unk>", "<mask>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([text for text, _ in sentences(500, 1)], trainer)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return transformers.RobertaTokenizerFast(tokenizer_object=tokenizer, model_max_length=MAX_POSITIONS)


def made(prefix: str, head: str, **values: Any) -> Any:
    """Random, with biases that are not zero."""
    torch.manual_seed(3)
    tokenizer = byte_pairs() if prefix == "Roberta" else make_tokenizer()
    config = other_config(prefix, make_config(vocab_size=len(tokenizer)), **{"initializer_range": 0.2, **values})
    return with_random_vectors(class_named(f"{prefix}{head}", config)(config).eval())


def save(folder: Path, prefix: str, head: str, **values: Any) -> Path:
    """As transformers saves it, without this package."""
    made(prefix, head, **values).save_pretrained(folder)
    (byte_pairs() if prefix == "Roberta" else make_tokenizer()).save_pretrained(folder)
    return folder


def answers(model: Any) -> list[torch.Tensor]:
    """The outputs for the tokens that are not padding."""
    batch = make_batch()
    with torch.no_grad():
        outputs = model(**batch)
    inside = batch["attention_mask"].bool()
    names = [
        name
        for name in ("logits", "start_logits", "end_logits", "sentence_embedding", "token_embeddings")
        if name in outputs
    ]
    return [outputs[name] if outputs[name].shape[:2] != inside.shape else outputs[name][inside] for name in names]


@pytest.mark.parametrize("head", heads.HEADS, ids=lambda head: f"{head.auto}-{head.numbers}")
@pytest.mark.parametrize("prefix", PREFIXES)
def test_it_is_what_transformers_makes_of_it(prefix: str, head: heads.Head, tmp_path: Path):
    model = made(prefix, head.auto, **{k: v for k, v in head.settings.items() if k != "problem_type"})
    loaded, again = saved_and_read(model, head, tmp_path)
    compact = from_parts(to_parts(loaded), "compact_bert").eval()
    for other in (loaded, again, compact):
        for ours, theirs in zip(answers(other), answers(model), strict=True):
            assert torch.allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize(("prefix", "head"), [("Roberta", "ForSequenceClassification"), ("Electra", "ForMaskedLM")])
def test_its_graph_answers_as_it_does_wherever_the_padding_is(prefix: str, head: str, tmp_path: Path):
    path = save(tmp_path / "model", prefix, head)
    model = loading.load_model(path).eval()
    onnx_runtime.export(path, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    padding = model.config.pad_token_id
    for mask in ([1] * 9, [1] * 6 + [0] * 3, [0] * 3 + [1] * 6, [1, 1, 0, 0, 1, 1, 1, 0, 1]):
        ids = np.where(mask, np.arange(20, 29), padding)[None]
        inputs = {"input_ids": ids, "attention_mask": np.array([mask]), "token_type_ids": np.zeros_like(ids)}
        given = {entry.name: inputs[entry.name] for entry in session.get_inputs()}
        with torch.no_grad():
            expected = model(**{name: torch.from_numpy(value) for name, value in given.items()}).logits.numpy()
        (logits,) = session.run(None, given)
        inside = np.array(mask, dtype=bool)
        ours, theirs = (found if found.ndim == 2 else found[0][inside] for found in (logits, expected))
        assert np.abs(ours - theirs).max() < 1e-4


def test_an_encoder_as_hubs_have_it(tmp_path: Path):
    """Without its prefix, with a pooler that no head reads; or with the head of ELECTRA's discriminator."""
    for prefix, end in (("Roberta", "Model"), ("Electra", "Model"), ("Electra", "ForPreTraining")):
        path = save(tmp_path / f"{prefix}{end}", prefix, end)
        assert checking.problems(path, "model") == []
        model = loading.load_model(path, heads.SEQUENCE_CLASSIFICATION, num_labels=3)
        encoder = getattr(transformers, f"{prefix}Model").from_pretrained(path)
        name = "encoder.layer.0.attention.self.query.weight"
        assert torch.equal(model.base_model.state_dict()[name], encoder.state_dict()[name])


def test_positions_start_behind_the_padding_row(tmp_path: Path):
    path = save(tmp_path, "Roberta", "ForSequenceClassification")
    config = json.loads((path / "config.json").read_text())
    assert config["max_position_embeddings"] == MAX_POSITIONS + 2
    model = loading.load_model(path)
    table = model.roberta.embeddings.position_embeddings.weight
    assert torch.equal(to_parts(model).outside["position.weight"], table[2:])
    student = from_parts(to_parts(model).with_layers([0, 2]))
    assert type(student) is type(model) and student.config.max_position_embeddings == MAX_POSITIONS + 2
    assert torch.equal(student.roberta.embeddings.position_embeddings.weight[2:], table[2:])


@pytest.mark.parametrize("prefix", ["Roberta", "Electra"])
def test_a_run_compresses_and_ships_it(write_recipe: WriteRecipe, tmp_path: Path, prefix: str):
    save(tmp_path / "model", prefix, "ForMaskedLM" if prefix == "Roberta" else "ForPreTraining")
    stages = [
        {"stage": "finetune", "epochs": 6, **TRAIN, "gates": {"accuracy": {"min": 0.8}}},
        {"stage": "distill", "layers": [0, 2], "epochs": 3, **TRAIN, "gates": {"accuracy": {"min_retention": 0.8}}},
        {"stage": "prune", "ffn": 0.5, "epochs": 1, **TRAIN},
        {"stage": "quantize"},
        {"stage": "export", "targets": ["onnx", "ort", "torchscript"]},
    ]
    path = write_recipe(model="model", stages=stages)
    result = compress("run", path.name, "--allow-inconclusive", cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    report = report_of(tmp_path)
    assert stage_of(report, "quantize")["measurements"]["quantized_coverage"]["value"] == 1
    shipped = tmp_path / "artifacts/tiny/model"
    model = transformers.AutoModelForSequenceClassification.from_pretrained(shipped)
    assert type(model).__name__ == f"{prefix}ForSequenceClassification" and model.config.intermediate_size == 32
    assert transformers.AutoTokenizer.from_pretrained(shipped)("good film")["input_ids"]
    assert compress("verify", shipped.parent, cwd=tmp_path).returncode == 0


@pytest.mark.parametrize("task", [*task_rows.METRIC])
@pytest.mark.parametrize("prefix", ["Roberta", "Electra"])
def test_every_task_is_learned(tmp_path: Path, task: str, prefix: str):
    save(tmp_path / "model", prefix, "Model", initializer_range=0.05)
    cut = {"stage": "prune", "heads": 0.25, "epochs": 0}
    stages = [{"stage": "finetune", **task_rows.TRAIN}, cut, {"stage": "quantize"}]
    path = task_rows.write_recipe(tmp_path, task, tmp_path / "model", stages)
    result = compress("run", path.name, cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert stage_of(report_of(tmp_path), "finetune")["measurements"][task_rows.METRIC[task]]["value"] > 0.5


def test_pretraining_and_sharing(write_recipe: WriteRecipe, tmp_path: Path):
    save(tmp_path / "model", "Roberta", "ForMaskedLM")
    (tmp_path / "corpus.txt").write_text("\n".join(text for text, _ in sentences(600, seed=9)))
    stages = [
        {"stage": "finetune", "masking": "whole_word", "epochs": 1, **TRAIN},
        {"stage": "share", "num_hidden_groups": 2, "epochs": 1, **TRAIN},
        {"stage": "factorize", "embedding_size": 16, "epochs": 1, **TRAIN},
        {"stage": "quantize"},
    ]
    path = write_recipe(task="masked-lm", model="model", data={"corpus": "corpus.txt"}, stages=stages)
    result = compress("run", path.name, "--allow-inconclusive", cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert stage_of(report_of(tmp_path), "quantize")["measurements"]["quantized_coverage"]["value"] > 0.9


def test_what_its_tokenizer_cannot_do_is_refused_before_training(write_recipe: WriteRecipe, tmp_path: Path):
    save(tmp_path / "model", "Roberta", "Model")
    first = {"stage": "finetune", "max_steps": 1}
    with refused("stages[1] (prune).vocabulary.keep", "value"):
        resolve.resolve(write_recipe(model="model", stages=[first, {"stage": "prune", "vocabulary": {"keep": 260}}]))
    with refused("stages[1] (export).tokenizer", "unsupported"):
        resolve.resolve(write_recipe(model="model", stages=[first, {"stage": "export", "tokenizer": "baked"}]))
    with refused("stages[1] (distill).architecture", "unsupported"):
        resolve.resolve(write_recipe(model="model", stages=[first, {"stage": "distill", "architecture": "distilbert"}]))
