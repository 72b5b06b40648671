"""Margin-MSE: differences between rows of one query, which come together in batches."""

from __future__ import annotations

from itertools import combinations, pairwise

import numpy as np
import pytest
import torch
from conftest import make_tokenizer
from datasets import Dataset
from hypothesis import given
from hypothesis import strategies as st

from compressor.data.spec import DataSpec
from compressor.tasks import text_regression
from compressor.training.batches import RowBatches
from compressor.training.losses import margin_loss, margins
from compressor.training.objectives import TaskDistillation
from compressor.training.row_order import RowOrder


def test_by_hand():
    # Margins of query 1: student 2 - 0 = 2, teacher 3 - 0 = 3. Of query 2: student 1 - 1, 1 - 4, 1 - 4 and teacher
    # 1 - 2, 1 - 2, 2 - 2: differences 1, -2, -3. The mean of 1, 1, 4 and 9.
    student, teacher = torch.tensor([2.0, 1, 0, 1, 4]), torch.tensor([3.0, 1, 0, 2, 2])
    query = torch.tensor([1, 2, 1, 2, 2])
    assert margin_loss(student, teacher, query).item() == pytest.approx((1 + 1 + 4 + 9) / 4)
    assert margins(query).item() == 4


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(-5, 5), st.floats(-5, 5)), min_size=1, max_size=12))
def test_it_is_the_mean_over_all_pairs(rows: list[tuple[int, float, float]]):
    query, student, teacher = (torch.tensor(column) for column in zip(*rows, strict=True))
    pairs = [((one[1] - two[1]) - (one[2] - two[2])) ** 2 for one, two in combinations(rows, 2) if one[0] == two[0]]
    found = margin_loss(student, teacher, query).item()
    assert margins(query).item() == len(pairs)
    assert found == pytest.approx(float(np.mean(pairs)) if pairs else 0.0, rel=1e-4, abs=1e-4)


def test_a_number_for_each_query_costs_nothing_and_moves_nothing():
    query = torch.tensor([0, 0, 1, 1, 2])
    teacher = torch.tensor([0.3, -1.2, 4.0, 2.0, 9.0])
    student = (teacher + torch.tensor([100.0, 100, -7, -7, 3])).requires_grad_()
    loss = margin_loss(student, teacher, query)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-8) and student.grad.abs().max() < 1e-4


def test_no_pair_has_no_gradient_that_is_not_a_number():
    student = torch.tensor([1.0, 2.0], requires_grad=True)
    margin_loss(student, torch.zeros(2), torch.tensor([0, 1])).backward()
    assert student.grad.tolist() == [0, 0]


def ranked_rows(queries: int, each: int) -> Dataset:
    random = np.random.default_rng(0)
    rows = [(f"q{index}", "the film " * int(random.integers(1, 9))) for index in range(queries) for _ in range(each)]
    random.shuffle(rows)
    query, text = zip(*rows, strict=True)
    data = Dataset.from_dict({"text": list(text), "label": ["1"] * len(rows), "query": list(query)})
    return text_regression.encode(data, make_tokenizer(), 24, {}, DataSpec())


def test_batches_hold_whole_queries_of_like_length():
    rows = ranked_rows(200, 4)
    batches = RowBatches(rows, make_tokenizer(), ("input_ids", "attention_mask"), by_query=True)
    epochs = iter((0, 0, 1))
    order = RowOrder(len(batches), batches.lengths, 16, 0, lambda: next(epochs), batches.queries)
    first, again, later = list(order), list(order), list(order)
    assert first == again != later and sorted(first) == sorted(later) == list(range(800))
    given_queries = np.asarray(rows["query"])
    for start in range(0, 800, 16):
        batch = batches.batch(first[start : start + 16])
        assert margins(batch["query"]).item() == 4 * 6, "four queries with all of their rows"
        assert batch["query"].tolist() == given_queries[first[start : start + 16]].tolist()
    assert sum(one != two for one, two in pairwise(given_queries[first])) == 199
    shorter = np.sort(batches.lengths)
    assert batches.padding < 1 - shorter.mean() / shorter[-1], "less than one width for all"


def test_batches_of_queries_that_are_longer_than_one():
    queries = np.repeat(np.arange(3), 50)
    order = list(RowOrder(150, np.full(150, 9), 16, 0, lambda: 0, queries))
    held = [len(set(queries[order[start : start + 16]])) for start in range(0, 144, 16)]
    assert max(held) == 2 and held.count(1) >= 7, "only the ends of queries share a batch"


def test_other_training_does_not_ask_for_queries():
    batches = RowBatches(ranked_rows(5, 3), make_tokenizer(), ("input_ids", "attention_mask"))
    assert batches.queries is None and "query" not in batches.batch([0, 1])


def test_the_term_is_a_mean_over_pairs_of_the_head():
    objective = TaskDistillation(text_regression, {"margin": 2.0, "soft": 0.0}, 2.0, [0])
    batch = {
        "input_ids": torch.ones(3, 2), "attention_mask": torch.ones(3, 2), "labels": torch.zeros(3),
        "teacher_logits": torch.tensor([[0.0], [1.0], [5.0]]), "query": torch.tensor([0, 0, 1]),
    }  # fmt: skip

    def model(**inputs: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"logits": torch.tensor([[0.0], [3.0], [-1.0]])}

    terms = objective.terms(model, {}, batch)
    assert {name: term.item() for name, term in terms.items()} == {"margin": pytest.approx(4.0)}
    assert objective.items(batch)["margin"].item() == 1
