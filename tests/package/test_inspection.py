"""`compress inspect` on real files: what is stored, what is called, and as what."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import broken
import pytest
from click.testing import CliRunner, Result
from conftest import exact_settings

from compressor.commands import main
from compressor.models import checkpoint, loading, quantized
from compressor.models.surgery.factorize_embeddings import factorize
from compressor.models.surgery.share_layers import Sharing, share
from compressor.quantization import dynamic_int8
from compressor.runtimes import RUNTIMES

LAYER = 4 * 33 * 32 + 64 + 33 * 64 + 65 * 32 + 64
"""Parameters of a layer of the tiny models: hidden 32, feed-forward 64."""


@pytest.fixture(scope="module")
def albert(classifier: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    folder = tmp_path_factory.mktemp("inspect") / "model"
    model = loading.load_model(classifier)
    shared = share(model, Sharing("all", 1, 4), [1])
    small, _ = factorize(shared, 8, torch.ones(model.config.vocab_size))
    loading.save(folder, small, loading.load_tokenizer(classifier))
    for name in ("onnxruntime", "torchscript"):
        RUNTIMES[name].export(folder, folder / RUNTIMES[name].file)
    dynamic_int8.write(folder / "onnx/model.onnx", folder / quantized.ONNX_FILES["int8"], exact_settings())
    return folder


def inspect(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main.main, ["inspect", *map(str, arguments)])


def test_every_format_stores_a_shared_layer_once_and_calls_it_four_times(albert: Path):
    result = inspect(albert, "--json")
    assert result.exit_code == 0, result.output
    found = {Path(entry["path"]).name: entry for entry in json.loads(result.stdout)}
    assert set(found) == {"model.safetensors", "model.onnx", "model_quantized.onnx", "model.pt"}
    stored = checkpoint.Checkpoint(albert).num_parameters
    for name in ("model.safetensors", "model.pt"):
        assert found[name]["parameters_stored"] == stored
        assert found[name]["parameters_called"] == stored + 3 * LAYER
        assert set(found[name]["types"]) == {"float32"}
    for name, kinds in (("model.onnx", {"float32"}), ("model_quantized.onnx", {"int8", "uint8"})):
        matrices = [weight for weight in found[name]["weights"] if len(weight["shape"]) == 2 and 32 in weight["shape"]]
        assert {weight["type"] for weight in matrices} <= kinds
        inside = [weight for weight in matrices if weight["part"] in ("attention", "feed-forward")]
        assert [weight["uses"] for weight in inside] == [4] * 6
    assert found["model_quantized.onnx"]["quantized_coverage"] == 1.0
    assert found["model_quantized.onnx"]["operators"]["MatMulInteger"] > 0
    assert found["model.onnx"]["quantized_coverage"] == 0.0


def test_tables_name_parts_and_operators(albert: Path):
    result = inspect(albert / "onnx/model.onnx")
    assert result.exit_code == 0
    for word in ("token embeddings", "attention", "feed-forward", "as called", "operators: ", "MatMul"):
        assert word in result.stdout


def test_weights_of_an_old_checkpoint_are_counted_as_they_are_stored(classifier: Path, tmp_path: Path):
    import torch

    given = broken.copy(classifier, tmp_path / "given" / "0_Transformer")
    tensors = {name: tensor.half() for name, tensor in broken.state(given).items()}
    tensors["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"]
    torch.save(tensors, given / "pytorch_model.bin")
    torch.save({"epoch": 1}, given / "training_args.bin")
    (given / broken.WEIGHTS).unlink()
    (tmp_path / "given" / "modules.json").write_text(json.dumps([{"path": "0_Transformer", "type": "Transformer"}]))
    result = inspect(tmp_path / "given", "--json")
    assert result.exit_code == 0, result.output
    (found,) = json.loads(result.stdout)
    assert found["parameters_stored"] == checkpoint.Checkpoint(classifier).num_parameters
    assert set(found["types"]) == {"float16"}


def test_one_file_without_its_folder(albert: Path, tmp_path: Path):
    alone = shutil.copyfile(albert / "model.safetensors", tmp_path / "alone.safetensors")
    (found,) = json.loads(inspect(alone, "--json").stdout)
    assert found["parameters_called"] == found["parameters_stored"], "nothing says how often a layer is used"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda f: f / "none.onnx", "no such file or folder"),
        (lambda f: f / "config.json", "cannot be inspected"),
        (lambda f: f / "onnx", "has no config.json"),
    ],
)
def test_what_cannot_be_looked_into(albert: Path, make, message: str):
    result = inspect(make(albert))
    assert (result.exit_code, "Traceback" in result.output) == (2, False) and message in result.output


@pytest.mark.parametrize("suffix", [".onnx", ".safetensors", ".pt"])
def test_a_damaged_file(tmp_path: Path, suffix: str):
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(b"this is no model at all")
    result = inspect(path)
    assert (result.exit_code, "Traceback" in result.output) == (2, False) and "cannot be read" in result.output
