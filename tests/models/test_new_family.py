"""A new family of models is one file, and its name in the table of `compressor.models.families`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from conftest import recipe_writer
from extending import ExtendedPackage

FAMILY = '''"""Toy: a BERT under another name, with classes of its own."""

from dataclasses import replace

from compressor.models.families import bert

NAME = "toy_bert"


def _register():
    import transformers

    config = type("ToyBertConfig", (transformers.BertConfig,), {"model_type": NAME})
    transformers.AutoConfig.register(NAME, config, exist_ok=True)
    for end in ("Model", "ForSequenceClassification"):
        base = getattr(transformers, f"Bert{end}")
        model = type(f"ToyBert{end}", (base,), {"config_class": config})
        auto = "AutoModel" if end == "Model" else f"AutoModel{end}"
        getattr(transformers, auto).register(config, model, exist_ok=True)


FAMILY = replace(
    bert.FAMILY,
    model_type=NAME,
    prefix="ToyBert",
    becomes=(NAME,),
    holds=lambda parts: parts.config.model_type == NAME and bert.can_hold(parts),
    fit=lambda parts: parts,
    register=_register,
)
'''


def test_a_new_family_is_distilled_pruned_exported_and_published(tmp_path: Path, encoder: Path):
    package = ExtendedPackage(tmp_path / "package")
    package.write("models/families/toy_bert.py", FAMILY)
    package.insert(
        "models/families/__init__.py", "from functools import", "from compressor.models.families import toy_bert"
    )
    package.insert("models/families/__init__.py", "_FAMILIES = (", "    toy_bert.FAMILY,")
    checkpoint = shutil.copytree(encoder, tmp_path / "toy")
    config = json.loads((checkpoint / "config.json").read_text())
    config |= {"model_type": "toy_bert", "architectures": ["ToyBertModel"]}
    (checkpoint / "config.json").write_text(json.dumps(config))
    train = {"epochs": 4, "batch_size": 16, "learning_rate": 3e-3, "max_sequence_length": 24}
    stages = [
        {"stage": "finetune", **train, "gates": {"accuracy": {"min": 0.8}}},
        {"stage": "distill", "layers": [0, 2], **train, "gates": {"accuracy": {"min_retention": 0.8}}},
        {"stage": "prune", "ffn": 0.5, **train},
        {"stage": "export", "targets": ["onnx", "torchscript"]},
    ]
    write = recipe_writer(package.folder, checkpoint)
    wrong = [stages[0], {**stages[1], "architecture": "distilbert"}]
    result = package.compress("validate", write(stages=wrong))
    assert result.returncode == 2 and "toy_bert" in result.stderr, "a student of it stays one"
    result = package.compress("run", write(stages=stages).name)
    assert result.returncode == 0, result.stdout + result.stderr
    shipped = json.loads((package.folder / "artifacts/tiny/model/config.json").read_text())
    assert (shipped["model_type"], shipped["architectures"]) == ("toy_bert", ["ToyBertForSequenceClassification"])
    assert (shipped["num_hidden_layers"], shipped["intermediate_size"]) == (2, 32)
