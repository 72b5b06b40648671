"""Losses on vectors, against values worked out by hand, and identities."""

from __future__ import annotations

import math

import pytest
import torch

from compressor.data.queries import QUERY
from compressor.tasks import sentence_similarity
from compressor.training import objectives, projection, vector_losses

QUERY_OF, SIDES = [4, 4, 9, 9, 9], [0, 1, 0, 1, 2]


def batch(sides: list[int], queries: list[int], grades: list[float] | None = None) -> dict[str, torch.Tensor]:
    labels = [[float(side), 0.0 if grades is None else grade, float(grades is not None)]
              for side, grade in zip(sides, grades or [0.0] * len(sides), strict=True)]  # fmt: skip
    ids = torch.arange(len(sides))[:, None]
    return {"labels": torch.tensor(labels), QUERY: torch.tensor(queries), "input_ids": ids}


def unit(*angles: float) -> torch.Tensor:
    return torch.tensor([[math.cos(angle), math.sin(angle)] for angle in angles])


def test_pairs_are_of_one_query():
    first, second = vector_losses.pairs_of(batch(SIDES, QUERY_OF))
    assert (first.tolist(), second.tolist()) == ([0, 2], [1, 3])
    first, _ = vector_losses.pairs_of(batch([0, 1], [1, 2]))
    assert not len(first)


def test_contrastive_by_hand():
    vectors = unit(0.0, 0.1, 1.0, 1.2, 0.5)
    losses = []
    for angle, own in ((0.0, 0), (1.0, 1)):
        cosines = [20 * math.cos(angle - other) for other in (0.1, 1.2, 0.5)]
        losses.append(math.log(sum(map(math.exp, cosines))) - cosines[own])
    found = vector_losses.hard(vectors, batch(SIDES, QUERY_OF))
    assert found.item() == pytest.approx(sum(losses) / 2, rel=1e-5)
    assert vector_losses.contrastive(3 * vectors, batch(SIDES, QUERY_OF)).item() == pytest.approx(
        found.item(), rel=1e-5
    )


def test_what_reads_alike_or_belongs_too_is_no_negative():
    given = batch([0, 1, 0, 1], [1, 1, 2, 2])
    given["input_ids"][3] = given["input_ids"][1]
    assert vector_losses.contrastive(unit(0.0, 0.1, 0.2, 0.1), given).item() == pytest.approx(0.0, abs=1e-6)
    two = batch([0, 0, 1, 1], [1, 1, 1, 1])
    assert vector_losses.contrastive(unit(0.0, 0.1, 0.5, 0.9), two).item() == pytest.approx(0.0, abs=1e-6)


def test_scores_by_hand():
    found = vector_losses.hard(unit(0.0, 0.5, 1.0, 1.3), batch([0, 1, 0, 1], [1, 1, 2, 2], [0.5, 0.0, 1.0, 0.0]))
    expected = ((math.cos(0.5) - 0.5) ** 2 + (math.cos(0.3) - 1.0) ** 2) / 2
    assert found.item() == pytest.approx(expected, rel=1e-5)


def test_a_student_that_is_its_teacher_has_nothing_to_learn():
    teacher = torch.randn(6, 8, generator=torch.Generator().manual_seed(0))
    assert vector_losses.distance(2 * teacher, teacher).item() == pytest.approx(0, abs=1e-6)
    assert vector_losses.relations(2 * teacher, teacher).item() == pytest.approx(0, abs=1e-6)
    turn = torch.linalg.qr(torch.randn(8, 8, generator=torch.Generator().manual_seed(1)))[0]
    assert vector_losses.relations(teacher @ turn, teacher).item() == pytest.approx(0, abs=1e-5)
    assert vector_losses.distance(teacher @ turn, teacher).item() > 0.5


def test_relations_by_hand():
    student, teacher = unit(0.0, 0.3, 1.0), unit(0.0, 0.2, 0.4)
    expected = 0.0
    for index in range(3):
        logs = []
        for angles in ((0.0, 0.3, 1.0), (0.0, 0.2, 0.4)):
            scaled = [20 * math.cos(angles[index] - other) for place, other in enumerate(angles) if place != index]
            total = math.log(sum(map(math.exp, scaled)))
            logs.append([value - total for value in scaled])
        expected += sum(math.exp(q) * (q - p) for p, q in zip(*logs, strict=True)) / 3
    assert vector_losses.relations(student, teacher).item() == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("loss", [vector_losses.contrastive, vector_losses.scored])
def test_without_a_pair_there_is_nothing_to_learn(loss):
    vectors = unit(0.0, 1.0).requires_grad_()
    loss(vectors, batch([0, 1], [1, 2])).backward()
    assert not vectors.grad.any()


def test_matryoshka_is_the_mean_over_counts():
    student, teacher = (torch.randn(5, 8, generator=torch.Generator().manual_seed(n)) for n in (0, 1))
    found = vector_losses.at_dimensions(vector_losses.distance, [student, teacher], [8, 4])
    parts = [vector_losses.distance(student[:, :count], teacher[:, :count]) for count in (8, 4)]
    assert found.item() == pytest.approx(sum(parts).item() / 2)
    whole = vector_losses.at_dimensions(vector_losses.distance, [student, teacher], None)
    assert whole.item() == pytest.approx(parts[0].item())


def test_directions_measure_how_much_a_vector_moves():
    """A vector is a gate times a constant: the derivative along a direction is their product, of that vector's size."""
    gate = torch.ones(512, 1, requires_grad=True)
    constant = torch.tensor([3.0, 4.0])

    def model() -> dict[str, torch.Tensor]:
        return {"sentence_embedding": gate * constant}

    found = objectives.Directions(sentence_similarity).terms(model, {}, {})["direction"]
    (gradient,) = torch.autograd.grad(found, gate)
    assert (gradient * 512).square().mean().sqrt().item() == pytest.approx(5.0, rel=0.1)


def test_of_another_width_the_teachers_are_learned_through_a_projection_by_hand():
    student = torch.nn.Linear(1, 1)  # stands for one
    projection.add(student, projection.VECTORS, 2, 3)
    with torch.no_grad():
        student.distillation_vector_projection.weight[:] = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
    vectors, teacher = torch.tensor([[3.0, 4.0]]), torch.tensor([[1.0, 0.0, 0.0]])
    distillation = objectives.TaskDistillation(sentence_similarity, {"soft": 1.0}, 1.0, [], [2, 1])
    # (3, 4, 4) has a length of sqrt(41); of its first number alone, (3, 0, 0) is left.
    found = distillation._distance(student, vectors, teacher)
    assert found.item() == pytest.approx((1 - 3 / math.sqrt(41) + 0) / 2, abs=1e-6)
    projection.remove(student)
    assert not projection.there(student, projection.VECTORS) and len(list(student.parameters())) == 2
    projection.add(student, projection.VECTORS, 3, 3)
    assert not projection.there(student, projection.VECTORS), "of one width nothing is learned"
