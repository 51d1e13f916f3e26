"""The loss is least where the prediction is the occupancy."""

from __future__ import annotations

import math

import pytest

torch = pytest.importorskip("torch")
from autosam_edge_training.losses import class_weights, dice_cross_entropy


def halves(classes=3):
    """Half of the voxels class 0, half class 1; class 2 is absent."""
    occupancy = torch.zeros(1, classes, 4, 4, 4)
    occupancy[:, 0, :2] = 1
    occupancy[:, 1, 2:] = 1
    return occupancy


def test_a_sure_and_right_prediction_costs_nothing():
    """Logits of +-30 on the truth: Dice and cross entropy vanish."""
    assert float(dice_cross_entropy(halves() * 60 - 30, halves())) == pytest.approx(0.0, abs=1e-5)


def test_an_even_prediction_costs_what_it_should():
    """Probability 1/3 everywhere: cross entropy log 3; Dice from sums over 64 voxels in closed form."""
    overlap, squares = 32 / 3, 64 / 9 + 32
    dice = 1 - (2 * overlap + 1) / (squares + 1)
    assert float(dice_cross_entropy(torch.zeros(1, 3, 4, 4, 4), halves())) == pytest.approx(math.log(3) + dice, rel=1e-5)


def test_a_fractional_target_is_its_own_best_prediction():
    """Gradient descent on the logits ends at the occupancy."""
    torch.manual_seed(0)
    occupancy = torch.rand(1, 3, 4, 4, 4).softmax(1)
    logits = torch.zeros_like(occupancy, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.05)
    for _ in range(800):
        optimizer.zero_grad()
        dice_cross_entropy(logits, occupancy).backward()
        optimizer.step()
    assert float((logits.detach().softmax(1) - occupancy).abs().max()) < 0.01


def test_an_absent_class_has_no_dice_term():
    """Only the cross entropy speaks of class 2: its weight decides alone."""
    logits = torch.randn(1, 3, 4, 4, 4)
    weight = torch.tensor([1.0, 1.0, 100.0])
    assert float(dice_cross_entropy(logits, halves(), class_weight=weight)) == pytest.approx(float(dice_cross_entropy(logits, halves())))


def test_rare_classes_weigh_more_within_bounds():
    """Cube root of median over share, kept between 0.5 and 4."""
    weight = class_weights(torch.tensor([0.9, 0.08, 0.01, 0.001, 1e-9]))
    assert weight.tolist() == pytest.approx([0.5, 0.5, 1.0, 10 ** (1 / 3), 4.0], rel=1e-4)
