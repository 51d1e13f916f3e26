"""Static int8 keeps what hurts an organ in float."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn

from autosam_edge.errors import ExportError
from autosam_edge_export.convert.quantization import MEAN_ORGAN, WORST_ORGAN, Range, plan_quantization


class Thresholds(nn.Module):
    """Three classes by HU from a small difference on a large offset, which int8 loses in the second layer."""

    def __init__(self, offset):
        super().__init__()
        self.robust = nn.Conv3d(1, 1, 1, bias=False)
        self.fragile = nn.Conv3d(1, 3, 1)
        self.offset = offset
        with torch.no_grad():
            self.robust.weight.fill_(1.0)
            self.fragile.weight.copy_(torch.tensor([-1.0, 0.0, 1.0]).reshape(3, 1, 1, 1, 1))
            self.fragile.bias.copy_(torch.tensor([offset, 0.0, -offset - 100.0]))

    def forward(self, x):
        return self.fragile(self.robust(x) + self.offset)


def tiles(count=2):
    """Three tissues, each 20 HU wide and 60 HU away from the next class."""
    rng = np.random.default_rng(0)
    tissue = rng.choice([-80.0, 50.0, 200.0], size=(count, 16, 16, 16))
    return list((tissue + rng.uniform(-10, 10, tissue.shape)).astype(np.float32))


def test_a_range_covers_zero_exactly():
    """Zero padding stays zero: the zero point is a whole number that stands for 0."""
    values = Range(-1.0, 3.0)
    assert values.scale == pytest.approx(4.0 / 255.0)
    assert values.zero_point == 64
    assert Range(0.0, 0.0).scale > 0


def test_all_layers_are_quantized_where_none_hurts():
    """Inputs of a plain threshold network bear eight bits."""
    plan = plan_quantization(Thresholds(0.0), tiles(), ["low", "high"])
    assert set(plan.ranges) == {"robust", "fragile"}
    assert plan.kept_float == ()
    assert min(entry.worst_dice for entry in plan.sensitivities) >= WORST_ORGAN


def test_the_layer_that_hurts_stays_float():
    """On an offset of 100,000 a step of uint8 is 393 HU: only the robust layer becomes int8."""
    plan = plan_quantization(Thresholds(100000.0), tiles(), ["low", "high"])
    assert plan.kept_float == ("fragile",)
    assert set(plan.ranges) == {"robust"}
    worst = plan.sensitivities[0]
    assert (worst.layer, worst.worst_dice < WORST_ORGAN or worst.mean_dice < MEAN_ORGAN) == ("fragile", True)


def test_planning_leaves_the_network_as_it_was():
    """Weights bit for bit, no hook left."""
    form = Thresholds(100000.0)
    before = {key: value.clone() for key, value in form.state_dict().items()}
    plan_quantization(form, tiles(), ["low", "high"])
    assert all(torch.equal(before[key], value) for key, value in form.state_dict().items())
    assert not any(module._forward_pre_hooks for module in form.modules())


def test_the_same_tiles_give_the_same_plan():
    """And other tiles another hash."""
    one, two = (plan_quantization(Thresholds(0.0), tiles(), ["low", "high"]) for _ in range(2))
    assert one == two
    assert plan_quantization(Thresholds(0.0), tiles(3), ["low", "high"]).tiles_sha256 != one.tiles_sha256


def test_int8_that_would_be_no_int8_is_refused():
    """Tiles without an organ are refused, and so is a student that loses its accuracy in every layer."""
    empty = [np.full((16, 16, 16), -900.0, dtype=np.float32)]
    with pytest.raises(ExportError, match="AE-EXPORT-012.*no organ in the calibration tiles"):
        plan_quantization(Thresholds(-1e9), empty, ["low", "high"])
    fragile = nn.Sequential(Thresholds(100000.0))
    fragile[0].robust = nn.Identity()
    with pytest.raises(ExportError, match="AE-EXPORT-012.*no convolution"):
        plan_quantization(fragile, tiles(), ["low", "high"])
