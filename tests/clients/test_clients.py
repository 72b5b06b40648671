"""Other people's software reads what we ship and gives the labels that we give: no mocks, no network."""

from __future__ import annotations

import importlib.metadata
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from conftest import exact_settings, make_tokenizer, save_classifier, sentences

from compressor.models import checkpoint, loading
from compressor.models.checkpoint import Checkpoint
from compressor.models.families.compact_bert import NAME as COMPACT_BERT
from compressor.models.quantized import ONNX_FILES
from compressor.models.surgery.share_layers import Sharing, share
from compressor.quantization import dynamic_int8, fp16, weight_only
from compressor.runtimes import RUNTIMES

HERE = Path(__file__).parent
FLOAT = "onnx/model.onnx"
TOLERANCES = {FLOAT: 1e-4, **dict(zip(map(str, ONNX_FILES.values()), (2e-2, 5e-2, 1e-3), strict=True))}
"""Largest difference of a logit, relative to the largest logit: each client rounds activations in its own kernels."""
FILES = list(TOLERANCES)
DTYPES = dict(zip(FILES, ("fp32", "q8", "q4", "fp16"), strict=True))
"""What transformers.js calls the files."""
FAMILIES = ["bert", "distilbert", "albert", "compact_bert"]
SMALL_TABLES = ("distilbert", "compact_bert")
"""Families whose int8 file has a table of 4 bits."""
TEXTS = [text for text, _ in sentences(12, seed=5)]


def centre(model: Any) -> None:
    """Sets the head's bias into the widest gap between answers near the middle, so that both labels are given."""
    batch = make_tokenizer()(TEXTS, padding=True, return_tensors="pt")
    names = checkpoint.input_names(model.config.model_type)
    with torch.no_grad():
        logits = model.eval()(**{name: batch[name] for name in names}).logits
        margins = (logits[:, 1] - logits[:, 0]).sort().values[2:-2]
        widest = int(margins.diff().argmax())
        model.classifier.bias[1] -= (margins[widest] + margins[widest + 1]) / 2


def make(folder: Path, family: str) -> Path:
    """A classifier of a family with random weights, as `export` and `quantize` leave it."""
    source = save_classifier(folder / "source", "distilbert" if family == "distilbert" else "bert")
    model = loading.load_model(source)
    if family in ("albert", "compact_bert"):
        model = share(model, Sharing("all" if family == "albert" else "attention", 2, 4), [0, 2])
    assert model.config.model_type == family
    centre(model)
    target = folder / "model"
    loading.save(target, model, make_tokenizer())
    RUNTIMES["onnxruntime"].export(target, target / FLOAT)
    tables: Any = "int4" if family in SMALL_TABLES else True
    dynamic_int8.write(target / FLOAT, target / ONNX_FILES["int8"], exact_settings(embeddings=tables))
    return with_precisions(target)


def with_precisions(folder: Path) -> Path:
    """Adds int4 and half precision to a folder that has float and int8."""
    for scheme in (weight_only.INT4, fp16.SCHEME):
        scheme.write(folder / FLOAT, folder / ONNX_FILES[scheme.precision], exact_settings(bits=scheme.bits), None)
    return folder


@pytest.fixture(scope="module", params=FAMILIES)
def shipped(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that ships: of a BERT the one that a run has published, of the others one that is made alike."""
    if request.param == "bert":
        folder = tmp_path_factory.mktemp("bert") / "model"
        return with_precisions(shutil.copytree(request.getfixturevalue("published") / "model", folder))
    return make(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def ours(shipped: Path) -> dict[str, np.ndarray]:
    """Our own logits of the texts, each asked alone, by file."""
    tokenizer = loading.load_tokenizer(shipped)
    answers = {}
    for file in FILES:
        session = RUNTIMES["onnxruntime"].session(shipped / file, 1)
        asked = (tokenizer(text, return_tensors="np", return_token_type_ids=True) for text in TEXTS)
        answers[file] = np.concatenate([session.predict(dict(inputs))["logits"] for inputs in asked])
        if file != str(ONNX_FILES["int4"]):  # of that one only clear labels count, and logits
            assert set(answers[file].argmax(-1)) == {0, 1}, "or the labels would prove nothing"
    return answers


def ask(folder: Path, *command: str | Path, files: Sequence[str] = FILES) -> Any:
    """What a client says of the texts, in a process of its own."""
    job = json.dumps({"folder": str(folder), "files": files, "texts": TEXTS, "dtypes": DTYPES})
    result = subprocess.run(
        [str(part) for part in command], input=job, capture_output=True, text=True, timeout=300, check=False, cwd=HERE
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def same_answers(given: dict[str, list[list[float]]], ours: dict[str, np.ndarray]) -> None:
    """The same labels; of the float file the same logits, of quantized ones nearly so."""
    for file, answers in given.items():
        logits = np.array(answers)
        clear, tolerance = clear_labels(ours[file], file)
        assert (logits.argmax(-1) == ours[file].argmax(-1))[clear].all(), file
        assert np.abs(logits - ours[file]).max() < tolerance, file


def clear_labels(logits: np.ndarray, file: str) -> tuple[np.ndarray, float]:
    """The rows whose label has to be the same, and the difference that a logit may have; in int4, labels can change."""
    tolerance = TOLERANCES[file] * max(1.0, np.abs(logits).max())
    all_of_them = file != str(ONNX_FILES["int4"])
    clear = all_of_them | (np.abs(logits[:, 0] - logits[:, 1]) > 2 * tolerance)
    return clear, tolerance


def test_bare_onnxruntime(shipped: Path, ours: dict[str, np.ndarray]):
    answer = ask(shipped, sys.executable, "-I", HERE / "bare_onnxruntime.py")
    assert {"onnxruntime", "tokenizers", "numpy"} <= set(answer["imported"])
    assert not {"torch", "transformers", "onnx", "compressor"} & set(answer["imported"]), "it needs nothing of these"
    same_answers(answer["answers"], ours)


def test_openvino(shipped: Path, ours: dict[str, np.ndarray]):
    try:
        importlib.metadata.version("openvino")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("openvino is not installed: pip install 'bert-compressor[clients]'")
    files = [file for file in FILES if "GatherBlockQuantized" not in (shipped / file).read_bytes().decode("latin-1")]
    assert {FLOAT, str(ONNX_FILES["fp16"])} <= set(files), "it does not know the operators of int4"
    same_answers(ask(shipped, sys.executable, "-I", HERE / "openvino_runtime.py", files=files)["answers"], ours)


@pytest.fixture(scope="module")
def node() -> str:
    found = shutil.which("node")
    if found is None:
        pytest.skip("node is not installed")
    if not (HERE / "node_modules").is_dir():
        pytest.skip(f"no {HERE / 'node_modules'}: npm ci --ignore-scripts --prefix {HERE}")
    return found


def test_onnxruntime_webs_wasm(shipped: Path, ours: dict[str, np.ndarray], node: str):
    same_answers(ask(shipped, node, HERE / "onnxruntime_web.mjs"), ours)


# Pipelines refuse types of models that they do not know; AutoModel does not, see below.
@pytest.mark.parametrize("shipped", [family for family in FAMILIES if family != COMPACT_BERT], indirect=True)
def test_transformers_js(shipped: Path, ours: dict[str, np.ndarray], node: str):
    given = ask(shipped, node, HERE / "transformers_js.mjs")
    names = Checkpoint(shipped).labels
    for file in FILES:
        clear, _ = clear_labels(ours[file], file)
        labels = np.array([names[index] for index in ours[file].argmax(-1)])
        assert (np.array([answer["label"] for answer in given[file]]) == labels)[clear].all()
        likely = np.exp(ours[file]) / np.exp(ours[file]).sum(-1, keepdims=True)
        assert np.abs(likely.max(-1) - [answer["score"] for answer in given[file]]).max() < 1e-2


def test_transformers_js_automodel(shipped: Path, ours: dict[str, np.ndarray], node: str):
    same_answers(ask(shipped, node, HERE / "transformers_js_automodel.mjs"), ours)
