"""YAML as people write it and as nobody should: a document is read as it says, or refused with its place, at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import WriteRecipe
from problems import kinds, refused

from compressor.errors import RecipeError
from compressor.recipe.reading import load, read
from compressor.recipe.yaml_file import parse, parse_value

LAUGHS = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 10)
)
MERGED_LAUGHS = "a0: &a0 {k: v}\n" + "".join(
    f"a{n}: &a{n} {{l{n}: *a{n - 1}, r{n}: *a{n - 1}, s{n}: *a{n - 1}}}\n" for n in range(1, 30)
)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a: &a [*a]", 1),
        ("a: &a {b: 1,\n  c: *a}", 2),
        ("a: &a {<<: *a}", 1),
        (LAUGHS, 5),
        (MERGED_LAUGHS, 9),
        ("a: " + "[" * 2000 + "]" * 2000, 1),
        ("a: " + "{b: " * 2000 + "1" + "}" * 2000, 1),
        ("".join(" " * depth + "a:\n" for depth in range(500)), 40),
        ("a: 1\nb: 2\na: 3", 3),
        ('1: x\n"1": y', 2),
        ("a:\n\tb: 1", 2),
        ("a: 1\n---\nb: 2", 2),
        ("a: !!int x", 1),
        ("a: !!int ''", 1),
        ("a: !!float x", 1),
        ("a: !!bool maybe", 1),
        ("a: !!timestamp x", 1),
        ("a: !!binary x", 1),
        ("a: !!set {b, c}", 1),
        ("a: !!omap [b: 1]", 1),
        ("a: !!python/object/apply:os.system [true]", 1),
        ("a: !mine x", 1),
        ("a: " + "9" * 5000, 1),
        ("a: 0x" + "f" * 5000, 1),
        ('a: "\\0"', 1),
        ('a: "\\ud800"', 1),
        ("? [a]\n: 1", 1),
        ("a: {<<: [1]}", 1),
        ("a: *nothing", 1),
        ("a: [", 1),
    ],
)
def test_documents_that_are_refused_with_their_line(tmp_path: Path, text: str, line: int):
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with refused(str(path), "unreadable"):
        parse(path)
    with pytest.raises(RecipeError) as caught:
        parse(path)
    assert caught.value.problems[0].line == line
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "content", [b"a: \x00", b"a: \x1b[31m", b"\xff\xfea\x00", b"a: \xe9", b"", b"- a", b"a", b"x" * 2_000_000]
)
def test_files_that_are_no_recipe(tmp_path: Path, content: bytes):
    path = tmp_path / "recipe.yaml"
    path.write_bytes(content)
    with pytest.raises(RecipeError) as caught:
        parse(path)
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize("name", ["a" * 5000, "a\0b", ".", "x/" * 3000])
def test_paths_that_no_file_has(name: str):
    with pytest.raises(RecipeError):
        load(Path(name))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("On", "On"),
        ("1:30", "1:30"),
        ("190:20:30.15", "190:20:30.15"),
        ("010", "010"),
        ("0b11", "0b11"),
        ("2026-01-01", "2026-01-01"),
        ("=", "="),
        ("0x1F", 31),
        ("10_000", 10_000),
        ("-5", -5),
        ("0", 0),
        ("5e-5", 5e-5),
        ("1.", 1.0),
        (".5", 0.5),
        ("-.inf", float("-inf")),
        ("TRUE", True),
        ("~", None),
        ("", None),
        ("'5'", "5"),
        ("!!str 5", "5"),
        ("!!float 5.", 5.0),
    ],
)
def test_plain_values(text: str, value: object):
    found = parse_value(text)
    assert found == value and type(found) is type(value)


def test_merge_keys_and_aliases_are_expanded_with_their_lines(tmp_path: Path):
    path = tmp_path / "recipe.yaml"
    path.write_text("base: &b\n  x: 1\n  y: 2\nother: &o {y: 3, z: 4}\nall:\n  <<: [*b, *o]\n  x: 5\nlist: [*b, *b]\n")
    data, lines = parse(path)
    assert data["all"] == {"x": 5, "y": 2, "z": 4} == yaml.safe_load(path.read_text())["all"]
    assert lines[("all", "x")] == 7 and lines[("all", "y")] == 3
    data["list"][0]["x"] = 9
    assert data["list"][1]["x"] == 1, "what aliases stand for is not shared"


def test_set_changes_one_of_two_stages_that_are_the_same_alias(write_recipe: WriteRecipe, tmp_path: Path):
    path = write_recipe()
    stage = {"stage": "finetune", "epochs": 1}
    document = {**yaml.safe_load(path.read_text()), "stages": [stage, stage]}
    path.write_text(yaml.dump(document))
    assert "*id001" in path.read_text()
    assert [s.epochs for s in load(path, ("stages.0.epochs=3",)).stages] == [3, 1]


def test_yes_and_no_are_booleans_where_one_is_asked_for(write_recipe: WriteRecipe):
    path = write_recipe()
    recipe = load(path, ("stages.quantize.per_channel=no", "data.where={lang: no, ok: yes}"))
    assert getattr(recipe.stages[2], "per_channel") is False  # noqa: B009 -- of one kind of stage
    assert recipe.data.where == {"lang": "no", "ok": "yes"}


@pytest.mark.parametrize(
    "override",
    [
        "stages.²=1",
        "stages.²._x=1",
        f"stages.{'9' * 5000}.epochs=1",
        f"{'a.' * 3000}a=1",
        "seed=" + "9" * 5000,
        "seed=" + "[" * 3000,
        "seed=!!int x",
        "seed=\0",
        "name=\x1b[31m",
        "stages.0.name=[1]",
        "=1",
        "...=1",
    ],
)
def test_set_values_that_are_refused(write_recipe: WriteRecipe, override: str):
    with pytest.raises(RecipeError) as caught:
        load(write_recipe(), (override,))
    assert len(str(caught.value)) < 1000 and "\x1b" not in str(caught.value)


def test_set_on_stages_whose_names_are_no_texts(write_recipe: WriteRecipe):
    path = write_recipe(stages=[{"stage": "finetune", "name": [1]}, {"stage": 3, "name": 4}, 5])
    with pytest.raises(RecipeError):
        load(path, ("stages.nowhere.epochs=1",))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("seed", -1),
        ("seed", 10**30),
        ("seed", 1.5),
        ("seed", float("nan")),
        ("name", "a" * 5000 + " "),
        ("stages", []),
        ("stages", {"a": 1}),
        ("stages", ["x" * 5000]),
        ("schema_version", 2),
        ("measure", {"runs": 0, "runtime": "x" * 5000}),
        ("data", {"validation_fraction": float("inf"), "where": {"a": [1], "b": {}}, "corpus": 5, "train": [1]}),
    ],
)
def test_messages_are_short_and_none_is_pydantics(write_recipe: WriteRecipe, key: str, value: Any):
    found = [problem for problem in read(write_recipe(**{key: value}))[1] if problem.where.startswith(key)]
    assert found
    for problem in found:
        assert len(str(problem)) < 500
        assert not any(word in str(problem) for word in ("Input", "should", "valid ", "Field", "instance", "parse"))


def test_kinds_of_what_aliases_repeat(write_recipe: WriteRecipe, tmp_path: Path):
    path = tmp_path / "recipe.yaml"
    path.write_text("schema_version: 1\nstages:\n- &a {stage: finetune, epoch: 1}\n- *a\n")
    with pytest.raises(RecipeError) as caught:
        load(path)
    found = kinds(caught.value)
    assert found["stages[0] (finetune)"] == found["stages[1] (finetune)"] == "unknown"
