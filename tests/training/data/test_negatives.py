"""Synthetic scans without organs: all background, in the window, each kind like itself."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("scipy")
pytest.importorskip("pydantic")
from autosam_edge_training.data import AMOS_INTENSITY, BTCV_INTENSITY, negative_case
from autosam_edge_training.data.negatives import KINDS

MM5 = (5.0, 5.0, 5.0)


@pytest.mark.parametrize("intensity", [BTCV_INTENSITY, AMOS_INTENSITY], ids=["btcv", "amos"])
@pytest.mark.parametrize("number", range(len(KINDS)))
def test_a_negative_is_background_within_the_window(number, intensity):
    """No label, HU within the window, 250 x 300 x 300 mm, the same again for the same number."""
    case = negative_case(number, spacing_mm=MM5, intensity=intensity)
    assert case.shape == (50, 60, 60)
    assert case.labels.max() == 0
    assert intensity.window_hu[0] <= case.image.min() <= case.image.max() <= intensity.window_hu[1]
    assert KINDS[number] in case.name
    assert np.array_equal(case.image, negative_case(number, spacing_mm=MM5, intensity=intensity).image)
    another = negative_case(number + len(KINDS), spacing_mm=MM5, intensity=intensity)
    alike = intensity is BTCV_INTENSITY and KINDS[number] == "air"  # noise of air lies below the window
    assert np.array_equal(case.image, another.image) == alike


def test_kinds_differ_in_what_they_hold():
    """Air is empty; water is even; a head has bone around brain; a limb has bone in muscle."""
    air, water, head, limb = (negative_case(number, spacing_mm=MM5) for number in range(4))
    assert (air.image > -60).mean() < 0.01
    middle = [case.image[25, 30, 30] for case in (water, head, limb)]
    assert middle[0] > -60
    assert middle[1] < 150
    assert middle[2] > 250
    assert (head.image[25] > 250).mean() > 0.02
