from __future__ import annotations

import pytest
from datasets import Dataset
from problems import refused

from compressor.data import number_rows


def rows(*labels: str) -> Dataset:
    return Dataset.from_dict({"text": ["a"] * len(labels), "label": list(labels)})


def labels(train: Dataset, validation: Dataset, new_head: bool = True) -> tuple[list[str], list[str]]:
    return number_rows.labels(train, validation, train, new_head)


def test_numbers_have_no_names():
    assert labels(rows("1", "-2.5"), rows("0", "1e3")) == ([], [])


@pytest.mark.parametrize("wrong", ["good", "", "nan", "inf"])
def test_a_label_that_is_not_a_finite_number_is_refused(wrong: str):
    with refused("data.label", "type"):
        labels(rows("1", "2"), rows("1", wrong))


def test_equal_numbers_have_no_correlation():
    with refused("data.label", "value"):
        labels(rows("1", "1.0"), rows("1", "2"))
    assert labels(rows("1", "1.0"), rows("1", "2"), new_head=False) == ([], []), "nothing is learned from them"
    with refused("data.label", "value"):
        labels(rows("1", "2"), rows("1", "1"), new_head=False)
