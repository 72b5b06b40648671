"""What exported files say of themselves, and that they are the same every time."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import onnx
import onnxruntime
import pytest
from conftest import WriteRecipe, save_classifier
from exports import KEY, quantize, run_export

from compressor import __version__
from compressor.files import file_digest
from compressor.pipeline import plan
from compressor.recipe import resolve
from compressor.runtimes.onnx import metadata
from compressor.runtimes.onnxruntime import strip
from compressor.runtimes.ort.runtime import graph_of

FILES = ("onnx/model.onnx", "onnx/model_quantized.onnx")
EVERY_FILE = (*FILES, "onnx/model_with_tokenizer.onnx", "ort/model.ort", "ort/required_operators.config")


@pytest.fixture(scope="module", params=["bert", "distilbert"])
def checkpoint(request, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = save_classifier(tmp_path_factory.mktemp(request.param) / "model", request.param, num_hidden_layers=2)
    return quantize(folder, folder.parent)


@pytest.fixture(scope="module")
def exported(checkpoint: Path) -> Path:
    output = checkpoint.parent / "work-folder-of-the-build" / "exported"
    run_export(checkpoint, output, targets=["onnx", "ort"], tokenizer="baked")
    return output


@pytest.mark.parametrize("name", [*FILES, "ort/model.ort"])
def test_metadata_is_read_by_the_runtime(exported: Path, name: str):
    meta = onnxruntime.InferenceSession(str(exported / name)).get_modelmeta()
    assert meta.producer_name == "bert-compressor"
    assert meta.custom_metadata_map == {
        "task": "text-classification",
        "labels": '["negative", "positive"]',
        "recipe": "tiny",
        "recipe_digest": KEY,
        "compressor_version": __version__,
    }


def test_labels_are_in_the_order_of_the_outputs_in_any_language(exported: Path, tmp_path: Path):
    path = shutil.copyfile(exported / FILES[0], tmp_path / "model.onnx")
    labels = ["zwei", 'a "quoted" one', "三"]
    metadata.describe(path, "text-classification", labels, "other", "1")
    found = {entry.key: entry.value for entry in onnx.load(str(path)).metadata_props}
    assert json.loads(found["labels"]) == labels and found["recipe"] == "other"
    assert len(onnx.load(str(path)).metadata_props) == 5, "what was said before is gone"


@pytest.mark.parametrize("name", FILES)
def test_dimensions_have_names_and_nothing_is_stale(exported: Path, name: str):
    model = onnx.load(str(exported / name))
    onnx.checker.check_model(model)
    for entry in model.graph.input:
        assert [size.dim_param for size in entry.type.tensor_type.shape.dim] == ["batch_size", "sequence_length"]
    (logits,) = model.graph.output
    assert [size.dim_param or size.dim_value for size in logits.type.tensor_type.shape.dim] == ["batch_size", 2]
    assert not model.graph.value_info and not model.doc_string and not model.graph.doc_string
    assert not any(node.doc_string or node.metadata_props for node in model.graph.node)


@pytest.mark.parametrize("name", EVERY_FILE)
def test_no_file_says_where_it_was_built(exported: Path, name: str):
    content = (exported / name).read_bytes()
    for word in (b"work-folder-of-the-build", str(Path(__file__).parents[2]).encode(), b"Traceback", b"/tmp"):
        assert word not in content
    assert not re.search(rb"\.py\b", content), "org.pytorch.aten, which ONNX Runtime knows, is no file"


def test_strip_takes_away_what_exporters_leave(exported: Path):
    model = onnx.load(str(exported / FILES[0]))
    model.doc_string = model.graph.doc_string = model.graph.node[0].doc_string = "build/model.py"
    model.graph.input[0].doc_string = model.graph.initializer[0].doc_string = "build/model.py"
    model.graph.node[0].metadata_props.add(key="pkg.torch.onnx.stack_trace", value="model.py, line 3")
    strip(model)
    assert b".py" not in model.SerializeToString()


def test_two_processes_write_the_same_bytes(checkpoint: Path, exported: Path, tmp_path: Path):
    """Sets and dicts of strings are ordered otherwise in each process; files must not show it."""
    script = (
        "import sys; from pathlib import Path; from exports import quantize, run_export; "
        "source, output = map(Path, sys.argv[1:]); quantize(source, source.parent); "
        "run_export(source, output, targets=['onnx', 'ort'], tokenizer='baked')"
    )
    source = tmp_path / "elsewhere" / "model"
    shutil.copytree(checkpoint, source, ignore=shutil.ignore_patterns("onnx"))
    path = os.pathsep.join([str(Path(__file__).parents[2]), str(Path(__file__).parents[1])])
    environment = {**os.environ, "PYTHONHASHSEED": "1", "PYTHONPATH": path}
    subprocess.run([sys.executable, "-c", script, source, tmp_path / "again"], env=environment, check=True)
    for name in EVERY_FILE:
        again, first = tmp_path / "again" / name, exported / name
        if name.endswith(".ort"):  # ONNX Runtime leaves the order of one of its tables to chance: the graph is the same
            assert graph_of(again) == graph_of(first), name
        else:
            assert file_digest(again) == file_digest(first), name


def test_a_gate_does_not_rebuild_an_export_and_a_new_name_rebuilds_nothing_else(write_recipe: WriteRecipe):
    """Files tell the recipe's name, so that decides them too; of all stages, those of the export alone."""

    def keys(**keys: Any) -> list[str]:
        stages = [{"stage": "finetune", "epochs": 1}, {"stage": "export", "gates": keys.pop("gates", {})}]
        resolved = resolve.resolve(write_recipe(stages=stages, **keys))
        return [stage.key for stage in plan.make(resolved, download=False).stages]

    first = keys()
    assert keys(gates={"size_bytes": {"max": 1e6}}) == first
    renamed = keys(name="other")
    assert renamed[0] == first[0] and renamed[1] != first[1]
