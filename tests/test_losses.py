from __future__ import annotations

import math

import pytest
import torch

from compressor.training.losses import hard_label_loss, soft_target_loss


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
