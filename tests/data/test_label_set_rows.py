"""Rows with any number of labels: every form of file, and what is wrong with them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from conftest import HUB, WriteRecipe
from datasets import ClassLabel, Dataset, Features, Value
from datasets import List as ListOf
from hypothesis import given
from hypothesis import strategies as st
from problems import refused
from pyarrow import parquet

from compressor.data import label_set_rows, splits, text_rows
from compressor.data.spec import DataSpec, HubDataset
from compressor.errors import Problem, RecipeError
from compressor.recipe.resolve import resolve
from compressor.tasks import multi_label, of_rows

TEXTS = ["one", "two", "three", "four"]
SETS: list[list[str]] = [["b", "a"], [], ["a"], ["c", "b", "a"]]


def csv(path: Path, separator: str = "|") -> Path:
    lines = ["text,label", *(f"{text},{separator.join(names)}" for text, names in zip(TEXTS, SETS, strict=True))]
    path.write_text("\n".join(lines) + "\n")
    return path


def jsonl(path: Path) -> Path:
    rows = [{"text": text, "label": names} for text, names in zip(TEXTS, SETS, strict=True)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def lists(path: Path) -> Path:
    parquet.write_table(pyarrow.table({"text": TEXTS, "label": SETS}), path)
    return path


def classes(path: Path) -> Path:
    """As `datasets` writes a list of class labels: numbers, and their names in the schema."""
    features = Features({"text": Value("string"), "label": ListOf(ClassLabel(names=["a", "b", "c"]))})
    numbers = [["abc".index(name) for name in names] for names in SETS]
    Dataset.from_dict({"text": TEXTS, "label": numbers}, features=features).to_parquet(path)
    return path


FORMS: dict[str, tuple[Callable[[Path], Path], dict[str, Any]]] = {
    "rows.csv": (csv, {"label_separator": "|"}),
    "words.csv": (lambda path: csv(path, " and "), {"label_separator": " and "}),
    "rows.jsonl": (jsonl, {}),
    "rows.parquet": (lists, {}),
    "classes.parquet": (classes, {}),
}


def read(path: Path, work: Path, **data: Any) -> Any:
    spec = DataSpec(train=str(path), **data)
    (work / "out").mkdir()
    facts = splits.prepare(
        label_set_rows, spec, path, path, multi_label.columns(spec), seed=0, output=work / "out", work=work
    )
    return splits.load(work / "out" / "train"), facts


@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_rows(name: str, tmp_path: Path, write_recipe: WriteRecipe):
    write, data = FORMS[name]
    rows, facts = read(write(tmp_path / name), tmp_path, **data)
    assert rows["text"][:] == TEXTS and rows["label"][:] == SETS
    assert facts["labels"] == ["a", "b", "c"]
    assert "1 of 4 training rows have no label" in facts["notes"]
    recipe = write_recipe(data={"train": name, "validation": name, **data}, stages=[{"stage": "finetune"}])
    assert resolve(recipe).recipe.task == multi_label.NAME, "found without being said"


def test_a_data_set_on_the_hub_says_that_it_has_lists(tmp_path: Path, write_recipe: WriteRecipe):
    HUB.push("datasets", "org/sets", {"train.parquet": classes(tmp_path / "file").read_bytes()})
    source = HubDataset(hub="org/sets", split="train")
    spec = DataSpec(train=source, multi_label=True)
    (tmp_path / "out").mkdir()
    facts = splits.prepare(
        label_set_rows, spec, source, source, multi_label.columns(spec), seed=0, output=tmp_path / "out", work=tmp_path
    )
    assert splits.load(tmp_path / "out" / "train")["label"][:] == SETS and facts["labels"] == ["a", "b", "c"]
    data = {"train": {"hub": "org/sets", "split": "train"}, "multi_label": True}
    assert resolve(write_recipe(data=data, stages=STAGES)).recipe.task == multi_label.NAME
    plain = DataSpec(train=source)
    with pytest.raises(RecipeError, match=r"data\.multi_label: true"):
        splits.prepare(
            text_rows, plain, source, source, multi_label.columns(plain), seed=0, output=tmp_path / "out", work=tmp_path
        )


def test_what_a_cell_can_hold():
    def of(cell: Any, separator: str | None = None) -> Any:
        return label_set_rows.label_set(cell, "label", separator, "data.train")

    assert of("a") == ["a"] and of(3) == ["3"] and of(True) == ["true"] and of("") == of("  ") == of([]) == []
    assert of("a|b") == ["a|b"] and of("a | b", "|") == ["a", "b"] and of("a", "|") == ["a"]
    assert of([1, True, "x y", 2.0]) == ["1", "true", "x y", "2"]
    assert of(["a|b"], "|") == ["a|b"], "a list is split already"
    for wrong, kind in ((None, "missing"), ([None], "value"), (["a", " "], "value"), ([["a"]], "type"), ({}, "type")):
        found = of(wrong)
        assert isinstance(found, Problem) and found.kind == kind
    for wrong in ("a||b", "|a", "a|", "|"):
        assert isinstance(of(wrong, "|"), Problem)


@given(st.lists(st.text(st.characters(categories=["L", "N", "P"], exclude_characters=";"), min_size=1)))
def test_what_is_joined_is_split_again(names: list[str]):
    assert label_set_rows.label_set(";".join(names), "label", ";", "data.train") == names


def test_a_label_counts_once_and_renamed_ones_merge(tmp_path: Path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"text": "x", "label": ["a", "b", "a", "c"]}\n{"text": "y", "label": "b"}\n')
    rows, facts = read(path, tmp_path, labels={"c": "b"})
    assert rows["label"][:] == [["a", "b"], ["b"]] and facts["labels"] == ["a", "b"] and facts["renamed"] == {"c": "b"}


@pytest.mark.parametrize(
    ("train", "dev", "where"),
    [
        (["[]", "[]"], ['["a"]'], "data.label"),
        (['["a"]', "[]"], ['["a"]'], "data.label"),
        (['["a"]', '["b"]'], ['["a", "c"]'], "data.label"),
        (['["a"]', '["b"]'], ["[]"], "data.validation"),
        (['["a"]', "null"], ['["a"]'], "data.train"),
        (['["a"]', '[{"b": 1}]'], ['["a"]'], "data.train"),
    ],
)
def test_what_cannot_be_learned_or_scored(train: list[str], dev: list[str], where: str, tmp_path: Path):
    for name, cells in (("train", train), ("dev", dev)):
        lines = [f'{{"text": "{name} {index}", "label": {cell}}}\n' for index, cell in enumerate(cells)]
        (tmp_path / f"{name}.jsonl").write_text("".join(lines))
    spec = DataSpec(train="train.jsonl", validation="dev.jsonl")
    kind = {"null": "missing", '[{"b": 1}]': "type", '["b"]': "unknown"}.get(train[1], "value")
    with refused(where, "value" if where == "data.validation" else kind):
        splits.prepare(
            label_set_rows, spec, tmp_path / "train.jsonl", tmp_path / "dev.jsonl", multi_label.columns(spec),
            seed=0, output=tmp_path, work=tmp_path,
        )  # fmt: skip


def test_which_task_the_rows_make():
    def task(name: str, found: bool, **data: Any) -> str:
        return of_rows(name, DataSpec(train="x", **data), found)

    assert task("text-classification", False) == "text-classification"
    assert task("text-classification", True) == multi_label.NAME
    assert task("text-classification", False, label_separator=",") == multi_label.NAME
    assert task("text-classification", False, multi_label=True) == multi_label.NAME
    assert task("text-classification", True, multi_label=False) == "text-classification"
    assert task("token-classification", True) == "token-classification"


STAGES = [{"stage": "finetune"}]


@pytest.mark.parametrize(
    ("overrides", "where", "kind"),
    [
        ({"task": "text-regression", "data": {"label_separator": "|"}}, "data.label_separator", "conflict"),
        ({"task": "text-regression", "data": {"multi_label": True}}, "data.multi_label", "conflict"),
        ({"task": "multi-label-classification"}, "task", "value"),
        ({"data": {"tune_thresholds": True}}, "data.tune_thresholds", "conflict"),
        ({"data": {"label_separator": "|", "multi_label": False}}, "data", "value"),
        ({"data": {"label_separator": ""}}, "data.label_separator", "value"),
        (
            {"data": {"label_separator": "|"}, "stages": [{"stage": "finetune", "gates": {"accuracy": {"min": 0.5}}}]},
            "stages[0] (finetune).gates.accuracy",
            "unknown",
        ),
        (
            {"stages": [{"stage": "finetune", "gates": {"f1_micro": {"min": 0.5}}}]},
            "stages[0] (finetune).gates.f1_micro",
            "unknown",
        ),
        (
            {"data": {"label_separator": "|", "tune_thresholds": True}, "stages": [{"stage": "quantize"}]},
            "data.tune_thresholds",
            "conflict",
        ),
    ],
)
def test_mistakes_in_a_recipe(overrides: dict[str, Any], where: str, kind: str, write_recipe: WriteRecipe):
    data = {"train": "train.tsv", "validation": "dev.tsv", "text": "sentence", **overrides.get("data", {})}
    path = write_recipe(**{"stages": STAGES, **overrides, "data": data})
    with refused(where, kind):
        resolve(path)


@pytest.mark.parametrize(("train", "dev"), [("jsonl", "jsonl"), ("parquet", "jsonl"), ("jsonl", None)])
def test_keys_that_lists_contradict(train: str, dev: str | None, tmp_path: Path, write_recipe: WriteRecipe):
    write = {"jsonl": jsonl, "parquet": lists}
    write[train](tmp_path / f"train.{train}")
    data = {"train": f"train.{train}", "validation": dev and write[dev](tmp_path / "dev.jsonl").name}
    for key, value in (("multi_label", False), ("label_separator", "|")):
        with refused(f"data.{key}", "conflict"):
            resolve(write_recipe(data={**data, key: value}, stages=STAGES))


def test_one_file_may_have_lists_and_the_other_texts(tmp_path: Path, write_recipe: WriteRecipe):
    jsonl(tmp_path / "train.jsonl"), csv(tmp_path / "dev.csv")
    data = {"train": "train.jsonl", "validation": "dev.csv", "label_separator": "|"}
    assert resolve(write_recipe(data=data, stages=STAGES)).recipe.task == multi_label.NAME


def test_many_labels_that_rows_share_are_no_ids(tmp_path: Path):
    shared = [[f"topic {(7 * row + 13 * place) % 150}" for place in range(8)] for row in range(160)]
    for name, found, wrong in (
        ("shared", shared, False),
        ("ids", [[f"{row}", f"id {row}"] for row in range(160)], True),
    ):
        (tmp_path / name).mkdir()
        lines = [json.dumps({"text": f"text {row}", "label": labels}) for row, labels in enumerate(found)]
        path = tmp_path / name / "rows.jsonl"
        path.write_text("\n".join(lines) + "\n")
        if wrong:
            with refused("data.label", "value"):
                read(path, tmp_path / name)
        else:
            assert len(read(path, tmp_path / name)[1]["labels"]) == 150


def test_thresholds_are_chosen_on_a_tenth_of_the_training_rows_however_few_are_validated_on(tmp_path: Path):
    for name, count in (("train", 1000), ("dev", 20)):
        lines = [json.dumps({"text": f"{name} {row}", "label": ["a", "b"][: row % 3]}) for row in range(count)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines) + "\n")

    def prepared(name: str, **data: Any) -> dict[str, Any]:
        (tmp_path / name).mkdir()
        spec, files = DataSpec(**data), [tmp_path / f"{split}.jsonl" for split in ("train", "dev")]
        columns = multi_label.columns(spec)
        return splits.prepare(label_set_rows, spec, *files, columns, 0, tmp_path / name, tmp_path, selects=True)

    assert 60 < prepared("tuned", tune_thresholds=True)["selection"] < 140
    assert prepared("budget")["selection"] <= 40, "of a budget of quality about as many as are validated on"
    few = prepared("few", tune_thresholds=True, max_train_samples=40)
    assert few["selection"] == few["train"] == 40


def test_who_tunes_thresholds_of_single_labels_is_told_what_makes_them_several(write_recipe: WriteRecipe):
    data = {"train": "train.tsv", "validation": "dev.tsv", "text": "sentence", "tune_thresholds": True}
    with pytest.raises(RecipeError, match=r"column of lists, or with data\.label_separator"):
        resolve(write_recipe(data=data, stages=STAGES))
