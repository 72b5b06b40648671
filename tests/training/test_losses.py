from __future__ import annotations

import math

import pytest
import torch

from compressor.training.losses import (
    attention_loss,
    cosine_loss,
    hard_label_loss,
    soft_target_loss,
    top_k_soft_target_loss,
    top_k_targets,
)


def test_soft_loss_by_hand():
    # T = 2: teacher softmax([ln 9, 0] / 2) = [3/4, 1/4], student softmax([0, 0]) = [1/2, 1/2].
    teacher, student = torch.tensor([[math.log(9.0), 0.0]]), torch.tensor([[0.0, 0.0]])
    divergence = 0.75 * math.log(0.75 / 0.5) + 0.25 * math.log(0.25 / 0.5)
    assert soft_target_loss(student, teacher, 2.0).item() == pytest.approx(4 * divergence, rel=1e-6)


def test_soft_loss_is_the_mean_over_the_batch():
    teacher = torch.tensor([[math.log(9.0), 0.0], [0.0, 0.0]])
    one = soft_target_loss(torch.zeros(1, 2), teacher[:1], 2.0)
    assert soft_target_loss(torch.zeros(2, 2), teacher, 2.0).item() == pytest.approx(one.item() / 2)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_teacher_equal_to_student_costs_nothing(temperature: float):
    logits = torch.randn(8, 5)
    student = logits.clone().requires_grad_()
    loss = soft_target_loss(student, logits, temperature)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-6)
    assert student.grad is not None and student.grad.abs().max() < 1e-6
    assert soft_target_loss(logits + 3.0, logits, temperature).item() == pytest.approx(0, abs=1e-5)


def test_gradient_keeps_its_size_at_high_temperatures():
    # Hinton et al. 2015, section 2.1: at high T the gradient of T^2 KL tends to (z - v) / N for zero-mean logits.
    student = torch.tensor([[0.3, -0.3]], requires_grad=True)
    teacher = torch.tensor([[-0.5, 0.5]])
    soft_target_loss(student, teacher, 1000.0).backward()
    assert torch.allclose(student.grad, (student.detach() - teacher) / 2, atol=1e-3)


def test_hard_loss_by_hand():
    logits = torch.tensor([[math.log(3.0), 0.0], [0.0, 0.0]])
    expected = (-math.log(0.25) - math.log(0.5)) / 2
    assert hard_label_loss(logits, torch.tensor([1, 0])).item() == pytest.approx(expected)


def test_cosine_loss_by_hand():
    # cos([1, 0], [3, 4]) = 3/5; cos([2, 0], [-1, 0]) = -1: the mean of 0.4 and 2.
    student, teacher = torch.tensor([[1.0, 0.0], [2.0, 0.0]]), torch.tensor([[3.0, 4.0], [-1.0, 0.0]])
    assert cosine_loss(student, teacher).item() == pytest.approx(1.2)
    assert cosine_loss(teacher, 7 * teacher).item() == pytest.approx(0, abs=1e-6)


def test_attention_loss_by_hand():
    # Row 1: KL([1/2, 1/2] || [1/4, 3/4]); row 2 is equal; the second text is one token long, its second row is padding.
    teacher = torch.tensor([[[[0.5, 0.5], [0.9, 0.1]]], [[[1.0, 0.0], [0.0, 0.0]]]])
    student = torch.tensor([[[[0.25, 0.75], [0.9, 0.1]]], [[[1.0, 0.0], [0.7, 0.3]]]])
    divergence = 0.5 * math.log(0.5 / 0.25) + 0.5 * math.log(0.5 / 0.75)
    mask = torch.tensor([[1, 1], [1, 0]])
    assert attention_loss(student, teacher, mask).item() == pytest.approx(divergence / 3, rel=1e-5)


def test_the_tail_of_the_vocabulary_is_one_outcome_by_hand():
    # At T = 2, softmax(2 ln [4, 3, 2, 1] / 2) = [0.4, 0.3, 0.2, 0.1]: two are kept, the rest has 0.3.
    teacher = 2 * torch.log(torch.tensor([[4.0, 3.0, 2.0, 1.0]]))
    indices, log_probabilities, log_rest = top_k_targets(teacher, 2, 2.0)
    assert indices.tolist() == [[0, 1]]
    assert torch.allclose(log_probabilities.exp(), torch.tensor([[0.4, 0.3]]))
    assert log_rest.exp().item() == pytest.approx(0.3, rel=1e-5)
    # A student of even guesses: 4 * (0.4 ln(0.4/0.25) + 0.3 ln(0.3/0.25) + 0.3 ln(0.3/0.5)).
    expected = 4 * (0.4 * math.log(1.6) + 0.3 * math.log(1.2) + 0.3 * math.log(0.6))
    loss = top_k_soft_target_loss(torch.zeros(1, 4), indices, log_probabilities, log_rest, 2.0)
    assert loss.item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("temperature", [1.0, 3.0])
def test_the_top_k_loss_bounds_the_full_one_from_below_and_meets_it(temperature: float):
    torch.manual_seed(0)
    teacher, student = 4 * torch.randn(16, 50), 4 * torch.randn(16, 50)
    full = soft_target_loss(student, teacher, temperature).item()
    found = []
    for k in (1, 5, 20, 50):
        found.append(top_k_soft_target_loss(student, *top_k_targets(teacher, k, temperature), temperature).item())
    assert found == sorted(found)
    assert found[-1] == pytest.approx(full, rel=1e-5)
    assert found[0] < full


@pytest.mark.parametrize("k", [1, 8, 50])
def test_teacher_equal_to_student_costs_nothing_over_a_vocabulary(k: int):
    logits = 3 * torch.randn(16, 50, generator=torch.Generator().manual_seed(1))
    student = logits.clone().requires_grad_()
    loss = top_k_soft_target_loss(student, *top_k_targets(logits, k, 2.0), 2.0)
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-5)
    assert student.grad is not None and student.grad.abs().max() < 1e-5
