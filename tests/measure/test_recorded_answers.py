"""Rows and answers that ship with a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from compressor.measure import recorded_answers
from compressor.measure.token_rows import TokenRows


def test_rows_and_answers_are_recorded_and_read_again(tmp_path: Path):
    lists = [
        {"input_ids": [2, 4, 3], "labels": [-100, 9, -100]},
        {"input_ids": [2, 3], "token_type_ids": [0, 1]},
        {"input_ids": [5]},
    ]
    rows = TokenRows.of(lists, 0)
    taken = rows.take([0, 1, 2])
    assert taken == lists, "what every row has anyway is not told"
    assert all(np.array_equal(rows.tokens[name], TokenRows.of(taken, 0).tokens[name]) for name in rows.tokens)
    logits = np.array([[[0, 3, 1, 2, 9, 8, 7]], [[1, 0, 0, 0, 0, 0, 0]], [[0, 0, 0, 0, 0, 0, 5]]], np.float32)
    recorded_answers.write(tmp_path / "it.json", "masked-lm", taken, {"torch": logits})
    found = recorded_answers.read(tmp_path / "it.json")
    answer = found.answers["torch"]
    assert (found.task, found.rows) == ("masked-lm", lists)
    assert answer.choices[0].tolist() == [[4, 5, 6, 1, 3]] and answer.logits[0].tolist() == [[9, 8, 7, 3, 2]]
    assert answer.label_agreement(logits) == 1 and answer.max_abs_diff(logits) == 0
    other = logits.copy()
    other[2, 0, 0] = 5.5
    assert answer.label_agreement(other) == pytest.approx(2 / 3) and answer.max_abs_diff(other) == 5.5
    other[2, 0, 0] = np.nan
    assert answer.max_abs_diff(other) == np.inf
