"""Columns are read whole, whatever selection of a table they are of."""

from __future__ import annotations

import numpy as np
import pytest
from datasets import Dataset

from compressor.data import columns


@pytest.mark.parametrize("count", [0, 1, 999, 1000, 1001, 2500])
def test_values_and_numbers_are_those_of_the_rows(count: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(columns, "_NUMBERS_AT_ONCE", 700)
    texts = [f"text {index}" if index % 7 else None for index in range(count)]
    lists = [[index, -index] * (index % 3) for index in range(count)]
    rows = Dataset.from_dict({"text": texts, "list": lists, "number": list(range(count))})
    chosen = np.random.default_rng(count).permutation(count)[: count // 2]
    for table, kept in ((rows, np.arange(count)), (rows.select(chosen), chosen)):
        assert list(columns.values(table, "text")) == [texts[index] for index in kept]
        assert list(columns.values(table, "list")) == [lists[index] for index in kept]
        found = columns.numbers(table, "number", np.int32)
        assert found.dtype == np.int32
        assert found.tolist() == kept.tolist()


def test_rows_are_encoded_and_what_a_function_refers_to_is_not_read():
    class Unreadable:
        def __reduce__(self) -> str:
            raise AssertionError("hashed")

    there = Unreadable()

    def convert(batch: dict[str, list[str]], indices: list[int]) -> dict[str, list[int]]:
        assert there is not None
        return {"length": [len(text) + index for text, index in zip(batch["text"], indices, strict=True)]}

    rows = Dataset.from_dict({"text": ["a", "bcd", ""]})
    found = columns.encoded_rows(rows.select([2, 1]), convert, with_indices=True)
    assert found[:] == {"length": [0, 4]}
