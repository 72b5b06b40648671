"""Mutations of a small recipe's rows and checkpoint: wrong by construction or harmless by construction."""

# ruff: noqa: E501 -- lists of values, which are easier to read in long lines

from __future__ import annotations

import json
import struct
from pathlib import Path
from random import Random
from typing import Any

from fuzz_mutations import HARMLESS, WRONG, mutation, put, read, write


@mutation("checkpoint", HARMLESS)
def _harmless_checkpoint(random: Random, folder: Path) -> None:
    model, config = folder / "model", json.loads((folder / "model/config.json").read_text())
    choice = random.randrange(6)
    if choice == 0:
        (model / "config.json").write_text(json.dumps(dict(reversed(config.items()))))
    elif choice == 1:
        (model / "config.json").write_text(
            json.dumps({**config, "torch_dtype": "float32", "unknown": [1], "transformers_version": "4.0"})
        )
    elif choice == 2:
        for extra in ("README.md", "notes.txt", "generation_config.json", ".gitattributes"):
            (model / extra).write_text("{}")
    elif choice == 3:
        (folder / "odd [name]*").mkdir()
        model.rename(folder / "odd [name]*" / "m")
        write(folder, {**read(folder), "model": "odd [name]*/m"})
    elif choice == 4:
        model.rename(folder / "real")
        model.symlink_to("real")
    else:
        (folder / "blobs").mkdir()
        for index, path in enumerate(sorted(model.iterdir())):
            path.rename(folder / "blobs" / str(index))
            path.symlink_to(f"../blobs/{index}")


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393\nsize 12345\n"
PAGE = b"<!DOCTYPE html>\n<html><head><title>404</title></head></html>\n"
NESTED = b"[" * 100_000 + b"]" * 100_000


@mutation("checkpoint", WRONG)
def _config_of_another_form(random: Random, folder: Path) -> None:
    forms = [
        b"[]",
        b"null",
        b"1",
        b'"x"',
        b"",
        b"{",
        b"\xff\xfe{",
        NESTED,
        POINTER,
        PAGE,
        b"{}",
        b'{"a":' * 50_000 + b"1" + b"}" * 50_000,
    ]
    (folder / "model/config.json").write_bytes(random.choice(forms))


@mutation("checkpoint", WRONG)
def _config_of_wrong_values(random: Random, folder: Path) -> None:
    path = folder / "model/config.json"
    key, values = random.choice(
        [
            ("num_attention_heads", [0, -1, None, "4", 3, 10**9, 1.5, [4]]), ("hidden_size", [0, None, -32, "32", 33, 10**12]),
            ("num_hidden_layers", [0, -1, None, 10**6, 10**30, "4", 2]), ("model_type", ["gpt2", None, 1, [], "\x1b[31m"]),
            ("vocab_size", [0, None, -1, 10, 10**9, "a"]), ("intermediate_size", [0, None, -1, 63, "b"]),
            ("max_position_embeddings", [0, None, -1, 10**9, "c"]), ("hidden_act", ["gelou", "", 1, None, [], "prelu"]),
        ]
    )  # fmt: skip
    path.write_text(json.dumps({**json.loads(path.read_text()), key: random.choice(values)}))


@mutation("checkpoint", WRONG)
def _weights_that_are_none(random: Random, folder: Path) -> None:
    path = folder / "model/model.safetensors"
    whole = path.read_bytes()
    headers = [
        b"[]",
        b"null",
        b"{}",
        NESTED,
        b'{"a": 1}',
        b'{"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}',
        b"x" * 50,
    ]
    forms = [
        b"",
        whole[:5],
        whole[:100],
        whole[: len(whole) // 2],
        POINTER,
        PAGE,
        b"\xff" * 64,
        struct.pack("<Q", 2**62) + whole[8:],
    ]
    forms += [struct.pack("<Q", len(header)) + header for header in headers]
    path.write_bytes(random.choice(forms))


@mutation("checkpoint", WRONG)
def _tokenizer_that_is_none(random: Random, folder: Path) -> None:
    path = folder / "model/tokenizer.json"
    if random.random() < 0.3:
        path.unlink()
        return
    path.write_bytes(random.choice([b"", b"[]", b"null", b"{", NESTED, POINTER, PAGE, path.read_bytes()[:200]]))


@mutation("data", WRONG)
def _rows_that_are_none(random: Random, folder: Path) -> None:
    path = folder / "train.tsv"
    whole = path.read_bytes()
    path.write_bytes(random.choice([b"", POINTER, PAGE, b"\x1f\x8b\x08\x00" + whole, b"PK\x03\x04" + whole, b"\n\n\n", whole.replace(b"label", b"lable", 1),
                                    whole.decode().encode("utf-16"), b"PAR1" + bytes(random.randrange(256) for _ in range(200))]))  # fmt: skip


@mutation("data", WRONG, runs=True)
def _tables_of_another_form(random: Random, folder: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    columns: list[dict[str, Any]] = [
        {"sentence": [["a"], ["b"]] * 9, "label": ["x", "y"] * 9},
        {"sentence": [{"a": 1}, {"a": 2}] * 9, "label": ["x", "y"] * 9},
        {"sentence": ["a", "b"] * 9, "label": [["x"], ["y"]] * 9},
        {"sentence": [b"\xff", b"\xfe"] * 9, "label": ["x", "y"] * 9},
        {"sentence": [], "label": []},
    ]
    if random.random() < 0.2:
        (folder / "rows.tsv").write_text("sentence\tlabel\n")
        write(folder, put(read(folder), ("data", "train"), "rows.tsv"))
        return
    parquet.write_table(pyarrow.table(random.choice(columns)), folder / "rows.parquet")
    write(folder, put(read(folder), ("data", "train"), "rows.parquet"))


@mutation("data", WRONG, runs=True)
def _rows_that_are_wrong(random: Random, folder: Path) -> None:
    recipe, path = read(folder), folder / "train.tsv"
    rows = [line.split("\t") for line in path.read_text().splitlines()[1:]]
    form = random.choice(["jsonl", "csv", "tsv"])
    if form == "tsv":
        lines = path.read_text().splitlines()
        lines[random.randrange(1, len(lines))] += random.choice(["\textra", "\ta\tb\tc"])
        path.write_text("\n".join(lines) + "\n")
        return
    if form == "csv":
        lines = ["sentence,label", *(",".join(row) for row in rows)]
        lines[random.randrange(1, len(lines))] = random.choice(
            ["a film, good,positive", '"unclosed,positive', "a\x00b,positive"]
        )
    else:
        entries = [json.dumps({"sentence": text, "label": label}) for text, label in rows]
        bad: list[Any] = ["[1]", "null", "{", '{"sentence": ["a"], "label": "positive"}', '{"sentence": {"a": 1}, "label": "positive"}', '{"sentence": "a"}',
                          '{"sentence": "a", "label": ["positive"]}', '{"sentence": "a", "label": NaN}', '{"sentence": NaN, "label": "positive"}']  # fmt: skip
        entries[random.randrange(len(entries))] = random.choice(bad)
        lines = entries
    (folder / f"rows.{form}").write_text("\n".join(lines) + "\n")
    write(folder, put(recipe, ("data", "train"), f"rows.{form}"))


@mutation("data", HARMLESS, runs=True)
def _other_rows(random: Random, folder: Path) -> None:
    recipe, path = read(folder), folder / "train.tsv"
    text = path.read_text()
    rows = [line.split("\t") for line in text.splitlines()[1:]]
    form = random.choice(["crlf", "bom", "short", "column", "order", "csv", "jsonl", "CSV"])
    if form in ("crlf", "bom", "short"):
        path.write_bytes(
            {"crlf": text.replace("\n", "\r\n"), "bom": "\ufeff" + text, "short": text.rstrip("\n")}[form].encode()
        )
    elif form == "column":
        path.write_text("\n".join(f"{line}\t{index}" for index, line in enumerate(text.splitlines())) + "\n")
    elif form == "order":
        path.write_text("\n".join(["sentence\tlabel", *("\t".join(row) for row in random.sample(rows, len(rows)))]))
    else:
        name = f"odd [{random.randrange(10)}]*.{form}"
        if form == "jsonl":
            content = "".join(
                json.dumps({"label": label, "sentence": words, "more": [1]}) + "\n" for words, label in rows
            )
        else:
            content = "label,sentence\n" + "".join(f'{label},"{words}, ""so"""\n' for words, label in rows)
        (folder / name).write_text(content)
        write(folder, put(recipe, ("data", "train"), name))
