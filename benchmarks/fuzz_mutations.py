"""Mutations of a small recipe: wrong by construction, harmless by construction, or either."""

# ruff: noqa: E501 -- lists of values, which are easier to read in long lines

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import yaml

WRONG, HARMLESS, EITHER = "wrong", "harmless", "either"

Mutate = Callable[[Random, Path], "list[str] | None"]


class Mutation(NamedTuple):
    """One kind of mutation.

    Attributes:
        name: Its name.
        what: What it mutates: `recipe`, `data` or `checkpoint`.
        is_: Whether the result is wrong, harmless, or either.
        apply: Changes the files of a folder; returns more arguments of the command, if any.
        runs: Whether only `run` can see it, as it reads all rows.
    """

    name: str
    what: str
    is_: str
    apply: Mutate
    runs: bool = False


MUTATIONS: list[Mutation] = []


def mutation(what: str, is_: str, runs: bool = False) -> Callable[[Mutate], Mutate]:
    """Adds a function to the mutations; its arguments are the fields of `Mutation`."""

    def add(function: Mutate) -> Mutate:
        MUTATIONS.append(Mutation(function.__name__.strip("_"), what, is_, function, runs))
        return function

    return add


def read(folder: Path) -> Any:
    """The recipe."""
    return yaml.safe_load((folder / "recipe.yaml").read_text(encoding="utf-8"))


def write(folder: Path, recipe: Any) -> None:
    """Replaces the recipe."""
    (folder / "recipe.yaml").write_text(yaml.safe_dump(recipe, sort_keys=False), encoding="utf-8")


def places(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The locations of all values of a document."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, part in inner for place in ((*at, key), *places(part, (*at, key)))]


def put(document: Any, place: tuple[Any, ...], value: Any) -> Any:
    """A copy of a document with another value at a place."""
    changed = copy.deepcopy(document)
    target = changed
    for key in place[:-1]:
        target = target[key]
    target[place[-1]] = value
    return changed


HOSTILE: list[Any] = [
    None, True, -1, 0, 10**9, 10**30, int("9" * 4000), 1.5, -0.0, float("inf"), float("nan"), "", " ", "x" * 5000, "²", "\x1b[31mred",
    "[red]a[/]", "[/]", "a\nb", "~nobody/x", "~", "/", ".", "..", "../" * 2000, "package:", "package:os/../x", "package:²/x", "a:b", "::",
    "hf://x", "*", "[", "%s{}", "\u202e", "💥", [], {}, [[]], {"a": None}, ["a"] * 300, [None], {"stage": "finetune"}, "x\x00",
]  # fmt: skip
WORDS = [
    "epochs",
    "stage",
    "gates",
    "x",
    "name",
    "<<",
    "",
    "²",
    "data",
    "model",
    "a.b",
    "\x1b[0m",
    "[red]",
    "__class__",
]


@mutation("recipe", EITHER)
def _hostile_value(random: Random, folder: Path) -> None:
    recipe = read(folder)
    write(folder, put(recipe, random.choice(places(recipe)), random.choice(HOSTILE)))


@mutation("recipe", EITHER)
def _several_hostile_values(random: Random, folder: Path) -> None:
    recipe = read(folder)
    for _ in range(random.randint(2, 5)):
        if found := places(recipe):
            recipe = put(recipe, random.choice(found), random.choice(HOSTILE))
    write(folder, recipe)


@mutation("recipe", EITHER)
def _spoiled_bytes(random: Random, folder: Path) -> None:
    path = folder / "recipe.yaml"
    content = bytearray(path.read_bytes())
    for _ in range(random.randint(1, 6)):
        at = random.randrange(len(content))
        content[at : at + random.choice((0, 1, 9))] = random.choice(
            (bytes([random.randrange(256)]), b"\n", b"  ", b"&a ", b"*a", b"!!int ", b": ", b"- ", b"{", b"]", b'"', b"<<: ", b"\t", b"|\n")
        )  # fmt: skip
    path.write_bytes(content)


@mutation("recipe", EITHER)
def _set(random: Random, folder: Path) -> list[str]:
    keys = [
        random.choice(
            ("stages", "data", "²", "9" * 5000, "0", "1", "finetune", "gates", "seed", "x" * 300, "-1", "where")
        )
    ]
    keys += [
        random.choice(("0", "1", "-1", "²", "9" * 4500, "epochs", "quantize", "name", "x"))
        for _ in range(random.randint(0, 3))
    ]
    value = random.choice(
        ("1", "", "{", "[[", "null", "!!int x", "*a", "&a [*a]", "9" * 5000, "x: y", "~", "\x1b[1m", "[" * 2000, "'")
    )
    return ["--set", f"{'.'.join(keys)}={value}"]


@mutation("recipe", WRONG)
def _unknown_key(random: Random, folder: Path) -> None:
    recipe = read(folder)
    spots = [p for p in [(), *places(recipe)] if p[:2] != ("data", "where") and isinstance(_at(recipe, p), dict)]
    spots = [p for p in spots if p[-1:] != ("gates",)]
    write(
        folder, put(recipe, (*random.choice(spots), random.choice(("bogus", "²", "[red]", "x" * 3000, "\x1b[31m"))), 1)
    )


@mutation("recipe", WRONG)
def _missing_key(random: Random, folder: Path) -> None:
    recipe = read(folder)
    key = random.choice(("schema_version", "name", "task", "model", "data", "stages"))
    write(folder, {name: value for name, value in recipe.items() if name != key})


@mutation("recipe", WRONG)
def _wrong_value(random: Random, folder: Path) -> None:
    place, value = random.choice(
        [
            (("seed",), -1), (("seed",), 2**32), (("schema_version",), 2), (("name",), "a/b"), (("name",), "x" * 5000 + "/"),
            (("task",), "classify"), (("model",), "/nowhere/at/all"), (("data", "train"), "none.tsv"), (("data", "train"), "x" * 5000),
            (("data", "text"), "nope"), (("data", "label"), "nope"), (("data", "where"), {"nope": 1}), (("stages",), []),
            (("stages", 0, "epochs"), -1), (("stages", 0, "epochs"), "1:30"), (("stages", 0, "learning_rate"), 0), (("stages", 0, "stage"), "x"),
            (("stages", 0, "batch_size"), 10**30), (("stages", 0, "gates"), {"nope": {"min": 1}}), (("stages", 0, "gates"), {"accuracy": {}}),
            (("stages", 1, "stage"), "finetun"), (("measure", "runs"), 0), (("measure", "threads"), "2"), (("measure", "sequence_length"), 4096),
            (("stages", 0), None), (("stages", 0, "max_sequence_length"), 10**6), (("data", "train"), "."), (("model",), "a\x00b"),
        ]
    )  # fmt: skip
    write(folder, put(read(folder), place, value))


@mutation("recipe", WRONG)
def _absurd_gate(random: Random, folder: Path) -> None:
    metric, gate = random.choice(
        [
            ("accuracy", {"min": 95}), ("accuracy", {"min": -1}), ("accuracy", {"min_retention": 100}), ("accuracy", {"max_drop": 2}),
            ("latency_p50_ms", {"min_speedup": -1}), ("latency_p50_ms", {"max": 0}), ("size_bytes", {"max": -1}), ("accuracy", {"min": 10**400}),
            ("accuracy", {"min": "0.8"}), ("accuracy", {"min": True}), ("accuracy", 0.8), ("accuracy", []), ("f1[x", {"min": 0.5}),
        ]
    )  # fmt: skip
    write(folder, put(read(folder), ("stages", 0, "gates"), {metric: gate}))


@mutation("recipe", WRONG)
def _wrong_document(random: Random, folder: Path) -> None:
    path = folder / "recipe.yaml"
    text = path.read_text(encoding="utf-8")
    laughs = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12))
    path.write_text(
        random.choice(
            [
                f"{text}seed: &a [*a]\n", f"{text}{laughs}", f"{text}seed: {'[' * 3000}{']' * 3000}\n", f"{text}seed: !!int x\n",
                f"{text}seed: {'9' * 5000}\n", f'{text}seed: "\\0"\n', f"{text}name: again\n", f"{text}---\n{text}", f"{text}\tseed: 1\n",
                f"{text}seed: !!python/object/apply:os.getcwd []\n", f'{text}model: "\\ud800"\n', f"{text}<<: 1\n", f"{text}? [a]\n: 1\n",
                "", "- a\n", "null\n", "a\n", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "<!DOCTYPE html>\n<html>",
            ]
        ),
        encoding="utf-8",
    )  # fmt: skip


@mutation("recipe", HARMLESS)
def _other_form(random: Random, folder: Path) -> None:
    path = folder / "recipe.yaml"
    recipe, text = read(folder), path.read_text(encoding="utf-8")
    base = {k: v for k, v in recipe["stages"][0].items() if k != "stage"}
    merged = yaml.safe_dump({"stages": [{"stage": "finetune", **base}]}, sort_keys=False).replace(
        "- stage: finetune", "- stage: finetune\n  <<: {}"
    )
    forms = [
        json.dumps(recipe), json.dumps(recipe, indent=2), text.replace("\n", "\r\n"), "\ufeff" + text, "---\n" + text, text.rstrip("\n"),
        "# a comment\n\n" + text.replace("\n", "  # why\n"), yaml.safe_dump(dict(reversed(recipe.items())), sort_keys=False),
        yaml.safe_dump(recipe, default_flow_style=True), yaml.safe_dump(recipe, default_style='"').replace("!!int ", "!!int "), text + "...\n",
        yaml.safe_dump({k: v for k, v in recipe.items() if k != "stages"}) + merged + yaml.safe_dump(recipe["stages"][1:]),
    ]  # fmt: skip
    path.write_text(random.choice(forms), encoding="utf-8", newline="")


@mutation("recipe", HARMLESS)
def _other_paths(random: Random, folder: Path) -> None:
    recipe = read(folder)
    name = random.choice(["[0-9].tsv", "a[b]*.tsv", "what?.tsv", "Ümläut 行.tsv", "TRAIN.TSV", "x.Tsv", " .tsv", "a::b.tsv", "%41{}.tsv", "~x.tsv",
                          "[red].tsv", "\x1b[31m.tsv", "#.tsv", "-.tsv", "a b/c[d]/e.tsv", ".hidden/x.tsv", "link.tsv", "README.tsv"])  # fmt: skip
    target = folder / name
    target.parent.mkdir(parents=True, exist_ok=True)
    if name == "link.tsv":
        (folder / "blob").write_bytes((folder / "train.tsv").read_bytes())
        target.symlink_to("blob")
    else:
        shutil.copy(folder / "train.tsv", target)
    recipe["data"]["train"] = random.choice([name, str(target), f"./{name}"]) if name[0] != "~" else f"./{name}"
    write(folder, recipe)


def _at(document: Any, place: tuple[Any, ...]) -> Any:
    for key in place:
        document = document[key]
    return document
