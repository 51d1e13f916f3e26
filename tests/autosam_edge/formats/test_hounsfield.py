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
    CONSTANT_PADDING,
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


@hazard(
    AREA,
    "values in another unit, of which more lie below -1500 than padding fills, such as HU x 2",
    LITTLE_AIR,
)
@pytest.mark.parametrize("factor", [2, 10])
def test_more_below_air_than_padding_fills(ct: Any, tmp_path: Path, factor: int) -> None:
    """A circle leaves a fifth of a square, a box that was turned up to half."""
    assert hu_of(tmp_path, ct * factor)[1] == [UNDECLARED_PADDING.code, LITTLE_AIR.code]
    assert hu_of(tmp_path, np.full((9, 9, 9), -2000))[1] == [UNDECLARED_PADDING.code, LITTLE_AIR.code]
    half = ct.copy()
    half[:, :32] = -2000
    assert hu_of(tmp_path, half)[1] == [UNDECLARED_PADDING.code]


def circle(shape: tuple[int, ...]) -> Any:
    """What lies outside of the scanner's circle, (D, H, W)."""
    y, x = np.ogrid[-1 : 1 : shape[1] * 1j, -1 : 1 : shape[2] * 1j]
    return np.broadcast_to(x * x + y * y > 1, shape)


def turned(shape: tuple[int, ...], axes: tuple[int, int], degrees: float = 10) -> Any:
    """What lies outside of a box that was turned within a box of its size."""
    place = np.meshgrid(*(np.linspace(-1, 1, side) for side in shape), indexing="ij")
    (one, two), angle = (place[axis] for axis in axes), np.radians(degrees)
    along, across = np.cos(angle) * one + np.sin(angle) * two, np.cos(angle) * two - np.sin(angle) * one
    return np.maximum(np.abs(along), np.abs(across)) > 1


def moved(shape: tuple[int, ...], axis: int) -> Any:
    """What lies outside of a box that was moved along an axis."""
    return np.broadcast_to(np.indices(shape, sparse=True)[axis] < 4, shape)


OUTSIDE = {
    "circle": lambda shape: circle(shape),
    "turned about x": lambda shape: turned(shape, (0, 1)),
    "turned about y": lambda shape: turned(shape, (0, 2)),
    "turned about z": lambda shape: turned(shape, (1, 2)),
    "turned twice": lambda shape: turned(shape, (1, 2)) | turned(shape, (0, 1), -7),
    "moved along z": lambda shape: moved(shape, 0),
    "moved along x": lambda shape: moved(shape, 2),
}


@hazard(
    AREA,
    "undeclared padding of one value beyond a circle, or a box that was turned or moved",
    CONSTANT_PADDING,
)
@pytest.mark.parametrize("form", OUTSIDE)
@pytest.mark.parametrize("padding", [0, 3071, 32767])
@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0)])
def test_constant_padding_becomes_air(
    ct: Any, tmp_path: Path, form: str, padding: int, order: tuple[int, int, int]
) -> None:
    """In any order of the axes; the same value within the body stays."""
    outside = OUTSIDE[form](ct.shape)
    values = np.where(outside, padding, ct).astype(np.int16)
    values[14, 30:33, 20:30] = min(padding, 3071)
    hu, codes = hu_of(tmp_path, values.transpose(order))
    assert codes == [CONSTANT_PADDING.code]
    np.testing.assert_array_equal(hu, np.where(outside, -1024, values).transpose(order))


def test_doubts_do_not_count_constant_padding(ct: Any, tmp_path: Path) -> None:
    """An MR with padding has no air; a shift shows beside padding."""
    outside = circle(ct.shape)
    values = mr(ct)
    values[14, 30, 30] = -150
    assert hu_of(tmp_path, np.where(outside, 32767, values))[1] == [CONSTANT_PADDING.code, LITTLE_AIR.code]
    with pytest.raises(InputError, match="HU \\+ 1024"):
        hu_of(tmp_path, np.where(outside, 32767, ct + 1024).astype(np.int16))


@hazard(
    AREA,
    "a constant value above air in the corners of values without air, such as a window of HU",
    "not touched",
)
def test_a_constant_that_is_no_padding(ct: Any, tmp_path: Path) -> None:
    """Air that was cut at the end of a window, or a few voxels in the corners."""
    outside = circle(ct.shape)
    few = ct.copy()
    few[:: len(ct) - 1, :2, :2] = few[:: len(ct) - 1, -2:, -2:] = 0
    for values in (
        ct.clip(-125, 275),
        np.where(outside, -1024, ct),
        few,
        np.where(outside, 0, ct.clip(-125)),
    ):
        hu, codes = hu_of(tmp_path, values)
        assert CONSTANT_PADDING.code not in codes
        np.testing.assert_array_equal(hu, values)
    inverted = np.where(outside, 1024, -ct)
    assert BRIGHT_VALUES.code in hu_of(tmp_path, inverted)[1]


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


@hazard(AREA, "HU + 1000", NIFTI_VALUES_INVALID)
@pytest.mark.parametrize(
    ("added", "cut", "told"), [(1000, -99, 1000), (1024, -99, 1024), (1024, 0, 1024), (1000, 0, None)]
)
def test_the_offset_is_told_where_the_air_shows_it(
    ct: Any, tmp_path: Path, added: int, cut: int, told: int | None
) -> None:
    """Subtracting 1024 from HU + 1000 would be wrong by 24 HU, and nobody would see it."""
    with pytest.raises(InputError, match="AE-NIFTI-004") as caught:
        hu_of(tmp_path, (ct + added).clip(cut).astype(np.int16))
    assert (f"Subtract {told}," in caught.value.remedy) == (told is not None)
    assert ("1024" in str(caught.value)) == (told == 1024)
    assert "convert again" in caught.value.remedy.lower()


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
