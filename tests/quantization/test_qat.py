"""Quantization-aware training: a plain checkpoint that answers as its file does, and the same after a kill."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import transformers
from click.testing import CliRunner
from conftest import WriteRecipe, exact_settings, make_tokenizer, passing
from rich.console import Console
from running import compress_process
from safetensors import safe_open
from training_rows import batches, schedule

from compressor.commands.main import main
from compressor.models import loading
from compressor.progress import Progress
from compressor.quantization import fake_quantization
from compressor.tasks import text_classification
from compressor.training import trainer
from compressor.training.objectives import Labels

TRAIN = {"batch_size": 16, "learning_rate": 1e-3, "max_sequence_length": 24}
TEACHER = {"stage": "finetune", "epochs": 4, **TRAIN, "learning_rate": 3e-3}
QAT = {"stage": "quantize", "scheme": "qat_int8"}
GATE = {"gates": {"accuracy": {"min_retention": 0.9}}}


def quantized(folder: Path) -> Path:
    return folder / "artifacts/tiny/model/onnx/model_quantized.onnx"


def test_what_is_trained_ships_as_integers_beside_a_plain_checkpoint(write_recipe: WriteRecipe, tmp_path: Path):
    ships = {"stage": "export", "targets": ["onnx", "torchscript"]}
    stages = passing(write_recipe, tmp_path, [TEACHER, {**QAT, **TRAIN, **GATE}, ships])
    details, measured = stages["quantize"]["details"], stages["quantize"]["measurements"]
    assert details["steps"] == 25 and details["weights"]["soft"] == 0.9
    assert details["calibration"] == {"method": "min_max", "percentile": 99.99, "samples": 256}
    assert measured["quantized_coverage"]["value"] == 1
    kinds = {node.op_type for node in onnx.load(str(quantized(tmp_path))).graph.node}
    assert {"QuantizeLinear", "DequantizeLinear", "MatMul"} <= kinds and "MatMulInteger" not in kinds

    path = tmp_path / "artifacts/tiny/model"
    model, info = transformers.AutoModelForSequenceClassification.from_pretrained(path, output_loading_info=True)
    assert not any(info.values()), info
    with safe_open(path / "model.safetensors", "pt") as file:
        assert set(file.keys()) == {name for name, _ in model.named_parameters()}
    assert "fake" not in (path / "config.json").read_text()
    inputs = make_tokenizer()(["a good film", "the dull story was awful"], padding=True, return_tensors="np")
    inputs = {name: np.asarray(array, dtype=np.int64) for name, array in inputs.items()}
    session = onnxruntime.InferenceSession(quantized(tmp_path), providers=["CPUExecutionProvider"])
    given = session.run(["logits"], {entry.name: inputs[entry.name] for entry in session.get_inputs()})[0]
    with torch.no_grad():
        logits = model.eval()(**{name: torch.from_numpy(array) for name, array in inputs.items()}).logits.numpy()
    assert (given.argmax(-1) == logits.argmax(-1)).all()
    assert 0 < np.abs(given - logits).max() < 0.3


def test_without_epochs_it_is_static(write_recipe: WriteRecipe, tmp_path: Path):
    files = []
    for stage in ({**QAT, "epochs": 0}, {"stage": "quantize", "scheme": "static_int8"}):
        stages = passing(write_recipe, tmp_path, [TEACHER, stage])
        assert "steps" not in stages["quantize"]["details"]
        files.append(quantized(tmp_path).read_bytes())
    assert files[0] == files[1]


def test_a_language_model_learns_too(write_recipe: WriteRecipe, tmp_path: Path):
    lines = [f"the film was {word} and the plot was {word} too" for word in ("good", "bad", "long", "fine")] * 60
    (tmp_path / "corpus.txt").write_text("\n".join(f"{line} {n % 7} {n % 5}" for n, line in enumerate(lines)))
    stages = passing(
        write_recipe,
        tmp_path,
        [{"stage": "finetune", "epochs": 1, **TRAIN}, {"stage": "share", "epochs": 0}, {**QAT, **TRAIN}],
        task="masked-lm",
        data={"corpus": "corpus.txt"},
    )
    assert set(stages["quantize"]["details"]["terms"]) == {"soft", "mlm", "cosine"}
    assert stages["quantize"]["measurements"]["quantized_coverage"]["value"] == 1
    config = json.loads((tmp_path / "artifacts/tiny/model/config.json").read_text())
    assert (config["model_type"], config["architectures"]) == ("albert", ["AlbertForMaskedLM"])


def test_several_processes_train_together_what_starts_with_equal_layers(
    write_recipe: WriteRecipe, classifier: Path, tmp_path: Path
):
    model = loading.load_model(classifier)
    model.bert.encoder.layer[1].load_state_dict(model.bert.encoder.layer[0].state_dict())
    loading.save(tmp_path / "model", model, make_tokenizer())
    path = write_recipe(model="model", stages=[{**QAT, **TRAIN, "max_steps": 4}])
    result = compress_process("run", path.name, "--allow-inconclusive", cwd=tmp_path, together=2)
    assert result.returncode == 0, result.stdout + result.stderr
    entry = json.loads((tmp_path / "artifacts/tiny/report.json").read_text())["stages"][-1]
    assert entry["details"]["steps"] == 4 and entry["measurements"]["quantized_coverage"]["value"] == 1


def train(
    model: Any, work: Path, objective: Any = None, **callbacks: Any
) -> tuple[dict[str, Any], fake_quantization.RemoveAfterTraining]:
    torch.manual_seed(0)
    plain = fake_quantization.RemoveAfterTraining()
    with Progress(Console(file=io.StringIO())) as progress, progress.step("test") as step:
        arguments = (model, batches(), objective or Labels(text_classification), schedule())
        return trainer.train(*arguments, seed=0, work=work, step=step, callbacks=[plain]), plain


def ready(classifier: Path, ranges: Any) -> Any:
    model = loading.load_model(classifier)
    fake_quantization.insert_fake_quantization(model, exact_settings(), ranges, {})
    return model


def test_training_that_was_stopped_ends_where_training_that_was_not_ends(
    classifier: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("COMPRESS_SAVE_EVERY_S", "0")
    linears = [name for name, module in loading.load_model(classifier).named_modules() if hasattr(module, "bias")]
    ranges, others = ({name: (-bound, bound) for name in linears} for bound in (5.0, 0.1))
    straight = ready(classifier, ranges)
    facts, end = train(straight, tmp_path / "straight")
    assert facts["steps"] == 16

    class Killed(Labels):
        calls = 0

        def terms(self, *arguments: Any) -> trainer.Terms:
            self.calls += 1
            if self.calls == 12:
                raise KeyboardInterrupt
            return super().terms(*arguments)

    with pytest.raises(KeyboardInterrupt):
        train(ready(classifier, ranges), tmp_path / "stopped", Killed(text_classification))
    resumed = ready(classifier, others)
    facts, again = train(resumed, tmp_path / "stopped")
    assert facts["resumed_from_step"] == 11
    assert again.ranges == end.ranges, "they are part of what a kill leaves"
    assert set(straight.state_dict()) == set(loading.load_model(classifier).state_dict())
    for (name, a), b in zip(straight.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.allclose(a, b, atol=1e-5), name


@pytest.mark.parametrize(
    ("stages", "message"),
    [
        (
            [{**QAT, "scheme": "static_int8", "learning_rate": 1e-3}],
            "learning_rate applies to qat_int8, not to static_int8",
        ),
        ([{**QAT, "objective": "pretraining"}], "objective is for stages before it"),
        ([{**QAT, "block_size": 64}], "block_size applies to weight_only_int8, weight_only_int4, not to qat_int8"),
        ([{**QAT, "backend": "neural_compressor"}], "backend neural_compressor does not support qat_int8"),
        ([{**QAT, "layer_map": [0, 1]}], "layer_map"),
        ([{**QAT, "alpha_soft": 0, "alpha_hard": 0, "alpha_cosine": 0}], "nothing to learn from"),
        ([{"stage": "prune", "epochs": 0, "sparsity": 0.5}, QAT], "quantize trains, and would fill the zeros"),
        ([QAT, {"stage": "distill"}], "distill comes after quantize"),
    ],
)
def test_mistakes(write_recipe: WriteRecipe, tmp_path: Path, stages: list[dict[str, Any]], message: str):
    result = CliRunner().invoke(main, ["validate", str(write_recipe(stages=[TEACHER, *stages]))])
    assert result.exit_code == 2 and message in " ".join(result.output.split()), result.output


def test_what_has_no_head_is_not_quantized(write_recipe: WriteRecipe, tmp_path: Path):
    (tmp_path / "corpus.txt").write_text("one text\nand another")
    path = write_recipe(stages=[QAT], task="masked-lm", data={"corpus": "corpus.txt"})
    result = CliRunner().invoke(main, ["validate", str(path)])
    assert "has no head for masked-lm" in result.output and result.exit_code == 2


def test_sparse_weights_may_be_rounded_where_nothing_trains(write_recipe: WriteRecipe):
    path = write_recipe(stages=[TEACHER, {"stage": "prune", "epochs": 0, "sparsity": 0.5}, {**QAT, "epochs": 0}])
    assert CliRunner().invoke(main, ["validate", str(path)]).exit_code == 0
