"""Where the voxels of a scan lie in the range of HU, from a sample of them."""

from __future__ import annotations

import numpy as np
import pytest

from autosam_edge.hu_histogram import OFFSET, HuHistogram, doubts


@pytest.mark.parametrize("dtype", [np.int16, np.int32, np.float32, np.uint16])
@pytest.mark.parametrize("shape", [(2, 3, 4), (64, 100, 90), (300, 40, 40)])
def test_share_of_known_halves(dtype: type, shape: tuple[int, int, int]) -> None:
    """Even columns hold 0 HU, odd ones 1000; beyond -2048 to 4095 the ends count."""
    hu = np.zeros(shape, dtype)
    hu[..., 1::2] = 1000
    histogram = HuHistogram(hu[..., : shape[2] // 2 * 2])
    if shape == (2, 3, 4):
        assert histogram.share(0, 1) == histogram.share(1000, 1001) == 0.5
    assert histogram.share(0, 1) + histogram.share(1000, 1001) == 1
    assert histogram.share(1, 1000) == 0
    assert HuHistogram(np.full((2, 2, 2), 30_000, np.int32)).share(4095, 4096) == 1


def test_sample_is_small_and_near_the_truth() -> None:
    """A share of 10 % is known to a tenth of itself."""
    hu = np.where(np.random.default_rng(0).random((60, 256, 256)) < 0.1, 50, -1000)
    assert HuHistogram(hu).share(40, 60) == pytest.approx(0.1, rel=0.1)


def test_tissue_and_air_prove_hu_and_their_offset() -> None:
    """5 % of each are enough; one of them alone is not."""
    hu = np.full((10, 40, 40), -1000)
    hu[:, :, :2] = 40
    assert HuHistogram(hu).is_hu()
    assert HuHistogram(hu + OFFSET).is_hu(OFFSET)
    assert not HuHistogram(hu).is_hu(OFFSET)
    assert not HuHistogram(np.full((10, 40, 40), 40)).is_hu()


def test_doubts_need_enough_voxels() -> None:
    """A few voxels without tissue prove nothing."""
    air = np.full((30, 30, 30), -1000)
    assert [w.severity for w in doubts(HuHistogram(air), -1000, -1000)] == ["doubtful"]
    assert doubts(HuHistogram(air[:2]), -1000, -1000) == []
