"""MPNet, DeBERTa and ModernBERT, whose layers stay as they are: read, made shallower, in every format, in runs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from conftest import WriteRecipe
from problems import refused
from running import compress, report_of, stage_of
from tiny_models import saved_and_read
from whole_layers import PREFIXES, answers, make, rows, save

from compressor.errors import StageError
from compressor.models import checking, heads, loading
from compressor.models.checkpoint import Checkpoint
from compressor.models.convert import from_parts, layer_matrices, to_parts
from compressor.models.surgery.factorize_embeddings import factorize
from compressor.models.surgery.reduce_width import reduce_width
from compressor.models.surgery.select_layers import least_harmful, reduce_depth
from compressor.models.surgery.share_layers import Sharing, share
from compressor.models.surgery.vocabulary import with_tokens
from compressor.recipe import resolve

TRAIN = {"batch_size": 16, "learning_rate": 3e-3, "max_sequence_length": 24}
CLASSIFIER = "ForSequenceClassification"


def logits_of(model: Any, length: int = 20) -> torch.Tensor:
    batch = rows(length, model.config.pad_token_id)
    with torch.no_grad():
        return torch.cat([output.flatten() for output in answers(model.eval()(**batch), batch["attention_mask"])])


@pytest.mark.parametrize("head", heads.HEADS, ids=lambda head: f"{head.auto}-{head.numbers}")
@pytest.mark.parametrize("prefix", PREFIXES)
def test_it_is_what_transformers_makes_of_it(prefix: str, head: heads.Head, tmp_path: Path):
    model = make(prefix, head.auto, **{k: v for k, v in head.settings.items() if k != "problem_type"})
    for other in saved_and_read(model, head, tmp_path):
        assert torch.allclose(logits_of(other), logits_of(model), atol=1e-5)


@pytest.mark.parametrize(
    ("prefix", "values"),
    [
        ("DebertaV2", {"share_att_key": False, "type_vocab_size": 1, "position_biased_input": True}),
        ("DebertaV2", {"pos_att_type": "c2p", "position_buckets": -1}),
        ("DebertaV2", {"relative_attention": False, "pos_att_type": None, "embedding_size": 16}),
        ("ModernBert", {"norm_bias": True, "attention_bias": True, "mlp_bias": True, "classifier_bias": True}),
        ("ModernBert", {"decoder_bias": False}),
    ],
)
def test_what_their_configs_turn_on_and_off(prefix: str, values: dict[str, Any], tmp_path: Path):
    """The tensors that a config calls for are those that transformers makes."""
    for head in (CLASSIFIER, "ForMaskedLM"):
        path = save(tmp_path / head, prefix, head, **values)
        assert checking.problems(path, "model") == []
        checkpoint = Checkpoint(path)
        assert checkpoint.has_head(heads.MASKED_LM if head == "ForMaskedLM" else heads.SEQUENCE_CLASSIFICATION)
        model = loading.load_model(path)
        assert torch.allclose(logits_of(from_parts(to_parts(model))), logits_of(model), atol=1e-5)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_bare_encoder_gets_a_head(prefix: str, tmp_path: Path):
    path = save(tmp_path, prefix, "Model")
    assert checking.problems(path, "model") == []
    model = loading.load_model(path, heads.SEQUENCE_CLASSIFICATION, num_labels=3)
    encoder = getattr(transformers, f"{prefix}Model").from_pretrained(path).eval()
    batch = rows(9, encoder.config.pad_token_id)
    states = [found(**batch).last_hidden_state for found in (model.eval().base_model, encoder)]
    assert torch.equal(*states)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_shallower_one_computes_the_chosen_layers(prefix: str):
    model = make(prefix, CLASSIFIER)
    student = reduce_depth(model, [0, 1]).eval()
    batch = rows(20, model.config.pad_token_id)
    with torch.no_grad():
        ours, theirs = (found(**batch, output_hidden_states=True).hidden_states for found in (student, model))
    inside = batch["attention_mask"].bool()
    # Of a ModernBERT, the last state has been through the final norm.
    assert torch.allclose(ours[1][inside], theirs[1][inside], atol=1e-6)
    assert student.config.num_hidden_layers == 2 and type(student) is type(model)
    spread = reduce_depth(model, [0, 3])
    assert getattr(spread.config, "layer_types", None) == (["full_attention"] * 2 if prefix == "ModernBert" else None)
    for name, tensor in spread.state_dict().items():
        if ".1." in name:
            assert torch.equal(tensor, model.state_dict()[name.replace(".1.", ".3.")])


def test_a_search_keeps_the_first_layer_of_a_modernbert():
    kept, rounds = least_harmful(make("ModernBert", CLASSIFIER), 1, lambda model: 1.0)
    assert kept == [0] and [entry["dropped"] for entry in rounds] == [1, 2, 3]
    kept, _ = least_harmful(make("MPNet", CLASSIFIER), 2, lambda model: 1.0)
    assert kept == [2, 3]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_trimmed_tokens_keep_their_answers(prefix: str):
    model = make(prefix, "ForMaskedLM")
    sources = torch.tensor([0, 1, *range(4, model.config.vocab_size)])
    smaller = from_parts(with_tokens(to_parts(model), sources)).eval()
    batch = rows(12, model.config.pad_token_id)
    new = {old: index for index, old in enumerate(sources.tolist())}
    moved = {**batch, "input_ids": batch["input_ids"].apply_(lambda old: new[old])}
    original = {**batch, "input_ids": sources[moved["input_ids"]]}
    with torch.no_grad():
        ours, theirs = smaller(**moved).logits, model(**original).logits[..., sources]
    inside = batch["attention_mask"].bool()
    assert torch.allclose(ours[inside], theirs[inside], atol=1e-5)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_the_inside_of_layers_stays(prefix: str):
    model = make(prefix, CLASSIFIER)
    for change in (
        lambda: share(model, Sharing("all", 1, 4), [0]),
        lambda: factorize(model, 8, torch.ones(model.config.vocab_size)),
        lambda: reduce_width(model, 16),
        lambda: reduce_depth(model, [0], "distilbert"),
    ):
        with pytest.raises(StageError):
            change()
    assert len(layer_matrices(model)) == 4 * (4 if prefix == "ModernBert" else 6)


@pytest.mark.parametrize("prefix", PREFIXES)
def test_validate_says_what_cannot_be(write_recipe: WriteRecipe, tmp_path: Path, prefix: str):
    save(tmp_path / "model", prefix, CLASSIFIER)

    def recipe(**stage: Any) -> Path:
        return write_recipe(model="model", stages=[{"stage": "finetune", "max_steps": 1}, stage])

    for stage in ({"stage": "share"}, {"stage": "factorize", "embedding_size": 8}):
        with refused(f"stages[1] ({stage['stage']})", "unsupported"):
            resolve.resolve(recipe(**stage))
    for key, value in (("heads", 0.25), ("ffn", 0.5), ("target", {"num_parameters": 10_000})):
        with refused(f"stages[1] (prune).{key}", "unsupported"):
            resolve.resolve(recipe(stage="prune", **{key: value}))
    with refused("stages[1] (distill).hidden_size", "unsupported"):
        resolve.resolve(recipe(stage="distill", hidden_size=16))
    with refused("stages[1] (distill).architecture", "unsupported"):
        resolve.resolve(recipe(stage="distill", architecture="bert"))
    resolve.resolve(recipe(stage="prune", layers=[1]))
    if prefix == "ModernBert":
        for stage, layers in (("prune", [0]), ("distill", [1, 2]), ("distill", [0, 1, 0])):
            with refused(f"stages[1] ({stage}).layers", "unsupported"):
                resolve.resolve(recipe(stage=stage, layers=layers))


@pytest.mark.parametrize(
    ("prefix", "name", "value"),
    [
        ("MPNet", "pad_token_id", 0),
        ("DebertaV2", "conv_kernel_size", 3),
        ("DebertaV2", "type_vocab_size", 2),
        ("DebertaV2", "position_buckets", "many"),
        ("DebertaV2", "pos_att_type", ["c2c"]),
        ("DebertaV2", "pos_att_type", 3),
        ("DebertaV2", "pos_att_type", [["c2p"]]),
        ("DebertaV2", "norm_rel_ebd", ["layer_norm"]),
        ("DebertaV2", "pooler_hidden_size", 16),
        ("DebertaV2", "legacy", False),
        ("ModernBert", "layer_types", ["full_attention"]),
        ("ModernBert", "layer_types", [["full_attention"]] * 4),
        ("ModernBert", "classifier_pooling", "median"),
        ("ModernBert", "rope_parameters", 3),
        ("ModernBert", "rope_parameters", {"full_attention": {"rope_type": "dynamic"}}),
        ("ModernBert", "rope_scaling", {"type": "dynamic", "factor": 2.0}),
        ("ModernBert", "rope_scaling", 3),
    ],
)
def test_configs_that_no_form_is_known_for(prefix: str, name: str, value: Any, tmp_path: Path):
    assert problems_with(save(tmp_path, prefix, CLASSIFIER), **{name: value}) == ["unsupported"]


@pytest.mark.parametrize(
    ("prefix", "name", "value"),
    [
        ("MPNet", "relative_attention_num_buckets", "many"),
        ("DebertaV2", "relative_attention", "no"),
        ("DebertaV2", "pooler_hidden_act", "bad"),
        ("DebertaV2", "pooler_dropout", 7),
        ("ModernBert", "local_attention", -4),
        ("ModernBert", "global_attn_every_n_layers", 0),
        ("ModernBert", "norm_eps", "x"),
        ("ModernBert", "norm_bias", "no"),
        ("ModernBert", "classifier_activation", "bad"),
        ("ModernBert", "mlp_dropout", 4),
    ],
)
def test_settings_that_are_those_of_no_model(prefix: str, name: str, value: Any, tmp_path: Path):
    assert problems_with(save(tmp_path, prefix, CLASSIFIER), **{name: value}) == ["value"]


def problems_with(path: Path, **settings: Any) -> list[str]:
    """The kinds of problems that a checkpoint has with other settings."""
    config = json.loads((path / "config.json").read_text())
    (path / "config.json").write_text(json.dumps({**config, **settings}))
    return [problem.kind for problem in checking.problems(path, "model")]


@pytest.mark.parametrize("prefix", PREFIXES)
def test_a_run_compresses_and_ships_it(write_recipe: WriteRecipe, tmp_path: Path, prefix: str):
    save(tmp_path / "model", prefix, "Model", initializer_range=0.1)
    stages = [
        {"stage": "finetune", "epochs": 6, **TRAIN, "gates": {"accuracy": {"min": 0.8}}},
        {"stage": "distill", "layers": [0, 2], "epochs": 3, **TRAIN, "gates": {"accuracy": {"min_retention": 0.8}}},
        {"stage": "quantize"},
        {"stage": "export", "targets": ["onnx", "ort", "torchscript"], "size_only": True},
    ]
    path = write_recipe(model="model", stages=stages)
    result = compress("run", path.name, "--allow-inconclusive", cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    assert stage_of(report_of(tmp_path), "quantize")["measurements"]["quantized_coverage"]["value"] == 1
    shipped = tmp_path / "artifacts/tiny/model"
    model = transformers.AutoModelForSequenceClassification.from_pretrained(shipped)
    assert type(model).__name__ == f"{prefix}{CLASSIFIER}" and model.config.num_hidden_layers == 2
    assert compress("verify", shipped.parent, cwd=tmp_path).returncode == 0


@pytest.mark.parametrize("prefix", PREFIXES)
def test_every_scheme(write_recipe: WriteRecipe, tmp_path: Path, prefix: str):
    save(tmp_path / "model", prefix, "Model", initializer_range=0.1, num_hidden_layers=2)
    schemes = ["qat_int8", "weight_only_int4", "fp16"]
    stages = [
        {"stage": "finetune", "epochs": 6, **TRAIN, "gates": {"accuracy": {"min": 0.8}}},
        {
            "stage": "quantize",
            "scheme": schemes,
            "max_steps": 8,
            "gates": {"accuracy": {"min_retention": 0.8}},
            **TRAIN,
        },
    ]
    path = write_recipe(model="model", stages=stages)
    result = compress("run", path.name, "--allow-inconclusive", cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
