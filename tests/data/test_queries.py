"""Rows that are candidates for queries: kept together, drawn whole, and refused where there is nothing to rank."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from problems import refused

from compressor.data import number_rows, queries, splits
from compressor.data.spec import DataSpec

COLUMNS = {"text": "question", "text_pair": "passage", "label": "relevance", "query": "id"}
Row = tuple[str, str, str, str, str]


def made(count: int, each: int = 4, relevant: str = "1", topics: int = 5) -> list[Row]:
    """Rows of queries with a relevant row each, those of one query far apart in the file."""
    return [
        (f"q{query}", f"question {query}", f"passage {query} {index}", relevant if index == 0 else "0",
         f"t{query % topics}")
        for index in range(each)
        for query in range(count)
    ]  # fmt: skip


@pytest.fixture
def prepare(tmp_path: Path):
    def run(rows: list[Row], validation: list[Row] | None = None, **given: Any) -> dict[str, Any]:
        output, work = tmp_path / "out", tmp_path / "work"
        paths = []
        for name, found in (("train", rows), ("validation", validation)):
            path = tmp_path / f"{name}.tsv"
            lines = ["id\tquestion\tpassage\trelevance\ttopic", *("\t".join(row) for row in found or ())]
            path.write_text("\n".join(lines) + "\n")
            paths.append(path if found else None)
        for folder in (output, work):
            folder.mkdir()
        columns = {**COLUMNS, **({"group": given["group"]} if "group" in given else {})}
        selects = given.pop("selects", False)
        spec = DataSpec(train="x", query="id", **given)
        facts = splits.prepare(number_rows, spec, *paths, columns, 0, output, work, selects=selects)
        return {**facts, "rows": {path.name: splits.load(path) for path in output.iterdir()}}

    return run


def test_rows_of_a_query_stay_on_one_side_of_a_split(prepare):
    found = prepare(made(200), validation_fraction=0.2, selects=True)["rows"]
    sides = [set(rows["query"]) for rows in found.values()]
    assert len(sides) == 3 and sum(map(len, sides)) == 200, "none is on two sides"
    for rows in found.values():
        assert set(Counter(rows["query"]).values()) == {4}


def test_rows_of_a_group_stay_on_one_side_and_its_queries_with_them(prepare):
    found = prepare(made(60), group="topic", validation_fraction=0.3)
    topics = [set(rows["group"]) for rows in found["rows"].values()]
    assert not topics[0] & topics[1] and sum(map(len, topics)) == 5
    assert any("groups" in note for note in found["notes"])


def test_a_sample_is_of_whole_queries(prepare):
    found = prepare(made(100), made(50), max_train_samples=42, max_validation_samples=21)["rows"]
    assert {name: len(rows) for name, rows in found.items()} == {"train": 40, "validation": 20}
    for rows in found.values():
        assert set(Counter(rows["query"]).values()) == {4}


def test_a_sample_that_no_query_fits_in(prepare):
    with refused("data.max_train_samples", "value"):
        prepare(made(10), made(10), max_train_samples=3)


def test_the_draw_depends_on_the_seed_and_not_on_the_order_of_rows():
    names = [f"q{index % 30}" for index in range(90)]
    chosen = {names[index] for index in queries.drawn(names, 30, 0)}
    assert len(chosen) == 10
    assert chosen == {names[::-1][index] for index in queries.drawn(names[::-1], 30, 0)}
    assert chosen != {names[index] for index in queries.drawn(names, 30, 1)}


def test_smaller_queries_fill_what_is_left():
    names = ["large"] * 10 + ["a", "a", "b"]
    for seed in range(5):
        assert [names[index] for index in queries.drawn(names, 3, seed)] == ["a", "a", "b"]


def test_numbers_are_those_of_equal_queries():
    names = ["b", "a", "b", "long " * 50, "a"]
    assert queries.numbers(names).tolist() == [1, 0, 1, 2, 0] and queries.numbers([]).tolist() == []


@pytest.mark.parametrize("relevance", ["-1", "31", "1e300"])
def test_what_is_no_relevance_is_refused_where_it_is_scored(prepare, relevance: str):
    with refused("data.label", "value"):
        prepare(made(10), made(10, relevant=relevance))


def test_any_number_can_be_learned(prepare):
    assert prepare(made(10, relevant="-11.3"), made(10))["train"] == 40


def test_labels_can_be_mapped_to_relevance(prepare):
    rows = [(*row[:3], {"1": "good", "0": "bad"}[row[3]], row[4]) for row in made(10)]
    found = prepare(rows, rows, labels={"good": "2", "bad": "0"})["rows"]
    assert set(found["validation"]["label"]) == {"2", "0"}


def test_nothing_to_rank(prepare):
    with refused("data.query", "value"):
        prepare(made(10), [*made(10, each=1), ("other", "question", "passage", "0", "t0")])


def test_nothing_relevant(prepare):
    rows = [(*row[:3], row[3].replace("1", "0"), row[4]) for row in made(10)]
    with refused("data.label", "value"):
        prepare(made(10), rows)


def test_notes_on_queries(prepare):
    odd = [("none", "question", f"a {index}", "0", "t0") for index in range(3)]
    odd += [("only", "question", f"b {index}", "1", "t0") for index in range(2)]
    notes = "\n".join(prepare(made(10), made(10) + odd)["notes"])
    assert "45 validation rows are of 12 queries, 2 to 4 rows each" in notes
    assert "1 of 12 queries have no relevant row" in notes and "1 of 12 queries have relevant rows only" in notes


def test_a_query_of_two_groups(prepare):
    rows = made(10)
    rows[0] = (*rows[0][:4], "another")
    with refused("data.group", "conflict"):
        prepare(rows, made(10), group="topic")
