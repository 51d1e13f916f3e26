"""The learning rate goes where its formula says, AdamW sees what may learn, and averages are averages."""

from __future__ import annotations

import copy
import math

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("pydantic")
from torch import nn

from autosam_edge_training.recipe_parts.schedule import Schedule, average_into, build_optimizer


@pytest.mark.parametrize("decay", ["exponential", "cosine"])
def test_the_warm_up_is_linear(decay):
    """Ten of a hundred steps: a tenth of the peak more with each, the peak at the tenth and the next one."""
    schedule = Schedule(steps=100, lr=2.0, warmup=0.1, decay=decay)
    assert [schedule.rate(step) for step in range(10)] == pytest.approx(
        [0.2 * (step + 1) for step in range(10)]
    )
    assert schedule.rate(10) == pytest.approx(2.0)


@pytest.mark.parametrize("decay", ["exponential", "cosine"])
def test_without_a_warm_up_the_first_step_is_the_peak(decay):
    """From there on it only falls."""
    rates = [Schedule(steps=50, lr=3.0, warmup=0.0, decay=decay).rate(step) for step in range(50)]
    assert rates[0] == pytest.approx(3.0)
    assert rates == sorted(rates, reverse=True)
    assert len(set(rates)) == 50


def test_exponential_falls_by_one_factor_to_the_end():
    """Every step by the same factor, the last one at ``end`` of the peak."""
    schedule = Schedule(steps=101, lr=4.0, warmup=0.0, decay="exponential", end=0.01)
    assert schedule.rate(100) == pytest.approx(0.04)
    assert schedule.rate(50) == pytest.approx(0.4)
    assert [schedule.rate(s + 1) / schedule.rate(s) for s in range(100)] == pytest.approx(
        [0.01 ** (1 / 100)] * 100
    )


def test_the_papers_schedule():
    """4,800 steps are 200 epochs of 24: peak after 5 epochs, then 0.97666 an epoch down to 5e-6."""
    schedule = Schedule(steps=4800)
    assert schedule.rate(5 * 24 - 1) == pytest.approx(5e-4)
    assert schedule.rate(4799) == pytest.approx(5e-6)
    assert schedule.rate(1000 + 24) / schedule.rate(1000) == pytest.approx(0.97666, abs=1e-4)


def test_cosine_is_half_way_in_the_middle():
    """Between the peak and its end, which is a hundredth."""
    schedule = Schedule(steps=101, lr=1.0, warmup=0.0, decay="cosine", end=0.01)
    assert schedule.rate(50) == pytest.approx((1 + 0.01) / 2)
    assert schedule.rate(25) == pytest.approx(0.01 + 0.99 * (1 + math.sqrt(0.5)) / 2)
    assert schedule.rate(100) == pytest.approx(0.01)


@pytest.mark.parametrize("decay", ["exponential", "cosine"])
@pytest.mark.parametrize(("steps", "warmup"), [(1, 0.0), (1, 0.9), (2, 0.5), (3, 0.99)])
def test_the_shortest_runs_have_rates(steps, warmup, decay):
    """Also where nothing is left after the warm-up."""
    rates = [Schedule(steps=steps, lr=1.0, warmup=warmup, decay=decay).rate(step) for step in range(steps)]
    assert all(0.0 <= rate <= 1.0 for rate in rates)
    assert max(rates) == 1.0


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"batch": 0},
        {"lr": 0.0},
        {"warmup": 1.0},
        {"warmup": -0.1},
        {"end": 0.0},
        {"end": 1.1},
        {"clip": 0.0},
        {"weight_decay": -1.0},
    ],
)
def test_a_schedule_that_cannot_be_is_refused(wrong):
    """By the name of its value."""
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Schedule(**{"steps": 10, **wrong})


def test_only_matrices_and_kernels_decay():
    """One step without a gradient: AdamW shrinks them by lr * weight_decay and leaves biases and norms."""
    module = nn.Sequential(nn.Conv3d(1, 2, 3), nn.InstanceNorm3d(2, affine=True), nn.Linear(4, 4))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.fill_(1.0)
    optimizer = build_optimizer(module, Schedule(steps=1, lr=0.1, weight_decay=0.5))
    for parameter in module.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    left = {name: parameter.unique().tolist() for name, parameter in module.named_parameters()}
    for name in ("0.weight", "2.weight"):
        assert left.pop(name) == pytest.approx([0.95])
    assert left == {"0.bias": [1.0], "1.weight": [1.0], "1.bias": [1.0], "2.bias": [1.0]}


def test_what_is_frozen_is_not_optimized():
    """Neither as a matrix nor as a bias; all else is, once."""
    module = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    module[0].requires_grad_(False)
    optimizer = build_optimizer(module, Schedule(steps=1, lr=0.1))
    held = [id(parameter) for group in optimizer.param_groups for parameter in group["params"]]
    assert sorted(held) == sorted(id(parameter) for parameter in module[1].parameters())
    assert {group["lr"] for group in optimizer.param_groups} == {0.1}


@pytest.mark.parametrize(("step", "decay"), [(1, 2 / 11), (90, 91 / 100), (1000, 0.99)])
def test_the_average_moves_by_its_decay(step, decay):
    """Decay * kept + (1 - decay) * new; early steps forget faster, (1 + step) / (10 + step)."""
    kept, new = nn.Linear(2, 2), nn.Linear(2, 2)
    expected = [
        decay * a.detach() + (1 - decay) * b.detach()
        for a, b in zip(kept.parameters(), new.parameters(), strict=True)
    ]
    average_into(kept, new, decay=0.99, step=step)
    for found, value in zip(kept.parameters(), expected, strict=True):
        torch.testing.assert_close(found.detach(), value)


def test_the_average_of_constant_weights_is_their_constant_after_enough_steps():
    """The random start is forgotten: its share is the product of all decays."""
    kept, new = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    with torch.no_grad():
        kept.weight.fill_(1.0)
        new.weight.fill_(0.0)
    share = 1.0
    for step in range(1, 41):
        average_into(kept, new, decay=0.9, step=step)
        share *= min(0.9, (1 + step) / (10 + step))
    assert kept.weight.item() == pytest.approx(share, rel=1e-4)
    assert share < 1e-6


def test_running_statistics_go_with_the_average():
    """A batch norm's running statistics are copied: an average with those of the start would be wrong."""
    new = nn.Sequential(nn.Conv3d(1, 2, 1), nn.BatchNorm3d(2))
    kept = copy.deepcopy(new)
    new.train()(torch.randn(4, 1, 3, 3, 3) + 5.0)
    average_into(kept, new, decay=0.9, step=1)
    assert new[1].running_mean.abs().max() > 0
    assert torch.equal(kept[1].running_mean, new[1].running_mean)
    assert torch.equal(kept[1].running_var, new[1].running_var)
    assert kept[1].num_batches_tracked == 1
    x = torch.randn(1, 1, 3, 3, 3)
    torch.testing.assert_close(kept.eval()(x), new.eval()(x))
