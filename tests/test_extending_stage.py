"""A stage is one file and one entry in the table: a copy with a toy stage runs, gates and documents it."""

from __future__ import annotations

import json
from pathlib import Path

from conftest import WriteRecipe
from extending import ExtendedPackage

TOY_STAGE = '''"""Scales the embeddings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from compressor.models import loading
from compressor.stages.base import Stage, StageSpec
from compressor.training.context import Context, Facts


class ScaleSpec(StageSpec):
    """Scales the embeddings."""

    stage: Literal["scale"]
    """The kind of stage."""
    factor: Annotated[float, Field(gt=0)] = 1.0
    """Each embedding is multiplied by it."""


def run(source: Path, output: Path, spec: ScaleSpec, context: Context) -> Facts:
    """Scales the embeddings."""
    model = loading.load_model(source, context.model_head, **context.head)
    model.get_input_embeddings().weight.data.mul_(spec.factor)
    loading.save(output, model, loading.load_tokenizer(source))
    return {"factor": spec.factor}


STAGE = Stage(ScaleSpec, run)
'''


def test_a_stage_is_one_file_and_one_entry(tmp_path: Path, classifier: Path, write_recipe: WriteRecipe):
    package = ExtendedPackage(tmp_path / "copy")
    package.write("stages/scale.py", TOY_STAGE)
    package.insert("stages/__init__.py", "from compressor.stages.base import", "from compressor.stages import scale")
    package.insert("stages/__init__.py", "prune.STAGE,", "scale.STAGE,")
    stage = {"stage": "scale", "factor": 2.0, "gates": {"num_parameters": {"max": 1}}}
    recipe = write_recipe(model=str(classifier), stages=[stage])
    artifacts = tmp_path / "artifacts"
    result = package.compress("run", recipe, "--artifacts", artifacts)
    assert result.returncode == 1, result.stderr[-2000:]
    report = json.loads((artifacts / "tiny/report.json").read_text(encoding="utf-8"))
    [entry] = [entry for entry in report["stages"] if entry["name"] == "scale"]
    assert entry["details"]["factor"] == 2.0 and "accuracy" in entry["measurements"]
    assert [gate["metric"] for gate in entry["gates"]] == ["num_parameters"]
    schema = package.compress("schema")
    assert "ScaleSpec" in json.loads(schema.stdout)["$defs"]
    assert "## `stage: scale`" in package.compress("schema", "--format", "markdown").stdout
    recipe.write_text(recipe.read_text().replace("factor: 2.0", "factor: -1"), encoding="utf-8")
    wrong = package.compress("validate", recipe)
    assert wrong.returncode == 2 and "stages[0] (scale).factor" in wrong.stdout + wrong.stderr
