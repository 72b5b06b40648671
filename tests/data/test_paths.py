"""A data file is found by the path in the recipe, whatever characters it has, and that file is read and no other."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from conftest import WriteRecipe, save_encoder, write_rows
from problems import refused

from compressor.data import tables
from compressor.recipe.resolve import resolve

NAMES = [
    *("[0-9]", "a[b]*", "what?", "{a,b}", "a::b", "zip:::x", "%41", "#", "-", "~x", " ", "[red]", "\x1b[31m", "é 行"),
    *("\\", "'\"", "$x", ".hidden", "README", "train-00000-of-00001", "a=b,c", "deep [x]/*/rows", "s3:", "..x"),
]


def write(path: Path, rows: list[tuple[str, str]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = path.suffix.lower()
    if kind == ".parquet":
        import pyarrow
        from pyarrow import parquet

        texts, labels = zip(*rows, strict=True)
        parquet.write_table(pyarrow.table({"sentence": list(texts), "label": list(labels)}), path)
    elif kind == ".jsonl":
        path.write_text("".join(json.dumps({"sentence": text, "label": label}) + "\n" for text, label in rows))
    elif kind == ".csv":
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([("sentence", "label"), *rows])
    else:
        write_rows(path, rows)
    return path


def texts(path: Path, work: Path) -> list[str]:
    return [row["text"] for _, row in tables.read(path, {"text": "sentence"}, {}, work, "data.train")]


@pytest.mark.parametrize("name", NAMES)
def test_any_name_is_that_file(write_recipe: WriteRecipe, tmp_path: Path, name: str):
    path = write(tmp_path / f"{name}.tsv", [("right", "x")])
    source = f"./{path.relative_to(tmp_path)}"
    found = resolve(write_recipe(data={"train": source, "validation": str(path), "text": "sentence"})).train
    assert isinstance(found, Path) and texts(found, tmp_path / "work [x]*") == ["right"]


@pytest.mark.parametrize("suffix", [".csv", ".CSV", ".Tsv", ".jsonl", ".JSONL", ".parquet", ".Parquet"])
def test_patterns_in_a_path_do_not_name_other_files(tmp_path: Path, suffix: str):
    for name in ("a1", "ax", "b"):
        write(tmp_path / "d1" / f"{name}{suffix}", [("wrong", "x")])
    for name in ("a[1]", "a*", "?", "[ab]", "**"):
        path = write(tmp_path / "d[1]" / f"{name}{suffix}", [("right", "x")])
        assert texts(path, tmp_path / "work" / name) == ["right"]


def test_two_files_of_one_name_are_two(tmp_path: Path):
    for index in range(3):
        path = write(tmp_path / str(index) / "a.csv", [(f"text {index}", "x")])
        assert texts(path, tmp_path / "work") == [f"text {index}"]


def test_links_are_read_by_the_name_of_the_link(write_recipe: WriteRecipe, tmp_path: Path):
    blobs = tmp_path / "blobs"
    write(blobs / "rows.tsv", [("linked", "x")]).rename(blobs / "0f1e2d")
    (tmp_path / "link.tsv").symlink_to("blobs/0f1e2d")
    (tmp_path / "folder").symlink_to("blobs")
    (blobs / "in.tsv").symlink_to("0f1e2d")
    for name in ("link.tsv", "folder/in.tsv", "folder/../link.tsv"):
        found = resolve(write_recipe(data={"train": name, "validation": "link.tsv", "text": "sentence"})).train
        assert isinstance(found, Path) and texts(found, tmp_path / f"work{len(name)}") == ["linked"]


def test_links_that_lead_nowhere_or_in_circles_are_refused(write_recipe: WriteRecipe, tmp_path: Path):
    (tmp_path / "a.tsv").symlink_to("b.tsv")
    (tmp_path / "b.tsv").symlink_to("a.tsv")
    (tmp_path / "c.tsv").symlink_to("nowhere.tsv")
    for name in ("a.tsv", "c.tsv"):
        with refused("data.train", "not_found"):
            resolve(write_recipe(data={"train": name, "text": "sentence"}))


def test_a_folder_of_links_is_a_checkpoint(write_recipe: WriteRecipe, tmp_path: Path):
    real = save_encoder(tmp_path / "blobs")
    linked = tmp_path / "model [1]*"
    linked.mkdir()
    for path in real.iterdir():
        (linked / path.name).symlink_to(path)
    (tmp_path / "whole").symlink_to(linked)
    for name in ("model [1]*", "whole"):
        assert resolve(write_recipe(model=name)).model == tmp_path / name


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("x" * 5000, "not_found"),
        ("x/" * 3000, "not_found"),
        ("train.tsv/x.tsv", "not_found"),
        (".", "not_found"),
        ("", "not_found"),
        ("/dev/null", "not_found"),
        ("package:", "not_found"),
        ("package:os/../x.tsv", "not_found"),
        ("package:yaml/../../x.tsv", "not_found"),
        ("package:yaml//etc/passwd", "not_found"),
        ("package:²/x.tsv", "not_found"),
        ("package:" + "x" * 5000, "not_found"),
        ("package:yaml/" + "x" * 5000, "not_found"),
        ("~nobody-is-called-so/x.tsv", "not_found"),
        ("recipe.yaml", "unsupported"),
    ],
)
def test_paths_that_name_no_rows(write_recipe: WriteRecipe, name: str, kind: str):
    with refused("data.train", kind):
        resolve(write_recipe(data={"train": name, "text": "sentence"}))


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
@pytest.mark.parametrize(
    "content",
    [
        b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 5\n",
        b"\xef\xbb\xbf<!DOCTYPE html><html>",
        b"\n  <HTML lang=en>",
        b"",
        b"\x1f\x8b\x08\x00sentence,label\n\xff",
        "sentence,label\n".encode("utf-16"),
        b"PAR1 and no more",
    ],
)
def test_files_that_are_something_else(write_recipe: WriteRecipe, tmp_path: Path, suffix: str, content: bytes):
    path = write_recipe(data={"train": f"rows{suffix}", "validation": "dev.tsv", "text": "sentence"})
    (tmp_path / f"rows{suffix}").write_bytes(content)
    where, kind = (
        ("data.text", "missing")
        if content.startswith(b"PAR1") and suffix in (".csv", ".tsv")
        else ("data.train", "unreadable")
    )
    with refused(where, kind):
        resolve(path)


def test_a_run_reads_links_and_odd_names(write_recipe: WriteRecipe, tmp_path: Path):
    """Up to the rows: what is planned is what is read."""
    from compressor.pipeline import plan

    path = write_recipe(data={"train": "o[d]*d.TSV", "validation": "dev.tsv", "text": "sentence"})
    (tmp_path / "train.tsv").rename(tmp_path / "blob")
    (tmp_path / "o[d]*d.TSV").symlink_to("blob")
    resolved = resolve(path)
    made = plan.make(resolved, download=False)
    assert all(stage.key for stage in made.stages)
