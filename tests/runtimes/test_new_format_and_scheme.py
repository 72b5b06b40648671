"""A new export format and a new quantization scheme: one file and one line each, and a run uses both."""

from __future__ import annotations

import json
from pathlib import Path

from conftest import SATURATES, WriteRecipe
from extending import ExtendedPackage

FORMAT = '''"""A toy format: the quantized ONNX graph where there is one, under another suffix."""

from __future__ import annotations

import shutil
from pathlib import Path

from compressor.models.checkpoint import Checkpoint
from compressor.runtimes import onnxruntime
from compressor.runtimes.base import Runtime
from compressor.runtimes.onnxruntime import Session as Session
from compressor.runtimes.onnxruntime import inspect as inspect

RUNTIME = Runtime(
    name="toy_runtime",
    module=__name__,
    file=Path("toy") / "model.toy",
    usage="the toy runtime; {inputs}",
    target="toy_format",
    follows_quantized=True,
    quantizes=True,
    inspectable=True,
)


def export(source: Path, path: Path) -> None:
    """Copies the quantized graph, or writes the float one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if (graph := Checkpoint(source).quantized) is not None:
        shutil.copyfile(graph, path)
    else:
        onnxruntime.export(source, path)
'''

SCHEME = '''"""A toy scheme: dynamic int8 under another name."""

from __future__ import annotations

from compressor.quantization import dynamic_int8
from compressor.quantization.base import Scheme

SCHEME = Scheme(name="toy_scheme", help="dynamic int8 under another name.", write=dynamic_int8.write, integer=True)
'''


def test_a_format_and_a_scheme_take_a_file_and_a_line_each(tmp_path: Path, write_recipe: WriteRecipe, classifier: Path):
    package = ExtendedPackage(tmp_path / "package")
    package.write("runtimes/toy.py", FORMAT)
    package.insert("runtimes/__init__.py", "runtimes.base import", "from compressor.runtimes import toy")
    package.insert("runtimes/__init__.py", "    executorch,", "toy,")
    package.write("quantization/toy.py", SCHEME)
    package.insert("quantization/__init__.py", "quantization.base import", "from compressor.quantization import toy")
    package.insert("quantization/__init__.py", "    fp16.SCHEME,", "toy.SCHEME,")
    stages = [
        {"stage": "quantize", "scheme": "toy_scheme", "reduce_range": SATURATES},
        {"stage": "export", "targets": ["toy_format"], "gates": {"parity_quantized_label_agreement": {"min": 1}}},
    ]
    recipe = write_recipe(model=str(classifier), stages=stages)
    folder = package.folder / "artifacts" / "tiny"
    done = package.compress("run", recipe)
    assert done.returncode == 0, done.stdout + done.stderr

    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    parity = next(stage["details"]["parity"] for stage in report["stages"] if "parity" in stage["details"])
    compared = parity["formats"]["toy_format"]
    assert (compared["kind"], compared["rows"], compared["label_agreement"]) == ("quantized", 200, 1.0)
    model = folder / "model"
    assert "`toy/model.toy`" in (model / "README.md").read_text(encoding="utf-8")

    inspected = package.compress("inspect", model / "toy/model.toy", "--json")
    assert json.loads(inspected.stdout)[0]["quantized_coverage"] == 1.0, inspected.stderr
    timed = package.compress("bench", model / "toy/model.toy", "--sequence-length", "8", "--runs", "60", "--json")
    assert json.loads(timed.stdout)[0]["runtime"] == "toy_runtime", timed.stderr

    schema = json.loads(package.compress("schema").stdout)
    assert "`toy_scheme`: dynamic int8 under another name." in json.dumps(schema) and "toy_format" in json.dumps(schema)

    stages[0]["block_size"] = 32
    refused = package.compress("validate", write_recipe(model=str(classifier), stages=stages))
    assert refused.returncode == 2 and "block_size" in refused.stderr + refused.stdout
