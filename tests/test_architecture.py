"""The house: imports point down only, nothing heavy is imported early, and every file stays readable."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import compressor
from compressor.pipeline import code_digest

PACKAGE = Path(compressor.__file__).parent

# From the top to the bottom; a module may import modules of lower layers and, within a layer, of its own folder.
LAYERS = [
    ["__main__"],
    ["cli"],
    ["study"],
    ["session", "estimate"],
    ["pipeline"],
    ["regression"],
    ["publish", "measured", "verify"],
    ["prepared"],
    ["lock", "plan_state"],
    ["plan", "schema"],
    ["validate"],
    ["validate_stages"],
    ["validate_pairs", "validate_shapes"],
    ["report", "verify_parity"],
    ["bench", "doctor", "inspection", "manifest"],
    ["stages"],
    ["quantization"],
    ["training", "measure"],
    ["surgery"],
    ["runtimes", "data", "context"],
    ["tasks", "checkpoint", "gates", "recipe_file"],
    ["recipe_errors"],
    ["evidence", "recipe", "store", "fingerprint", "progress", "outputs", "registration"],
    ["recipe_stages"],
    ["recipe_deployment"],
    ["recipe_training"],
    ["recipe_parts"],
    ["metrics", "errors", "models"],
]


def modules() -> list[str]:
    names = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        names.append(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    return names


def part(module: str) -> str:
    return module.split(".")[1]


@pytest.mark.parametrize("module", [name for name in modules() if name != "compressor"])
def test_imports_point_down(module: str):
    level = {name: index for index, layer in enumerate(LAYERS) for name in layer}
    for imported in code_digest._direct_imports(module):
        if part(imported) != part(module):
            assert level[part(imported)] > level[part(module)], f"{module} imports {imported}"


def test_stages_know_nothing_of_gates_measurements_or_the_store():
    for module in modules():
        if module.startswith("compressor.stages."):
            for other in code_digest._direct_imports(module):
                assert part(other) not in ("gates", "measure", "store", "evidence", "pipeline"), (module, other)
                assert not other.startswith("compressor.stages."), (module, other)


HEAVY = ("torch", "transformers", "datasets", "onnx", "onnxruntime", "scipy", "pandas")


def imported_by(code: str) -> set[str]:
    show = "; import sys; print(*sys.modules, file=sys.stderr)"
    result = subprocess.run([sys.executable, "-c", code + show], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in result.stderr.split()}


def test_help_and_validate_import_nothing_heavy(tmp_path: Path, write_recipe):
    command = "from click.testing import CliRunner; from compressor.commands.main import main; "
    command += "r = CliRunner().invoke(main, {}); assert r.exit_code == 0, r.output"
    assert not imported_by(command.format(["run", "--help"])) & {*HEAVY, "pydantic", "numpy"}
    assert not imported_by(command.format(["validate", str(write_recipe())])) & set(HEAVY)


def test_no_module_imports_torch_before_it_is_used():
    names = [name for name in modules() if name not in ("compressor.__main__",)]
    light = [name for name in names if not name.startswith(("compressor.training.", "compressor.surgery."))]
    tensors = [
        "runtimes.tracing",
        "runtimes.onnx_graph",
        "runtimes.onnx_module",
        "runtimes.onnx_operators",
        "quantization.fake",
    ]
    light = [name for name in light if name.removeprefix("compressor.") not in tensors]
    light = [name for name in light if not name.startswith("compressor.models.")]
    assert not imported_by("import " + ", ".join(light)) & {"torch", "transformers", "datasets"}


def test_files_are_short_and_nothing_is_called_utils():
    for path in PACKAGE.rglob("*.py"):
        assert len(path.read_text().splitlines()) <= 400, path
        assert path.stem not in ("utils", "helpers", "common", "misc")


def test_only_one_module_can_reach_the_network():
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = [alias.name for alias in node.names] + [getattr(node, "module", None) or ""]
                reaches = any(
                    name.split(".")[0] in ("huggingface_hub", "requests", "urllib", "httpx") for name in names
                )
                assert not reaches or path.name == "hub.py", path


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
    assert {
        f"compressor.runtimes.{name}" for name in ("onnx", "onnx_graph", "onnx_module", "torchscript", "executorch")
    } <= found
