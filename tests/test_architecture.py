"""The architecture: imports point down only, nothing heavy is imported early, and every file stays readable."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import compressor
from compressor.pipeline import code_digest
from compressor.quantization import SCHEMES
from compressor.runtimes import RUNTIMES
from compressor.stages import STAGES
from compressor.tasks import TASKS

PACKAGE = Path(compressor.__file__).parent

# From the top to the bottom; a module may import modules of lower layers, and of its own folder.
LAYERS = [
    ["__main__"],
    ["commands"],
    ["serve"],
    ["pipeline"],
    ["package"],
    ["report"],
    ["drafting"],
    ["recipe"],
    ["stages"],
    ["quantization"],
    ["training", "measure"],
    ["runtimes"],
    ["tasks"],
    ["data"],
    ["models"],
    ["gates"],
    ["spec", "files", "host", "progress"],
    ["device", "errors"],
]


def modules() -> list[str]:
    names = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return names


def part(module: str) -> str:
    return module.split(".")[1]


def test_imports_point_down():
    level = {name: index for index, layer in enumerate(LAYERS) for name in layer}
    for module in modules():
        for imported in code_digest._direct_imports(module) if module != "compressor" else ():
            if part(imported) != part(module):
                assert level[part(imported)] > level[part(module)], f"{module} imports {imported}"


ROOT_MODULES = {"__init__", "__main__", "errors", "spec", "files", "progress"}
FOLDERS = {name for layer in LAYERS for name in layer} - ROOT_MODULES


def test_the_root_shows_the_architecture():
    assert {path.stem for path in PACKAGE.glob("*.py")} == ROOT_MODULES
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} == FOLDERS


def test_each_folder_says_its_job_and_how_to_add_to_it():
    for path in PACKAGE.glob("*/**/__init__.py"):
        says = ast.get_docstring(ast.parse(path.read_text())) or ""
        assert re.search(r"\bTo add\b|\bA new\b", says), path


NAMES_OTHERS = {
    "device/worker.py": "runs the files of several, where this package is not",
    "drafting": "the stages, files and weights of a draft",
    "gates/metrics.py": "Core ML is an execution provider of ONNX Runtime, too",
    "host/machine.py": "versions of libraries",
    "measure": "the default runtime, and the one that others are compared with",
    "models": "the tasks of a checkpoint's class",
    "package/verify_parity.py": "a folder called export",
    "pipeline/code_digest.py": "libraries by their names",
    "quantization/neural_compressor": "the schemes that this backend has",
    "quantization/sensitivity.py": "runs candidates with ONNX Runtime",
    "quantization/spec.py": "default values",
    "recipe": "checks of two parts together",
    "report/comparison.py": "versions of libraries",
    "runtimes/onnx/partitions.py": "Core ML is an execution provider of ONNX Runtime, too",
    "runtimes/coreml/operators.py": "fp16 is a type of ML programs, too",
    "training": "fp16 is a precision of training, too",
}
"""Files and folders that may name an entry of a table without being its file, and why."""


def test_the_name_of_an_entry_is_in_its_own_file():
    tables = {**STAGES, **TASKS, **SCHEMES, **RUNTIMES}
    files: dict[str, list[str]] = {name: [] for name in tables}
    for path in PACKAGE.rglob("*.py"):
        relative = path.relative_to(PACKAGE).as_posix()
        if not relative.startswith(tuple(NAMES_OTHERS)):
            constants = [node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)]
            for name in tables.keys() & {value for value in constants if isinstance(value, str)}:
                files[name].append(relative)
    assert {name: found for name, found in files.items() if len(found) != 1} == {}


def test_stages_know_nothing_of_measurements_or_the_store():
    for module in modules():
        if module.startswith("compressor.stages."):
            for other in code_digest._direct_imports(module):
                assert part(other) not in ("measure", "pipeline"), (module, other)
                assert other in ("compressor.stages.base",) or not other.startswith("compressor.stages."), (
                    module,
                    other,
                )


HEAVY = ("torch", "transformers", "datasets", "onnx", "onnxruntime", "scipy", "pandas")


def imported_by(code: str) -> set[str]:
    show = "; import sys; print(*sys.modules, file=sys.stderr)"
    result = subprocess.run([sys.executable, "-c", code + show], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in result.stderr.split()}


def test_help_validate_and_init_import_nothing_heavy(tmp_path: Path, write_recipe, encoder: Path):
    command = "from click.testing import CliRunner; from compressor.commands.main import main; "
    command += "r = CliRunner().invoke(main, {}); assert r.exit_code == 0, r.output"
    assert not imported_by(command.format(["run", "--help"])) & {*HEAVY, "pydantic", "numpy"}
    assert not imported_by(command.format(["init", "--help"])) & {*HEAVY, "pydantic", "numpy"}
    assert not imported_by(command.format(["validate", str(write_recipe())])) & set(HEAVY)
    assert not imported_by(command.format(["init", str(encoder), "--data", str(tmp_path / "train.tsv")])) & set(HEAVY)


LIGHT = (
    "commands.main",
    "recipe.resolve",
    "drafting.draft",
    "pipeline.plan",
    "gates.rows",
    "package.manifest",
    "device.worker",
    "report.html",
)


def test_what_must_start_fast_imports_no_torch():
    names = ", ".join(f"compressor.{name}" for name in LIGHT)
    assert not imported_by(f"import {names}") & {"torch", "transformers", "datasets", "onnx", "onnxruntime"}
    measured = imported_by("import compressor.device.worker")
    assert not measured & {"pydantic", "rich", "click", "yaml"}, "a part of every peak memory that is measured"


SENT = PACKAGE / "device" / "worker.py"
"""The file that is sent to devices: it has to be one."""


def test_files_are_short_and_nothing_is_called_utils():
    for path in PACKAGE.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 300 or path == SENT, path
        assert path.stem not in ("utils", "helpers", "common", "misc")


def test_a_public_class_name_occurs_once():
    found: dict[str, Path] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.parse(path.read_text()).body:
            # Every runtime's module has a `Session`, as `compressor.runtimes.base` asks of it.
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_") and node.name != "Session":
                assert node.name not in found, f"{node.name} is in {found[node.name]} and in {path}"
                found[node.name] = path


@pytest.mark.parametrize(
    ("libraries", "allowed"),
    [
        ({"huggingface_hub", "requests", "urllib", "httpx"}, "data/hub.py"),
        (
            {"pickle", "marshal", "shelve", "dill", "joblib"},
            "models/weights.py",
        ),  # an unpickler that knows only tensors
    ],
)
def test_only_one_module_can_reach_the_network_and_one_reads_pickles(libraries: set[str], allowed: str):
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
                found = libraries.intersection(name.split(".")[0] for name in names)
                assert not found or path == PACKAGE / allowed, path


def test_code_digest_ignores_words_and_sees_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    root = tmp_path / "compressor"
    (root / "stages").mkdir(parents=True)
    monkeypatch.setattr(code_digest, "_ROOT", root)

    def digest(stage: str, helper: str) -> str:
        (root / "stages" / "a.py").write_text(stage)
        (root / "helper.py").write_text(helper)
        for cached in ("code_digest", "_tree", "_direct_imports", "_source_digest"):
            getattr(code_digest, cached).cache_clear()
        return code_digest.code_digest("compressor.stages.a")

    stage = "def run():\n    from compressor import helper\n    return helper.x()\n"
    first = digest(stage, "def x():\n    return 1\n")
    assert digest(stage, '"""Doc."""\n\ndef x():\n    """Says."""\n    return 1  # why\n') == first
    assert digest(stage, "def x():\n    return 2\n") != first, "a function two imports away counts"
    assert digest("def run():\n    return 1\n", "def x():\n    return 2\n") != first
    monkeypatch.undo()
    for cached in ("code_digest", "_tree", "_direct_imports", "_source_digest"):
        getattr(code_digest, cached).cache_clear()


def test_every_runtime_is_part_of_the_export_stages_code():
    found = code_digest.imported_modules("compressor.stages.export")
    names = ("onnxruntime", "onnx.rewrite", "torchscript_int8.module", "torchscript", "executorch")
    assert {f"compressor.runtimes.{name}" for name in names} <= found


def test_no_private_name_is_imported_across_folders():
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("compressor."):
                private = [alias.name for alias in node.names if alias.name.startswith("_")]
                assert not private or node.module.split(".")[1] == path.relative_to(PACKAGE).parts[0], (path, private)
