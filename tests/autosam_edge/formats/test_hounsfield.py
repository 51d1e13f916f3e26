"""Values become HU in the smallest type, padding becomes air, and values that look like no HU are told."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from autosam_edge_test_hazards import hazard

from autosam_edge.error_codes import NIFTI_DAMAGED, NIFTI_VALUES_INVALID
from autosam_edge.errors import InputError
from autosam_edge.formats.hounsfield import read_hu
from autosam_edge.formats.voxels import StoredVoxels
from autosam_edge.warning_codes import (
    BRIGHT_VALUES,
    GRAY_LEVELS,
    LITTLE_AIR,
    NORMALIZED_VALUES,
    NOTHING_BELOW_WATER,
    UNDECLARED_PADDING,
)

if TYPE_CHECKING:
    from pathlib import Path

AREA = "NIfTI, NRRD and MetaImage"


def hu_of(tmp_path: Path, values: Any, **scale: float) -> tuple[Any, list[str]]:
    """What is read from values in a file: HU and the codes of the warnings."""
    values = np.ascontiguousarray(values)
    (tmp_path / "v").write_bytes(values.tobytes())
    voxels = StoredVoxels(tmp_path / "v", values.dtype, values.shape, NIFTI_DAMAGED, **scale)
    hu, warnings = read_hu(voxels, NIFTI_VALUES_INVALID)
    return hu, [warning.code for warning in warnings]


@pytest.fixture(scope="module")
def ct() -> Any:
    """A body in HU, with the air around it: fat, soft tissue, lungs and a spine."""
    z, y, x = np.meshgrid(*(np.linspace(-1, 1, side) for side in (28, 66, 68)), indexing="ij")
    radius = np.hypot(x, 1.4 * y)
    hu = np.select([radius > 0.85, radius > 0.7], [-1000, -100], 45)
    hu[(z > 0.2) & (np.hypot(np.abs(x) - 0.35, y) < 0.25)] = -800
    hu[np.hypot(x, y - 0.35) < 0.12] = 500
    return (hu + np.random.default_rng(0).normal(0, 10, hu.shape).round()).clip(-1024)


def mr(ct: Any) -> Any:
    """A picture like MR: nothing outside, fat bright, all above 0."""
    return np.where(
        ct < -300, 0, 400 + 2 * np.abs(ct).clip(0, 150) + np.arange(ct.size).reshape(ct.shape) % 7
    )


def test_a_ct_is_read_without_doubt(ct: Any, tmp_path: Path) -> None:
    """In whole HU, in fractions, scaled, and over three megabytes in several pieces."""
    for values in (ct.astype(np.int16), ct, ct.astype(np.float32) + 0.25, ct.astype(np.int32)):
        hu, codes = hu_of(tmp_path, values)
        assert codes == []
        np.testing.assert_allclose(hu, values)
    hu, codes = hu_of(tmp_path, ((ct + 1024) * 2).astype(np.uint16), slope=0.5, intercept=-1024.0)
    assert (hu.dtype, codes) == (np.float32, [])
    np.testing.assert_allclose(hu, ct)


@pytest.mark.parametrize("stored", [np.int32, np.uint32, np.int64, np.uint64, np.float64])
def test_values_beyond_16_bits_need_32(stored: Any, tmp_path: Path) -> None:
    """Metal on an extended scale lies in the last piece, where 16 bits were taken until then."""
    values = np.full((20, 300, 200), 0, stored)
    values[:5, :, :20], values[-1, -1, -1] = 40, 70_000
    hu, _ = hu_of(tmp_path, values)
    assert hu.dtype == (np.float32 if stored is np.float64 else np.int32)
    np.testing.assert_array_equal(hu, values.astype(np.int64))


@hazard(AREA, "padding below -1500 HU, such as -2000 and -3024", UNDECLARED_PADDING)
@pytest.mark.parametrize("padding", [-2000, -3024, -32768])
def test_padding_becomes_air(ct: Any, tmp_path: Path, padding: int) -> None:
    """As for DICOM."""
    values = ct.astype(np.int16)
    values[:, :3] = padding
    hu, codes = hu_of(tmp_path, values)
    assert codes == [UNDECLARED_PADDING.code]
    assert (hu[:, :3] == -1024).all()
    np.testing.assert_array_equal(hu[:, 3:], values[:, 3:])


@hazard(AREA, "values 0 to 1 or z-scored, or a label image given as the scan", NORMALIZED_VALUES)
def test_normalized_values(ct: Any, tmp_path: Path) -> None:
    """No CT lies within 30 HU."""
    for values in (
        (ct - ct.mean()) / ct.std(),
        ((ct - ct.min()) / np.ptp(ct)).astype(np.float32),
        (ct > 0).astype(np.uint8) * 13,
    ):
        assert hu_of(tmp_path, values)[1] == [NORMALIZED_VALUES.code]


@hazard(AREA, "values 0 to 255, as in screenshots", GRAY_LEVELS)
@pytest.mark.parametrize("stored", [np.uint8, np.int16, np.float32])
def test_display_values(ct: Any, tmp_path: Path, stored: Any) -> None:
    """A window of the scan in gray values."""
    gray = ((ct.clip(-160, 240) + 160) / 400 * 255).astype(stored)
    assert hu_of(tmp_path, gray)[1] == [GRAY_LEVELS.code]


@hazard(AREA, "HU + 1024, also with a few voxels below 0", NIFTI_VALUES_INVALID)
@pytest.mark.parametrize("corner", [0, -1, -500])
def test_shifted_values(ct: Any, tmp_path: Path, corner: int) -> None:
    """One voxel below 0 does not make them HU; as for DICOM."""
    shifted = (ct + 1024).clip(0).astype(np.int16)
    shifted[0, 0, 0] = corner
    with pytest.raises(InputError, match=r"AE-NIFTI-004.*HU \+ 1024.*Subtract 1024"):
        hu_of(tmp_path, shifted)


@hazard(AREA, "bright and dark exchanged", BRIGHT_VALUES)
def test_inverted_values(ct: Any, tmp_path: Path) -> None:
    """Air is never as bright as bone."""
    assert hu_of(tmp_path, -ct)[1] == [BRIGHT_VALUES.code]


@hazard(AREA, "values like those of MR, none below 0", NOTHING_BELOW_WATER)
def test_values_of_mr(ct: Any, tmp_path: Path) -> None:
    """Air is below 0 HU in every CT."""
    values = mr(ct)
    assert values.max() < 900
    assert hu_of(tmp_path, values)[1] == [NOTHING_BELOW_WATER.code]


@hazard(AREA, "values like those of MR with a few voxels below 0", LITTLE_AIR)
def test_values_of_mr_with_a_negative_one(ct: Any, tmp_path: Path) -> None:
    """The share of air counts, not the lowest voxel."""
    values = mr(ct)
    values[-1, -1, -1] = -150
    assert hu_of(tmp_path, values)[1] == [LITTLE_AIR.code]
    values[:, :5] = -2000  # padding is no air
    assert hu_of(tmp_path, values)[1] == [UNDECLARED_PADDING.code, LITTLE_AIR.code]


@hazard(AREA, "values beyond a million, NaN, infinity, colors or complex numbers", NIFTI_VALUES_INVALID)
@pytest.mark.parametrize(
    "value", [np.nan, np.inf, -np.inf, 1e7, -1e7, np.float32(3e38), np.int64(-(2**62)), np.uint64(2**63), 1j]
)
def test_values_that_cannot_be_hu(ct: Any, tmp_path: Path, value: Any) -> None:
    """One such voxel is enough, wherever it is."""
    values = ct.astype(np.asarray(value).dtype)
    values[-1, -1, -1] = value
    with pytest.raises(InputError, match="AE-NIFTI-004.*expected HU"):
        hu_of(tmp_path, values)


def test_absurd_scale(ct: Any, tmp_path: Path) -> None:
    """A slope is data too."""
    with pytest.raises(InputError, match="AE-NIFTI-004"):
        hu_of(tmp_path, ct.astype(np.int16), slope=1e30)
    assert hu_of(tmp_path, np.zeros((3, 3, 3), np.int16), slope=1e30)[0].max() == 0
