"""Rows: read as text, filtered, split and sampled; what cannot be learned is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Dataset
from problems import refused

from compressor.data import columns, splits, text_rows
from compressor.data.spec import DataSpec

COLUMNS = {"text": "text", "label": "label"}


@pytest.fixture
def prepare(tmp_path: Path):
    def run(
        source: Path,
        validation: Path | None = None,
        seed: int = 0,
        columns=None,
        new_head: bool = True,
        selects: bool = False,
        **spec: Any,
    ) -> dict[str, Any]:
        output, work = tmp_path / f"out{len(list(tmp_path.glob('out*')))}", tmp_path / "work"
        output.mkdir()
        work.mkdir(exist_ok=True)
        data = DataSpec(train="x", **spec)
        given = (text_rows, data, source, validation, columns or COLUMNS, seed, output, work)
        facts = splits.prepare(*given, new_head=new_head, selects=selects)
        return {**facts, "rows": {path.name: splits.load(path) for path in output.iterdir()}}

    return run


def write(path: Path, texts: list[str], labels: list[Any]) -> Path:
    lines = ["text,label", *(f'"{text}",{label}' for text, label in zip(texts, labels, strict=True))]
    path.write_text("\n".join(lines) + "\n")
    return path


def many(path: Path, count: int = 200) -> Path:
    return write(path, [f"text {i}" for i in range(count)], [i % 2 for i in range(count)])


def test_words_that_look_like_nothing_or_numbers_stay_words(prepare, tmp_path: Path):
    texts = ["null", "NA", "None", "1.50", "true", "nan", 'a ""quoted"" word', "two\nlines"]
    found = prepare(write(tmp_path / "a.csv", texts * 3, [0, 1] * 12), validation_fraction=0.3)
    seen = {text for split in found["rows"].values() for text in split["text"]}
    assert seen == {text.replace('""', '"') for text in texts}
    assert found["labels"] == ["0", "1"]


def test_tsv_has_no_quoting(prepare, tmp_path: Path):
    path = tmp_path / "a.tsv"
    path.write_text("text\tlabel\n" + '"half a quote\t1\nplain\t0\n' * 10)
    found = prepare(path, path)
    assert set(found["rows"]["train"]["text"]) == {'"half a quote', "plain"}


def test_jsonl_and_parquet_give_the_same_rows_as_csv(prepare, tmp_path: Path):
    import pyarrow
    from pyarrow import parquet

    texts, labels = [f"text {i}" for i in range(20)], [i % 2 == 0 for i in range(20)]
    (tmp_path / "a.jsonl").write_text(
        "\n".join(json.dumps({"text": t, "label": label}) for t, label in zip(texts, labels, strict=True))
    )
    parquet.write_table(pyarrow.table({"text": texts, "label": labels}), tmp_path / "a.parquet")
    csv = write(tmp_path / "a.csv", texts, [str(label).lower() for label in labels])
    found = [prepare(path, path) for path in (csv, tmp_path / "a.jsonl", tmp_path / "a.parquet")]
    assert all(entry["labels"] == ["false", "true"] for entry in found)
    assert len({tuple(entry["rows"]["train"]["label"]) for entry in found}) == 1


def test_split_by_hash_is_stable_and_keeps_equal_texts_together(prepare, tmp_path: Path):
    first = prepare(many(tmp_path / "a.csv", 1000), validation_fraction=0.2)
    assert 150 < first["validation"] < 250
    again = prepare(many(tmp_path / "a.csv", 1000), validation_fraction=0.2, seed=9)
    assert first["rows"]["validation"]["text"] == again["rows"]["validation"]["text"], "the held-out rows do not move"
    texts = [f"text {i % 50}" for i in range(500)]
    twins = prepare(write(tmp_path / "b.csv", texts, [i % 2 for i in range(500)]), validation_fraction=0.3)
    assert not set(twins["rows"]["train"]["text"]) & set(twins["rows"]["validation"]["text"])


def test_samples_are_drawn_by_seed(prepare, tmp_path: Path):
    path = many(tmp_path / "a.csv")
    draws = [prepare(path, path, seed=seed, max_train_samples=50)["rows"]["train"]["text"] for seed in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]
    assert len(draws[0]) == 50
    assert prepare(path, path, max_validation_samples=30)["validation"] == 30


def test_where_keeps_matching_rows(prepare, tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_text("text,label,year\n" + "".join(f"t{i},{i % 2},{2000 + i % 5}\n" for i in range(80)))
    assert prepare(path, path, where={"year": 2001})["train"] == 16
    with refused("data.where", "value"):
        prepare(path, path, where={"year": 1999})


def test_labels_are_ordered_as_numbers_when_they_are(prepare, tmp_path: Path):
    texts = [f"t{i}" for i in range(60)]
    assert prepare(*[write(tmp_path / "a.csv", texts, [i % 12 for i in range(60)])] * 2)["labels"][-1] == "11"
    named = write(tmp_path / "b.csv", texts, [("b", "a", "10")[i % 3] for i in range(60)])
    assert prepare(named, named)["labels"] == ["10", "a", "b"]


def test_a_single_label_cannot_be_learned_and_can_be_scored(prepare, tmp_path: Path):
    path = write(tmp_path / "a.csv", [f"t{i}" for i in range(20)], [0] * 20)
    with refused("data.label", "value"):
        prepare(path, path)
    assert prepare(path, path, new_head=False)["labels"] == ["0"]


def test_rare_labels_are_noted(prepare, tmp_path: Path):
    path = write(tmp_path / "a.csv", [f"t{i}" for i in range(21)], [0, 1] * 10 + [2])
    found = prepare(path, many(tmp_path / "v.csv"))
    assert found["labels"] == ["0", "1", "2"] and any(
        "one row only" in note and "'2'" in note for note in found["notes"]
    )
    drawn = [prepare(path, path, seed=seed, max_train_samples=10) for seed in range(5)]
    assert all(one["labels"] == ["0", "1", "2"] for one in drawn), "the head has an output for what was not drawn, too"
    assert any("no row" in note for one in drawn for note in one["notes"])


def test_labels_are_renamed_and_merged(prepare, tmp_path: Path):
    path = write(tmp_path / "a.csv", [f"t{i}" for i in range(21)], [0, 1] * 10 + [7])
    found = prepare(path, path, labels={0: "bad", "1": "good", "7": "good"})
    assert found["labels"] == ["bad", "good"] and not any("one row" in note for note in found["notes"])


def test_odd_labels_are_texts(prepare, tmp_path: Path):
    odd = ["-1", "①", "²", "--1", "1.0", " 1", "１", "01", "9" * 5000, "10", "9"]
    path = write(tmp_path / "a.csv", [f"t{i}" for i in range(22)], odd * 2)
    found = prepare(path, path)["labels"]
    assert found[:3] == ["-1", "9", "10"] and set(found) == set(odd)


def overlaps(found: dict[str, Any]) -> list[str]:
    return [note.split(" validation rows")[0] for note in found["notes"] if "say little about new rows" in note]


def test_what_is_trained_on_and_scored_is_noted(prepare, tmp_path: Path):
    train = write(tmp_path / "a.csv", [f"text {i}" for i in range(20)], [0, 1] * 10)
    texts = ["Text  3", "text 4", *(f"new {i}" for i in range(6))]
    assert overlaps(prepare(train, write(tmp_path / "v.csv", texts, [0, 1] * 4))) == ["2 of 8"]
    assert overlaps(prepare(train, write(tmp_path / "w.csv", texts[2:], [0, 1] * 3))) == []
    pairs = tmp_path / "p.csv"
    pairs.write_text("text,other,label\n" + "".join(f"a{i},b{i},{i % 2}\n" for i in range(8)))
    held = tmp_path / "q.csv"
    held.write_text("text,other,label\na1,b1,0\na1,c,1\nc,b2,0\nc,d,1\n")
    columns = {"text": "text", "text_pair": "other", "label": "label"}
    assert overlaps(prepare(pairs, held, columns=columns)) == ["1 of 4", "2 of 4"]


def test_pairs_with_a_text_in_common_are_on_one_side(prepare, tmp_path: Path):
    path, columns = tmp_path / "p.csv", {"text": "text", "text_pair": "other", "label": "label"}
    rows = [f"a{i // 3},b{i // 2},{i % 2}\n" if i % 5 else f"x{i},y{i},{i % 2}\n" for i in range(900)]
    path.write_text("text,other,label\n" + "".join(rows))
    found = prepare(path, columns=columns, validation_fraction=0.2)
    assert 90 < found["validation"] < 300 and not overlaps(found)
    path.write_text("text,other,label\n" + "".join(f"a{i},b,{i % 2}\n" for i in range(300)))  # all share one text
    found = prepare(path, columns=columns, validation_fraction=0.2)
    assert 30 < found["validation"] < 100 and overlaps(found) == [f"{found['validation']} of {found['validation']}"]


def test_a_validation_label_that_training_never_sees(prepare, tmp_path: Path):
    with refused("data.label", "unknown"):
        prepare(many(tmp_path / "a.csv"), write(tmp_path / "v.csv", ["x", "y"], [1, 7]))


def test_a_text_column_taken_for_labels(prepare, tmp_path: Path):
    path = write(tmp_path / "a.csv", [str(i % 2) for i in range(400)], [f"id{i // 2}" for i in range(400)])
    with refused("data.label", "value"):
        prepare(path, path)


def test_rows_with_holes_are_named(prepare, tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_text("text,label\na,1\nb,\nc,0\n")
    with refused("data.train", "missing"):
        prepare(path, many(tmp_path / "v.csv"))


@pytest.mark.parametrize("content", ["text,label\n", ""])
def test_no_rows(prepare, tmp_path: Path, content: str):
    path = tmp_path / "a.csv"
    path.write_text(content)
    with refused("data.train", "missing"):
        prepare(path, many(tmp_path / "v.csv"))


def test_a_broken_file(prepare, tmp_path: Path):
    path = tmp_path / "a.parquet"
    path.write_bytes(b"not parquet")
    with refused("data.train", "unreadable"):
        prepare(path, path)
    path = tmp_path / "a.csv"
    path.write_text('text,label\n"open quote,1\n')
    with refused("data.train", "unreadable"):
        prepare(path, path)


def test_a_split_that_leaves_nothing(prepare, tmp_path: Path):
    path = write(tmp_path / "a.csv", ["same"] * 20, [0, 1] * 10)
    with refused("data.train", "missing"):
        prepare(path, validation_fraction=0.5)


def test_a_named_column_groups_rows(prepare, tmp_path: Path):
    lines = ["text,label,user", *(f"text {index},{index % 2},user {index % 50}" for index in range(400))]
    path = tmp_path / "a.csv"
    path.write_text("\n".join(lines))
    columns = {**COLUMNS, "group": "user"}
    found = prepare(path, columns=columns, group="user", validation_fraction=0.2)
    sides = [set(found["rows"][name]["group"]) for name in ("train", "validation")]
    assert not sides[0] & sides[1] and 3 <= len(sides[1]) <= 25
    assert list(splits.groups(text_rows, found["rows"]["validation"])) == list(found["rows"]["validation"]["group"])
    again = prepare(path, path, columns=columns, group="user")
    assert any("400 of 400 validation rows (100.0 %) are of groups" in note for note in again["notes"])
    (tmp_path / "b.csv").write_text("text,label,user\na,0,\n")
    with refused("data.train", "missing"):
        prepare(tmp_path / "b.csv", columns=columns, group="user")


def choosing(prepare, path: Path, **spec: Any) -> tuple[dict[str, Any], dict[str, set[str]]]:
    """What is prepared where a budget of quality chooses, and the texts of each split."""
    found = prepare(path, selects=True, **spec)
    return found, {name: set(rows["text"]) for name, rows in found["rows"].items()}


def test_rows_that_choose_neither_teach_nor_judge(prepare, tmp_path: Path):
    path = many(tmp_path / "a.csv", 1000)
    plain = prepare(path)
    found, texts = choosing(prepare, path)
    assert "selection" not in plain and found["labels"] == plain["labels"]
    assert texts["validation"] == set(plain["rows"]["validation"]["text"]), "what judges does not change"
    assert texts["train"] | texts["selection"] == set(plain["rows"]["train"]["text"])
    assert not texts["train"] & texts["selection"]
    assert 60 < found["selection"] == len(texts["selection"]) < 140
    assert any(f"{found['selection']} training rows are not trained on" in note for note in found["notes"])
    again, others = choosing(prepare, path, validation_fraction=0.02)
    assert again["selection"] <= 60, "as many as are validated on, about"
    assert not others["validation"] & others["selection"]


def test_a_label_of_the_rows_that_choose_is_a_label_of_the_head(prepare, tmp_path: Path):
    path = write(tmp_path / "a.csv", [f"text {i}" for i in range(600)], [f"l{i % 300}" for i in range(600)])
    found, _ = choosing(prepare, path, max_train_samples=20, new_head=False)
    assert len(found["labels"]) == 300


def test_too_few_rows_to_hold_some_out(prepare, tmp_path: Path):
    path = many(tmp_path / "a.csv", 6)
    found = prepare(path, path, selects=True)
    assert "selection" not in found and any("too few training rows" in note for note in found["notes"])


def test_rows_of_a_group_choose_together(prepare, tmp_path: Path):
    path = tmp_path / "a.csv"
    path.write_text("text,label,doc\n" + "".join(f"t{i},{i % 2},d{i // 10}\n" for i in range(400)))
    found, _ = choosing(prepare, path, columns={**COLUMNS, "group": "doc"}, group="doc")
    groups = {name: set(rows["group"]) for name, rows in found["rows"].items()}
    assert found["selection"] and not groups["selection"] & (groups["train"] | groups["validation"])


def test_a_selection_is_saved_as_what_it_holds_in_large_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(columns, "_BATCH_BYTES", 50_000)
    rows = Dataset.from_dict({"text": [f"text {index}" for index in range(5000)], "ids": [[1, 2]] * 5000})
    chosen = np.random.default_rng(0).permutation(5000)[:2500]
    splits.save(rows.select(chosen), tmp_path / "rows")
    found = splits.load(tmp_path / "rows")
    assert found[:] == rows[chosen]
    assert found.features == rows.features
    assert found.data.column("text").num_chunks == 2  # of a thousand rows each at most, until there are 50 kB
