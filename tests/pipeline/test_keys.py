"""What a key is made of: each input of a result changes it, and nothing else does."""

from __future__ import annotations

import ast
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import WriteRecipe, save_classifier, save_encoder
from in_process import InProcess
from rich.console import Console
from safetensors.numpy import load_file, save_file

import compressor
from compressor.data.spec import DataSpec
from compressor.errors import StageError
from compressor.pipeline import code_digest, plan, plan_data
from compressor.pipeline.building import Builder
from compressor.pipeline.entry import key_of
from compressor.pipeline.store import Store
from compressor.progress import Progress
from compressor.recipe.document import Recipe
from compressor.recipe.resolve import resolve
from compressor.stages import STAGES

TRAIN = {"epochs": 1, "batch_size": 16, "learning_rate": 3e-3, "max_sequence_length": 24}
STAGES_OF_RECIPE: list[dict[str, Any]] = [
    {"stage": "finetune", **TRAIN},
    {"stage": "distill", "student": "student", **TRAIN},
    {"stage": "prune", "ffn": 0.5, "vocabulary": {"min_count": 1, "corpus": "words.txt"}, **TRAIN},
    {"stage": "quantize", "accuracy": {"max_drop": 0.01}},
    {"stage": "export", "targets": ["onnx"]},
]
NAMES = [str(stage["stage"]) for stage in STAGES_OF_RECIPE]
MEASURED = {f"{name} measured" for name in NAMES}
NOTHING: set[str] = set()
EVERYTHING = {"source", "data", *NAMES, *MEASURED}


@pytest.fixture
def recipe(write_recipe: WriteRecipe, tmp_path: Path) -> Path:
    """A recipe that has every kind of input beside it."""
    save_encoder(tmp_path / "model")
    save_classifier(tmp_path / "student", num_hidden_layers=2)
    (tmp_path / "words.txt").write_text("the film was good and the plot was fine\n" * 20)
    return write_recipe(model="model", stages=STAGES_OF_RECIPE)


def keys(path: Path, *overrides: str) -> dict[str, str]:
    """All keys of a run, by what they are of."""
    made = plan.make(resolve(path, overrides), download=False)
    found = {"source": key_of(made.source_inputs), "data": made.data[made.resolved.recipe.task].key}
    for name, stage in zip(NAMES, made.stages, strict=True):
        found |= {name: stage.key, f"{name} measured": key_of(stage.measure_inputs)}
    return found


def changed(before: dict[str, str], now: dict[str, str]) -> set[str]:
    assert before.keys() == now.keys() == EVERYTHING
    return {name for name in before if before[name] != now[name]}


def since(*names: str) -> set[str]:
    """Keys of the first of the stages that are named and of all after it, of its measurement, and other names."""
    stages = NAMES[NAMES.index(names[0]) :]
    return {*stages, *(f"{name} measured" for name in stages), *names[1:]}


OVERRIDES = {
    "stages.quantize.size_only=true": NOTHING,
    "stages.export.size_only=[onnx_int8]": NOTHING,
    "seed=1": since("finetune", "data"),
    "data.validation_fraction=0.2": since("finetune", "data"),
    "data.validation=null": since("finetune", "data"),
    "data.max_train_samples=300": since("finetune", "data"),
    "data.where={label: positive}": since("finetune", "data"),
    "stages.finetune.epochs=2": since("finetune"),
    "stages.distill.temperature=3": since("distill"),
    "stages.prune.vocabulary.min_count=2": since("prune"),
    "stages.prune.ffn=0.25": since("prune"),
    "stages.quantize.accuracy.max_drop=0.02": since("quantize"),
    "stages.export.targets=[onnx, torchscript]": since("export"),
    "stages.export.verification_rows=3": since("export"),
    "measure.sequence_length=8": MEASURED,
    "measure.threads=2": MEASURED,
    "measure.timeout_s=60": set(),
    "measure.batch_size=2": since("quantize") | MEASURED,
    "name=other": since("export"),
    # What must not matter:
    "stages.finetune.name=mine": set(),
    "stages.finetune.gates={accuracy: {min: 0.1}}": set(),
    "stages.export.gates={size_bytes: {max: 1}}": set(),
    "regression={accuracy: {max_drop: 0.5}}": set(),
}


@pytest.mark.parametrize("override", OVERRIDES)
def test_a_value_of_the_recipe_changes_what_it_decides_and_nothing_else(recipe: Path, override: str):
    if override == "data.validation_fraction=0.2":
        assert changed(keys(recipe, "data.validation=null"), keys(recipe, "data.validation=null", override))
    else:
        assert changed(keys(recipe), keys(recipe, override)) == OVERRIDES[override]


def test_every_field_of_every_stage_is_in_its_key():
    values = {"distill": {"layers": (0,)}, "factorize": {"embedding_size": 8}, "prune": {"ffn": 0.5}}
    for stage in STAGES.values():
        spec = stage.spec(stage=stage.kind, **values.get(stage.kind, {}))
        assert spec.work().keys() == stage.spec.model_fields.keys() - {"name", "gates", "size_only"}, stage.kind


def test_every_part_of_a_recipe_is_known_to_this_test():
    """Whoever adds a key to one of these decides whether it is in a key of the store."""
    parts = {"schema_version", "name", "task", "model", "seed", "data", "measure", "stages", "regression"}
    parts |= {"embedding"}  # decides the key of the checkpoint that is brought in
    assert Recipe.model_fields.keys() == parts
    assert {"train", "validation", "corpus"} <= DataSpec.model_fields.keys(), "are in keys by their contents"


def append(path: Path) -> None:
    path.write_text(path.read_text() + "\n")


def other_weights(path: Path) -> None:
    tensors = load_file(path)
    name = max(tensors, key=lambda name: tensors[name].size)
    save_file({**tensors, name: tensors[name] + np.float32(1e-3)}, path, metadata={"format": "pt"})


def row(text: str) -> Callable[[Path], None]:
    return lambda path: path.write_text(path.read_text() + text)


def moved(path: Path) -> None:
    path.rename(path.with_name("elsewhere.tsv"))
    recipe = path.with_name("recipe.yaml")
    recipe.write_text(recipe.read_text().replace(path.name, "elsewhere.tsv"))


FILES: dict[str, tuple[str, Callable[[Path], None], set[str]]] = {
    "a training row": ("train.tsv", row("a fine film\tpositive\n"), since("finetune", "data")),
    "a validation row": ("dev.tsv", row("a fine film\tpositive\n"), since("finetune", "data")),
    "the counted text": ("words.txt", row("fine\n"), since("prune")),
    "the weights": ("model/model.safetensors", other_weights, since("finetune", "source")),
    "the config": ("model/config.json", append, since("finetune", "source")),
    "the tokenizer": ("model/tokenizer.json", append, since("finetune", "source")),
    "the student": ("student/model.safetensors", other_weights, since("distill")),
    "the model card": ("model/README.md", Path.touch, set()),
    "the student's card": ("student/README.md", Path.touch, set()),
    "an old export": ("model/model.onnx", Path.touch, set()),
    "the place of the rows": ("train.tsv", moved, set()),
    "a file beside": ("notes.txt", Path.touch, set()),
}


@pytest.mark.parametrize("what", FILES)
def test_the_contents_of_a_file_change_what_is_made_of_it_and_nothing_else(recipe: Path, what: str):
    before = keys(recipe)
    name, change, expected = FILES[what]
    change(recipe.parent / name)
    assert changed(before, keys(recipe)) == expected


def test_the_place_of_a_run_and_of_its_model_do_not_matter(recipe: Path, tmp_path: Path):
    before = keys(recipe)
    shutil.copytree(tmp_path / "model", tmp_path / "copy")
    assert keys(recipe, "model=copy") == before


def install(folder: Path, distribution: str) -> None:
    """Makes a distribution seem to be of another version."""
    info = folder / f"{distribution.replace('-', '_')}-99.9.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 99.9\n")


DISTRIBUTIONS = sorted({name for names in (code_digest.LIBRARIES | code_digest.EXTRAS).values() for name in names})
OF_ALL = since("finetune", "data")
VERSIONS = {
    **dict.fromkeys(("datasets", "pandas", "pyarrow", "scipy"), OF_ALL),
    **dict.fromkeys(("numpy", "safetensors", "tokenizers", "torch", "transformers"), OF_ALL | {"source"}),
    "accelerate": since("finetune"),
    **dict.fromkeys(("onnx", "onnxruntime", "ml_dtypes", "protobuf"), MEASURED | since("quantize")),
    **dict.fromkeys(("coremltools", "executorch", "torchao", "neural-compressor", "onnxruntime-extensions"), NOTHING),
}


@pytest.mark.parametrize("distribution", DISTRIBUTIONS)
def test_the_version_of_a_library_changes_what_uses_it_and_nothing_else(
    recipe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, distribution: str
):
    before = keys(recipe)
    install(tmp_path / "libraries", distribution)
    monkeypatch.syspath_prepend(tmp_path / "libraries")
    assert changed(before, keys(recipe)) == VERSIONS[distribution]


@pytest.mark.parametrize(
    ("spec", "distributions"),
    [
        ({"stage": "export", "targets": ("executorch",)}, {"executorch", "torchao"}),
        ({"stage": "export", "targets": ("coreml",)}, {"coremltools"}),
        ({"stage": "export", "tokenizer": "baked"}, {"onnxruntime-extensions"}),
        (
            {"stage": "quantize", "scheme": "static_int8", "backend": "neural_compressor"},
            {"neural-compressor", "torchao"},
        ),
    ],
)
def test_the_version_of_an_extras_library_counts_where_it_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spec: dict[str, Any], distributions: set[str]
):
    stage = STAGES[spec["stage"]]
    for library in DISTRIBUTIONS:
        install(tmp_path, library)
    monkeypatch.syspath_prepend(tmp_path)
    found = code_digest.made_with(stage.module, extras=stage.spec(**spec).libraries)["versions"]
    extras = {name for names in code_digest.EXTRAS.values() for name in names}
    assert found.keys() & extras == distributions
    assert all(found[name] == "99.9" for name in distributions)


PACKAGE = Path(compressor.__file__).parent
MODULES = {
    ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    for path in PACKAGE.rglob("*.py")
}


def test_every_library_that_is_imported_is_in_a_table():
    known = code_digest.LIBRARIES.keys() | code_digest.EXTRAS.keys() | code_digest.WITHOUT_EFFECT
    for module in MODULES - {name for name in MODULES if name.split(".")[1:2] in (["commands"], ["report"], ["serve"])}:
        for node in ast.walk(code_digest._tree(module)):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            for name in {name.partition(".")[0] for name in names} - known - {"compressor"}:
                assert name in code_digest.sys.stdlib_module_names or name in ("rich", "yaml", "click"), (module, name)


DECIDE_NOTHING = set("commands drafting report package serve recipe errors progress host spec __main__ gates".split())
"""Parts that only draft, read, check, judge, word and publish what was made; of gates, see `keys._JUDGING_CODE`."""
OF_THE_PIPELINE = {"building", "task_rows", "corpus_sequences", "measuring"}
"""Modules of the pipeline that decide what stages and measurements are given."""
NOT_REACHED = {
    *("compressor", "compressor.measure.bench", "compressor.models.checking"),
    *("compressor.models.spec", "compressor.stages"),
}
"""`compress bench`, what refuses a checkpoint, the keys of `embedding`, whose values are in the checkpoint's key, and
files that only list what is in their folder."""


def test_every_module_that_decides_a_result_is_in_a_key(recipe: Path, monkeypatch: pytest.MonkeyPatch):
    digested: set[str] = set()

    def note(module: str) -> str:
        digested.add(module)
        return module

    monkeypatch.setattr(code_digest, "_source_digest", note)
    code_digest.code_digest.cache_clear()
    keys(recipe)
    for stage in STAGES.values():
        code_digest.made_with(stage.module)
    code_digest.made_with(*plan_data._CORPUS_CODE, own=plan_data._CORPUS_OWN)
    code_digest.code_digest.cache_clear()
    deciding = {module for module in MODULES if module.split(".")[1:2] not in [[part] for part in DECIDE_NOTHING]}
    pipeline = {module for module in deciding if module.startswith("compressor.pipeline")}
    assert pipeline & digested == {f"compressor.pipeline.{name}" for name in OF_THE_PIPELINE}
    assert deciding - pipeline - digested == NOT_REACHED
    assert {f"compressor.gates.{name}" for name in ("estimate", "rows")} <= digested, "a stage chooses by them"


def test_the_code_of_a_module_changes_the_key(recipe: Path, monkeypatch: pytest.MonkeyPatch):
    before, digest = keys(recipe), code_digest._source_digest
    for module, expected in {
        "compressor.stages.prune": since("prune"),
        "compressor.models.surgery.prune": since("prune"),
        "compressor.runtimes.onnx.rewrite": since("quantize") | MEASURED,
        "compressor.pipeline.building": since("finetune"),
        "compressor.pipeline.task_rows": since("finetune", "data"),
        "compressor.pipeline.measuring": MEASURED,
        "compressor.measure.measurement": since("quantize") | MEASURED,
        "compressor.tasks.text_classification": since("finetune", "data"),
        "compressor.package.publish": NOTHING,
        "compressor.gates.judge": NOTHING,
    }.items():
        monkeypatch.setattr(code_digest, "_source_digest", lambda name, of=module: digest(name) + "x" * (name == of))
        code_digest.code_digest.cache_clear()
        assert changed(before, keys(recipe)) == expected, module
    code_digest.code_digest.cache_clear()


@pytest.mark.parametrize("name", ["train.tsv", "dev.tsv", "model/config.json", "student/config.json"])
def test_nothing_is_kept_of_a_file_that_was_changed_while_the_run_went_on(recipe: Path, tmp_path: Path, name: str):
    """Its key is made of what it held when the run began."""
    made = plan.make(resolve(recipe), download=False)
    append(tmp_path / name) if name.endswith(".json") else row("a fine film\tpositive\n")(tmp_path / name)
    with Store(tmp_path / "store") as store, InProcess() as client, pytest.raises(StageError, match="changed"):
        builder = Builder(made, store, client, Progress(Console(quiet=True)))
        builder.prepared("text-classification")
    kept = {str(store_key.name) for store_key in (tmp_path / "store").glob("[!.]*")}
    assert made.data["text-classification"].key not in kept
    assert not name.startswith("model/") or not kept
