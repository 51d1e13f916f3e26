"""Scores in closed form."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("monai")
from autosam_edge_training.evaluate import Score, summarize, surface_dice


def test_two_slabs_two_millimeters_apart():
    """A face moved by 2 mm lies within 3 and 2 mm, and not within 1 mm; the other five faces agree."""
    a = np.zeros((30, 30, 30), bool)
    b = a.copy()
    a[5:15, 5:25, 5:25] = True
    b[5:17, 5:25, 5:25] = True
    one, two, three = surface_dice(a, b, (1.0, 1.0, 1.0))
    assert three == pytest.approx(1.0)
    assert two > 0.97
    assert 0.6 < one < 0.9


def test_spacing_scales_the_tolerance():
    """The same masks with voxels of 4 mm: the face is 8 mm away, outside of every tolerance."""
    a = np.zeros((30, 30, 30), bool)
    b = a.copy()
    a[5:15, 5:25, 5:25] = True
    b[5:17, 5:25, 5:25] = True
    coarse = surface_dice(a, b, (4.0, 4.0, 4.0))
    assert coarse[2] < 0.95
    assert surface_dice(a, a, (4.0, 4.0, 4.0)) == (1.0, 1.0, 1.0)


def test_organs_come_first_and_absent_ones_are_left_out():
    """Two cases, two organs, one absent in one case: mean over cases per organ, then over organs."""
    nan = float("nan")
    rows = [("1", "liver", 0.9), ("1", "spleen", nan), ("2", "liver", 0.7), ("2", "spleen", 0.5)]
    summary = summarize([Score(case, organ, d, d, d, d, 1.0, 1.0) for case, organ, d in rows])
    assert summary["organs"]["liver"]["dice"] == pytest.approx(0.8)
    assert summary["organs"]["spleen"]["cases"] == 1
    assert summary["mean_dice"] == pytest.approx(0.65)
    assert summary["mean_dice_case_first"] == pytest.approx((0.9 + 0.6) / 2)
