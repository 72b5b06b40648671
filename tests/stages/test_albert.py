"""ALBERT-style students through the real command: shared, factorized, recovered, quantized, exported, loaded again."""

from __future__ import annotations

import json
from pathlib import Path

import onnxruntime
import pytest
import torch
import transformers
from conftest import WriteRecipe, passing, recipe_writer
from running import compress

from compressor.gates.spec import Gate
from compressor.pipeline import plan
from compressor.stages.factorize import FactorizeSpec
from compressor.stages.finetune import FinetuneSpec
from compressor.stages.quantize import QuantizeSpec
from compressor.stages.share import ShareSpec

TRAIN = {"batch_size": 16, "learning_rate": 3e-3, "max_sequence_length": 24}
TEACHER = {"stage": "finetune", "epochs": 4, **TRAIN}
CUT = {"epochs": 0, "max_sequence_length": 24}
END = [{"stage": "quantize"}, {"stage": "export", "targets": ["onnx", "torchscript"]}]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, encoder: Path) -> tuple[Path, dict[str, dict]]:
    folder = tmp_path_factory.mktemp("albert")
    gates = {"gates": {"accuracy": {"min_retention": 0.8}}}
    stages = [
        TEACHER,
        {"stage": "share", "num_hidden_groups": 1, **CUT},
        {"stage": "factorize", "embedding_size": 8, "epochs": 6, **TRAIN, **gates},
        {**END[0], **gates},
        END[1],
    ]
    return folder, passing(recipe_writer(folder, encoder), folder, stages)


def test_a_shared_and_factorized_student_recovers(finished):
    _, stages = finished
    teacher, student = (stages[name]["measurements"]["accuracy"]["value"] for name in ("baseline", "factorize"))
    assert student > 0.8 * teacher
    share, factorize = (stages[name]["details"] for name in ("share", "factorize"))
    assert set(share["tried"][0]) == {"0", "1", "2", "3", "mean"}
    assert share["tried"][0][str(share["start"][0])] == min(share["tried"][0].values())
    assert "steps" not in share, "nothing was trained"
    assert not stages["share"]["measurements"], "and nobody ships what the next stage is to train"
    assert 0 < factorize["embedding_error"] < 1
    assert factorize["layer_map"] == [0, 1, 2, 3], "each use of the shared layer learns from a layer of the teacher"
    assert factorize["weights"] == {"soft": 0.9, "hard": 0.1, "margin": 0.0, "cosine": 1.0, "attention": 0.0}
    cosine = factorize["terms"]["cosine"]
    assert cosine[-1][1] < cosine[0][1]


def test_what_the_next_stage_trains_is_measured_only_if_asked_for():
    share, gates = {"stage": "share", "num_hidden_groups": 1}, {"accuracy": Gate(min=0.5)}
    untrained, gated, trained = (
        ShareSpec(**share, epochs=0),
        ShareSpec(**share, epochs=0, gates=gates),
        ShareSpec(**share),
    )
    split = FactorizeSpec(stage="factorize", embedding_size=8)
    for trains in (split, FinetuneSpec(stage="finetune")):
        assert plan._defers_training([untrained, trains])
    for stages in ([gated, split], [trained, split], [untrained], [untrained, QuantizeSpec(stage="quantize")]):
        assert not plan._defers_training(stages)


def test_stopping_at_it_measures_it(finished):
    folder, _ = finished
    recipe = next(folder.glob("*.yaml")).name
    result = compress("run", recipe, "--until", "share", "--set", "name=half", cwd=folder)
    assert result.returncode == 0, result.stdout + result.stderr
    report = json.loads((folder / "artifacts/half/report.json").read_text())
    share = next(stage for stage in report["stages"] if stage["name"] == "share")
    assert 0 <= share["measurements"]["accuracy"]["value"] <= 1
    assert share["measurements"]["latency_p50_ms"]["value"] > 0


def test_shared_stays_shared_in_every_file_that_ships(finished):
    folder, stages = finished
    model = folder / "artifacts/tiny/model"
    parameters = stages["export"]["measurements"]["num_parameters"]["value"]
    layer = 4 * 33 * 32 + 64 + 33 * 64 + 65 * 32 + 64
    assert parameters < stages["baseline"]["measurements"]["num_parameters"]["value"] - 3 * layer
    for name, size in (("model.safetensors", 4), ("onnx/model.onnx", 4), ("torchscript/model.pt", 4)):
        assert (model / name).stat().st_size < size * parameters + 150_000, name
    result = compress("inspect", model, "--json", cwd=folder)
    found = {Path(entry["path"]).name: entry for entry in json.loads(result.stdout)}
    stored = found["model.safetensors"]
    assert stored["parameters_called"] - stored["parameters_stored"] == 3 * layer
    for name in ("model.onnx", "model_quantized.onnx", "model.pt"):
        matrices = [weight for weight in found[name]["weights"] if len(weight["shape"]) == 2]
        assert [weight["uses"] for weight in matrices if weight["part"] == "feed-forward"] == [4, 4], name
    assert found["model_quantized.onnx"]["quantized_coverage"] == 1


def test_it_is_a_plain_albert_with_its_tokenizer(finished):
    folder, _ = finished
    path = folder / "artifacts/tiny/model"
    model, info = transformers.AutoModelForSequenceClassification.from_pretrained(path, output_loading_info=True)
    assert type(model) is transformers.AlbertForSequenceClassification
    assert not any(info.values()), info
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    inputs = tokenizer(["a good film", "the dull story was awful"], padding=True, return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs).logits.numpy()
    session = onnxruntime.InferenceSession(path / "onnx/model.onnx", providers=["CPUExecutionProvider"])
    given = session.run(["logits"], {name: tensor.numpy() for name, tensor in inputs.items()})[0]
    assert abs(given - logits).max() < 1e-4
    assert [model.config.id2label[int(index)] for index in logits.argmax(axis=-1)] == ["positive", "negative"]


def test_sharing_one_half_after_distilling_makes_a_compact_bert(write_recipe: WriteRecipe, tmp_path: Path):
    stages = passing(
        write_recipe,
        tmp_path,
        [
            TEACHER,
            {"stage": "distill", "architecture": "bert", "num_hidden_layers": 2, "epochs": 1, **TRAIN},
            {"stage": "share", "share": "attention", "layers": [1], "num_hidden_layers": 3, **TRAIN, "epochs": 2},
            {"stage": "distill", "num_hidden_layers": 2, "layers": [0, 2], "epochs": 1, **TRAIN},
            *END,
        ],
    )
    assert stages["share"]["details"]["start"] == [1]
    assert stages["share"]["details"]["layer_map"] == [0, 1, 3]
    parity = stages["export"]["measurements"]
    assert parity["parity_max_abs_diff"]["value"] < 1e-3
    assert parity["quantized_coverage"]["value"] == 1
    path = tmp_path / "artifacts/tiny/model"
    card = (path / "README.md").read_text()
    assert "register()" in card, "the class is ours"
    model = transformers.AutoModelForSequenceClassification.from_pretrained(path)
    assert type(model).__name__ == "CompactBertForSequenceClassification"
    assert (model.config.attention_of_layer, model.config.feed_forward_of_layer) == ([0, 0], [0, 1])
    assert transformers.AutoTokenizer.from_pretrained(path)("good")["input_ids"]


def test_a_shared_checkpoint_can_be_a_recipes_model(finished, write_recipe: WriteRecipe, tmp_path: Path):
    source = finished[0] / "artifacts/tiny/model"
    stages = [{"stage": "factorize", "embedding_size": 4, **TRAIN, "epochs": 1}, END[1]]
    path = write_recipe(model=str(source), stages=stages)
    result = compress("run", path.name, cwd=tmp_path)
    assert result.returncode == 0, result.stdout + result.stderr
    config = json.loads((tmp_path / "artifacts/tiny/model/config.json").read_text())
    assert (config["model_type"], config["embedding_size"], config["num_hidden_groups"]) == ("albert", 4, 1)


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        ({"stage": "share", "num_hidden_groups": 5}, "num_hidden_groups: is 5, but there are 4 layers to share"),
        ({"stage": "share", "layers": [0, 1]}, "there are 1 groups, and 4 layers come in"),
        ({"stage": "share", "layers": [4]}, "give a layer from 0 to 3 for each group"),
        ({"stage": "share", "share": "everything"}, "share: is 'everything'"),
        ({"stage": "factorize", "embedding_size": 64}, "is 64, but the incoming embeddings are 32 wide; at most 32"),
        ({"stage": "share", "alpha_attention": -1}, "alpha_attention"),
    ],
)
def test_mistakes(write_recipe: WriteRecipe, tmp_path: Path, stage: dict, message: str):
    result = compress("validate", write_recipe(stages=[TEACHER, stage]).name, cwd=tmp_path)
    assert result.returncode == 2, result.stdout
    assert message in result.stdout + result.stderr


def test_a_shared_student_cannot_become_a_distilbert(write_recipe: WriteRecipe, tmp_path: Path):
    stages = [TEACHER, {"stage": "share", **CUT}, {"stage": "distill", "architecture": "distilbert"}]
    result = compress("validate", write_recipe(stages=stages).name, cwd=tmp_path)
    assert result.returncode == 2
    assert "cannot become distilbert; leave it out" in result.stdout + result.stderr
