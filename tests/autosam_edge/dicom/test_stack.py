"""Slices of any order, orientation, tilt or rounding lie where they were taken, or are refused."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from autosam_edge_test_hazards import hazard
from autosam_edge_test_support import codes, refusal
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from autosam_edge.dicom.read import fill_gaps, read_dicom
from autosam_edge.error_codes import (
    ATTRIBUTE_INVALID,
    DICOM_TOO_LARGE,
    MATRICES_DIFFER,
    ORIENTATION_INVALID,
    ORIENTATIONS_DIFFER,
    POSITION_TWICE,
    SLICES_MISSING,
    SLICES_UNEVEN,
    SPACING_INVALID,
    STACK_SHEARED,
    TOO_FEW_SLICES,
)
from autosam_edge.read_choices import ReadChoices
from autosam_edge.volume import Volume
from autosam_edge.warning_codes import POSITIONS_ROUNDED, SLICES_FILLED, THICK_SLICES, TILT_CORRECTED

ALLOW_GAP = ReadChoices(allow_gap=True)
OBLIQUE = (0.8, 0.6, 0.0, -0.48, 0.64, 0.6)
START = np.array([-100.0, -50.0, 300.0])  # mm


def write_at(ct: Any, positions_mm: Any, **changes: Any) -> None:
    """One image at each position; the name says nothing about the place."""
    for d, position in enumerate(positions_mm):
        mm = [round(float(value), 6) for value in position]
        ct.save(ct.image(d, ImagePositionPatient=mm, **changes), f"im{(7 * d) % 31:02d}-{d}")


def at(x: float, y: float, z: float) -> Any:
    """A position, counted from that of the first slice, mm."""
    return START + np.array([x, y, z])


def along_z(*values_mm: float) -> Any:
    return [at(0, 0, z) for z in values_mm]


def corner_mm(volume: Volume, d: int) -> Any:
    """Position of the first pixel of a slice."""
    return volume.grid.affine[:3, 3] + d * volume.grid.affine[:3, 0]


# Rounded and drifting positions


@hazard(
    "Geometry",
    "positions are rounded to one decimal (steps of 0.625, 0.75, 1.25 or 3.75 mm)",
    POSITIONS_ROUNDED,
)
@pytest.mark.parametrize("step_mm", [0.625, 0.75, 1.25, 3.75])
def test_a_grid_is_fitted_to_rounded_positions(ct_folder: Any, step_mm: float) -> None:
    """The step is the scanner's, not that of two rounded neighbors; no slice lies more than 0.05 mm off."""
    ct = ct_folder("rounded", (40, 6, 8))
    ct.hu //= 4
    write_at(ct, np.round(START + np.arange(40)[:, None] * [0, 0, step_mm], 1))
    volume = read_dicom(ct.path)
    np.testing.assert_array_equal(volume.hu, ct.hu)
    assert volume.grid.spacing_mm[0] == pytest.approx(step_mm, abs=5e-4)
    for d in (0, 17, 39):
        np.testing.assert_allclose(corner_mm(volume, d), at(0, 0, d * step_mm), atol=0.05)
    assert codes(volume) == [POSITIONS_ROUNDED.code]
    assert re.search(r"up to 0\.0[2-5] mm from the regular grid", volume.warnings[0].message)


@hazard("Geometry", "positions of an oblique stack are rounded to one decimal", POSITIONS_ROUNDED)
def test_a_grid_is_fitted_to_rounded_oblique_positions(ct_folder: Any) -> None:
    """Each coordinate is rounded; that is no tilt, although the rounded slices lean."""
    ct = ct_folder("rounded", (12, 6, 8))
    normal = np.cross(OBLIQUE[:3], OBLIQUE[3:])
    exact = START + np.arange(12)[:, None] * 1.25 * normal
    write_at(ct, np.round(exact, 1), orientation=OBLIQUE, PixelSpacing=[0.7, 0.7])
    volume = read_dicom(ct.path)
    for d in (0, 6, 11):
        np.testing.assert_allclose(corner_mm(volume, d), exact[d], atol=0.09)
    assert volume.grid.tilt_deg == pytest.approx(0, abs=1e-5)
    assert codes(volume) == [POSITIONS_ROUNDED.code]


def test_a_short_rounded_stack_is_not_tilted(ct: Any) -> None:
    """0.1 mm over four slices of 1 mm would be a tilt of 2 degrees."""
    write_at(ct, [(-100, -50, 300), (-100, -50, 301), (-100, -50, 302), (-100, -49.9, 303)])
    assert read_dicom(ct.path).grid.tilt_deg == pytest.approx(0, abs=1e-5)


@hazard(
    "Geometry",
    "the distance between slices drifts by 1 %, and each slice lies within 0.05 mm of a grid",
    POSITIONS_ROUNDED,
)
def test_a_slow_drift_is_read(ct_folder: Any) -> None:
    """Gaps from 2.50 to 2.54 mm and back."""
    ct = ct_folder("drift", (9, 6, 8))
    gaps = [2.5, 2.5, 2.52, 2.54, 2.54, 2.54, 2.52, 2.5]
    write_at(ct, along_z(0, *np.cumsum(gaps)))
    volume = read_dicom(ct.path)
    np.testing.assert_array_equal(volume.hu, ct.hu)
    assert volume.grid.spacing_mm[0] == pytest.approx(2.52, abs=0.005)
    assert codes(volume) == [POSITIONS_ROUNDED.code]


def test_exact_positions_give_the_exact_grid_without_a_word(ct_folder: Any) -> None:
    """A fit to 300.0 and 2.5 is 300.0 and 2.5, whatever the number of slices."""
    for count in (3, 7, 40):
        ct = ct_folder(f"exact{count}", (count, 6, 8))
        ct.hu //= 4
        ct.write()
        volume = read_dicom(ct.path)
        np.testing.assert_array_equal(volume.grid.affine[:3, [0, 3]], [[0, -100], [0, -50], [2.5, 300]])
        assert volume.warnings == ()


@hazard("Geometry", "the distance between slices is uneven by more than 0.05 mm and 1 %", SLICES_UNEVEN)
@pytest.mark.parametrize(
    "values_mm", [(0, 2.5, 5, 7.7, 10.2), (0, 2.5, 5, 6, 7, 8), (0, 5, 10, 12, 17), (0, 0.02, 2.5, 5, 7.5)]
)
def test_uneven_slices_are_refused_with_or_without_a_switch(ct: Any, values_mm: tuple[float, ...]) -> None:
    """No regular grid fits; a gap that is no multiple of the step cannot be filled with whole slices."""
    write_at(ct, along_z(*values_mm))
    for options in ({}, {"choices": ALLOW_GAP}):
        error = refusal(ct.path, **options)
        assert error.code == SLICES_UNEVEN.code
        assert "uneven" in error.message


@hazard(
    "Geometry",
    "the distance between slices drifts until a slice lies a quarter of a voxel off",
    SLICES_UNEVEN,
)
def test_a_drift_that_adds_up_is_refused(ct_folder: Any) -> None:
    """Each gap is within 1 % of the next, and the middle slice is 0.4 mm off."""
    ct = ct_folder("drift", (100, 4, 4))
    write_at(ct, along_z(0, *np.cumsum(np.linspace(2.48, 2.52, 99))), PixelSpacing=[0.7, 0.7])
    error = refusal(ct.path)
    assert error.code == SLICES_UNEVEN.code
    assert "expected at most 0.175 mm" in error.message


# Missing slices


@hazard("Geometry", "slices are missing", SLICES_MISSING)
@pytest.mark.parametrize("rounded", [False, True])
def test_missing_slices_are_counted(ct_folder: Any, rounded: bool) -> None:
    """Also where positions are rounded, which makes the nearest neighbors 0.6 mm apart instead of 0.625."""
    ct = ct_folder("gap", (60, 4, 4))
    exact = START + np.array([d for d in range(60) if d not in range(20, 45)])[:, None] * [0, 0, 0.625]
    write_at(ct, np.round(exact, 1 if rounded else 6))
    error = refusal(ct.path)
    assert error.code == SLICES_MISSING.code
    assert error.message.startswith("25 slices are missing, the first after file ")
    assert "`allow_gap`" in error.remedy


@pytest.mark.parametrize(
    ("there", "told"), [((0, 1, 2, 4, 5), "1 slice is missing"), ((0, 1, 2, 5, 6), "2 slices are missing")]
)
def test_one_gap_is_enough(ct: Any, there: tuple[int, ...], told: str) -> None:
    """The number is told in good grammar."""
    write_at(ct, along_z(*(2.5 * d for d in there)))
    error = refusal(ct.path)
    assert error.code == SLICES_MISSING.code
    assert error.message.startswith(f"{told}, the first after file ")


@hazard("Geometry", "slices are missing, and `allow_gap` is given", SLICES_FILLED)
@pytest.mark.parametrize("fraction", ["1", "0.5"])
def test_missing_slices_are_filled_where_a_person_allows_it(ct_folder: Any, fraction: str) -> None:
    """The values of the test series are linear, so interpolation gives what was taken away."""
    ct = ct_folder("gap", (10, 6, 8))
    there = [d for d in range(10) if d not in (3, 6, 7)]
    for d in there:
        ct.save(ct.image(d, RescaleSlope=fraction), f"im{d}")
    volume = read_dicom(ct.path, choices=ALLOW_GAP)
    whole = (ct.hu + 1024) * float(fraction) - 1024
    np.testing.assert_allclose(volume.hu, whole, atol=0.5 if fraction == "1" else 1e-4)
    np.testing.assert_array_equal(volume.hu[there], whole[there])
    assert volume.source.filled == (3, 6, 7)
    assert len(volume.source.files) == 7
    (warning,) = volume.warnings
    assert warning == SLICES_FILLED(
        "3 slices were missing and interpolated from their neighbors: slices 4, 7 to 8 of 10."
    )


@hazard("Geometry", "every third slice is missing, and `allow_gap` is given", SLICES_FILLED)
def test_the_step_is_the_smallest_gap_where_the_median_is_none(ct_folder: Any) -> None:
    """Half of the gaps are one step and half are two."""
    ct = ct_folder("third", (10, 6, 8))
    for d in (0, 2, 3, 5, 6, 8, 9):
        ct.save(ct.image(d), f"im{d}")
    assert refusal(ct.path).code == SLICES_MISSING.code
    np.testing.assert_array_equal(read_dicom(ct.path, choices=ALLOW_GAP).hu, ct.hu)


@hazard("Geometry", "as many slices are missing as there are, and `allow_gap` is given", SLICES_MISSING)
def test_a_gap_as_long_as_the_scan_is_not_filled(ct: Any) -> None:
    """Half of the volume would be invented."""
    write_at(ct, along_z(0, 2.5, 5, 15, 17.5))
    assert read_dicom(ct.path, choices=ALLOW_GAP).shape[0] == 8
    write_at(ct, along_z(0, 2.5, 5, 20, 22.5))
    assert refusal(ct.path, choices=ALLOW_GAP).code == SLICES_MISSING.code


def test_a_gap_of_a_kilometer_is_a_damaged_position(ct: Any) -> None:
    """Its slices are not even counted."""
    write_at(ct, along_z(0, 2.5, 5, 1e6))
    assert refusal(ct.path, choices=ALLOW_GAP).code == SLICES_UNEVEN.code


@given(st.lists(st.integers(1, 4), min_size=1, max_size=6), st.integers(0, 2**31))
def test_filled_slices_lie_between_their_neighbors(steps: list[int], seed: int) -> None:
    """In proportion to their distance; slices that are there keep their values."""
    numbers = tuple(int(number) for number in np.cumsum([0, *steps]))
    hu = np.random.default_rng(seed).integers(-1000, 1000, (len(numbers), 2, 3)).astype(np.int16)
    filled = fill_gaps(hu, numbers)
    expected = np.stack(
        [np.interp(np.arange(len(filled)), numbers, line) for line in hu.reshape(len(hu), -1).T], axis=-1
    )
    np.testing.assert_allclose(filled.reshape(len(filled), -1), expected, atol=0.5 + 1e-9)
    np.testing.assert_array_equal(filled[list(numbers)], hu)


# Tilt


@hazard("Geometry", "the gantry was tilted by up to 35 degrees (sheared stack)", TILT_CORRECTED)
@pytest.mark.parametrize("tilt_deg", [-20.0, -0.5, 12.0, 34.9])
def test_a_tilted_stack_keeps_its_slices_where_they_were_taken(ct_folder: Any, tilt_deg: float) -> None:
    """The grid leans as the slices do; the tag, which scanners fill as they like, plays no part."""
    angle = np.radians(tilt_deg)
    ct = ct_folder("tilted", (30, 6, 8))
    plane = (1.0, 0.0, 0.0, 0.0, float(np.cos(angle)), float(np.sin(angle)))
    write_at(ct, along_z(*range(0, 90, 3)), orientation=plane, GantryDetectorTilt="7")
    volume = read_dicom(ct.path)
    np.testing.assert_array_equal(volume.hu, ct.hu)
    for d in (0, 29):
        np.testing.assert_allclose(corner_mm(volume, d), at(0, 0, 3 * d), atol=1e-6)
    assert volume.grid.tilt_deg == pytest.approx(abs(tilt_deg), abs=1e-4)
    assert volume.grid.slice_distance_mm == pytest.approx(3 * np.cos(angle))
    assert codes(volume) == [TILT_CORRECTED.code]
    assert f"tilted by {abs(tilt_deg):.1f} degrees" in volume.warnings[0].message


@hazard("Geometry", "the gantry was tilted, and slices are missing, and `allow_gap` is given", SLICES_FILLED)
def test_a_gap_in_a_tilted_stack_is_filled(ct: Any) -> None:
    """Pixel by pixel along the stack, as the slices lie."""
    write_at(ct, [at(0, 0.5 * z, z) for z in (0, 3, 6, 12)])
    volume = read_dicom(ct.path, choices=ALLOW_GAP)
    assert volume.source.filled == (3,)
    assert codes(volume) == [SLICES_FILLED.code, TILT_CORRECTED.code]


@hazard("Geometry", "slices are tilted by more than 35 degrees", STACK_SHEARED)
def test_a_tilt_that_no_gantry_has_is_refused(ct: Any) -> None:
    """36 degrees."""
    write_at(ct, [at(0, np.tan(np.radians(36)) * z, z) for z in (0, 3, 6, 9)])
    error = refusal(ct.path)
    assert error.code == STACK_SHEARED.code
    assert "36.0 degrees, expected at most 35" in error.message


@hazard("Geometry", "coronal slices are displaced sideways against each other", STACK_SHEARED)
def test_a_shear_within_the_axial_plane_is_refused(ct: Any) -> None:
    """No gantry leaves that."""
    write_at(ct, [at(0.3 * y, y, 0) for y in (0, 3, 6, 9)], orientation=(1, 0, 0, 0, 0, -1))
    error = refusal(ct.path)
    assert error.code == STACK_SHEARED.code
    assert "axial plane is sheared by" in error.message


@hazard("Geometry", "a slice lies out of line with the others", STACK_SHEARED)
def test_a_slice_out_of_line_is_refused(ct: Any) -> None:
    """By 3 mm, where an eighth is allowed."""
    write_at(ct, [at(0, 3 * (z == 5), z) for z in (0, 2.5, 5, 7.5, 10)])
    error = refusal(ct.path)
    assert error.code == STACK_SHEARED.code
    assert "out of line" in error.message


def test_real_tilted_series_are_read(real_scans: Path) -> None:
    """Of the series that dicom2nifti collected, one is tilted and one is tilted and has a gap."""
    folder = real_scans / "dicom2nifti-failing"
    tilted = read_dicom(folder / "gantrytilting/001")
    assert tilted.shape == (4, 512, 512)
    assert TILT_CORRECTED.code in codes(tilted)
    assert tilted.grid.tilt_deg == pytest.approx(14.0, abs=1e-3)
    both = read_dicom(folder / "sliceincrement/002", choices=ALLOW_GAP)
    assert both.source.filled == (3,)
    assert {TILT_CORRECTED.code, SLICES_FILLED.code} <= set(codes(both))


# Order and orientation


@hazard(
    "Geometry",
    "files, InstanceNumber and SliceLocation are in another order than the slices",
    "read, ordered by position",
)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.permutations(range(5)))
def test_only_positions_make_the_order(ct: Any, order: list[int]) -> None:
    """Names, numbers and locations are shuffled."""
    for d, place in enumerate(order):
        ct.save(ct.image(d, InstanceNumber=place, SliceLocation=float(-place)), f"file{place}")
    volume = read_dicom(ct.path)
    np.testing.assert_array_equal(volume.hu, ct.hu)
    expected = [[0, 0, 0.9, -100], [0, 0.5, 0, -50], [2.5, 0, 0, 300], [0, 0, 0, 1]]
    np.testing.assert_allclose(volume.grid.affine, expected, atol=1e-9)


@hazard(
    "Geometry",
    "the patient lies feet first, prone or on a side",
    "read; position and orientation say where each voxel is",
)
@hazard(
    "Geometry", "slices are coronal, sagittal or oblique", "read; the labels lie on the slices as they are"
)
@hazard(
    "Geometry",
    "rows and columns of pixels have different spacings",
    "read; the first number is the distance between rows",
)
@pytest.mark.parametrize(
    ("position", "orientation"),
    [
        ("HFS", (1, 0, 0, 0, 1, 0)),
        ("FFS", (-1, 0, 0, 0, 1, 0)),
        ("HFP", (-1, 0, 0, 0, -1, 0)),
        ("FFP", (1, 0, 0, 0, -1, 0)),
        ("HFDR", (0, 1, 0, -1, 0, 0)),
        ("HFDL", (0, -1, 0, 1, 0, 0)),
        ("HFS", (0, 1, 0, 0, 0, -1)),  # sagittal
        ("HFS", (1, 0, 0, 0, 0, -1)),  # coronal
        ("HFS", (0.8, 0.6, 0, -0.6, 0.8, 0)),  # turned about z
        ("HFS", (1, 0, 0, 0, 0.96, -0.28)),  # turned about x, but not sheared
        ("HFS", OBLIQUE),
    ],
)
def test_every_voxel_lies_where_position_and_orientation_say(
    ct: Any, position: str, orientation: tuple[float, ...]
) -> None:
    """PS3.3 C.7.6.2.1.1, with pixels of 0.5 mm between rows and 0.9 mm between columns."""
    ct.write(orientation=orientation, PatientPosition=position)
    volume = read_dicom(ct.path)
    np.testing.assert_array_equal(volume.hu, ct.hu)
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    for d, h, w in [(0, 0, 0), (4, 5, 7), (2, 0, 7), (3, 5, 0)]:
        expected = START + 2.5 * d * np.cross(row, column) + 0.5 * h * column + 0.9 * w * row
        np.testing.assert_allclose((volume.grid.affine @ [d, h, w, 1])[:3], expected, atol=1e-5)
    assert volume.grid.spacing_mm == pytest.approx((2.5, 0.5, 0.9))
    assert volume.warnings == ()


@hazard("Geometry", "slices of one series have several orientations", ORIENTATIONS_DIFFER)
def test_mixed_orientations_are_refused(ct: Any) -> None:
    """A reformat among the axial slices."""
    ct.write(4)
    ct.save(ct.image(4, orientation=(0, 1, 0, 0, 0, -1)), "x")
    assert refusal(ct.path).code == ORIENTATIONS_DIFFER.code


@hazard(
    "Geometry", "the axes of ImageOrientationPatient are not perpendicular unit vectors", ORIENTATION_INVALID
)
@pytest.mark.parametrize("axes", [(1.1, 0, 0, 0, 1, 0), (1, 0, 0, 0.1, 0.995, 0), (0, 0, 0, 0, 0, 0)])
def test_damaged_axes_are_refused(ct: Any, axes: tuple[float, ...]) -> None:
    """Too long, not at a right angle, zero."""
    ct.write(ImageOrientationPatient=list(axes))
    assert refusal(ct.path).code == ORIENTATION_INVALID.code


@hazard("Geometry", "slices of one series differ in rows, columns or pixel spacing", MATRICES_DIFFER)
@pytest.mark.parametrize("change", [{"Rows": 8, "Columns": 6}, {"PixelSpacing": [0.5, 0.8]}])
def test_mixed_matrices_are_refused(ct: Any, change: dict[str, Any]) -> None:
    """Two reconstructions."""
    ct.write(4)
    ct.save(ct.image(4, **change), "x")
    assert refusal(ct.path).code == MATRICES_DIFFER.code


# Spacing and number of slices


@hazard(
    "Geometry",
    "SliceThickness or SpacingBetweenSlices is wrong, empty or absent",
    "read; only positions count",
)
@pytest.mark.parametrize("thickness", ["0", "1", "", None])
@pytest.mark.parametrize("spacing", ["-3", "0", "1", None])
def test_only_positions_give_the_distance(ct: Any, thickness: str | None, spacing: str | None) -> None:
    """The slices are 2.5 mm apart, whatever the tags say."""
    for d in range(5):
        image = ct.image(d)
        if thickness is not None:
            image.SliceThickness = thickness
        if spacing is not None:
            image.SpacingBetweenSlices = spacing
        ct.save(image, f"im{d}")
    volume = read_dicom(ct.path)
    assert volume.grid.spacing_mm[0] == pytest.approx(2.5)
    assert volume.warnings == ()


@hazard("Geometry", "slices are 5 mm or more apart", THICK_SLICES)
def test_thick_slices_are_told(ct: Any) -> None:
    """Up to 10 mm."""
    ct.write(step_mm=7.5)
    volume = read_dicom(ct.path)
    assert codes(volume) == [THICK_SLICES.code]
    assert "7.5 mm apart" in volume.warnings[0].message


@hazard(
    "Geometry", "slices are more than 10 mm apart, or pixels below 0.01 mm or above 10 mm", SPACING_INVALID
)
@pytest.mark.parametrize(
    "changes", [{"step_mm": 10.1}, {"PixelSpacing": [0, 0.9]}, {"PixelSpacing": [0.5, 700]}]
)
def test_an_absurd_spacing_is_refused(ct: Any, changes: dict[str, Any]) -> None:
    """Every volume that is measured would be wrong."""
    ct.write(**changes)
    assert refusal(ct.path).code == SPACING_INVALID.code


@hazard("Geometry", "a spacing or position is not a number, or is missing", ATTRIBUTE_INVALID)
@pytest.mark.parametrize("keyword", ["PixelSpacing", "ImagePositionPatient", "ImageOrientationPatient"])
@pytest.mark.parametrize("value", ["nan", None])
def test_a_place_that_is_not_given_is_not_invented(ct: Any, keyword: str, value: str | None) -> None:
    """No spacing of 1 mm in its place."""
    for d in range(5):
        image = ct.image(d)
        count = len(image[keyword].value)
        if value is None:
            del image[keyword]
        else:
            image.add_new(keyword, "LO", [value] * count)
        ct.save(image, f"im{d}")
    assert refusal(ct.path).code == ATTRIBUTE_INVALID.code


@hazard("Geometry", "an image has more than 8192 rows or columns", DICOM_TOO_LARGE)
def test_a_huge_matrix_is_refused(ct: Any) -> None:
    """Before anything is decoded."""
    ct.write(Rows=9000)
    error = refusal(ct.path)
    assert error.code == DICOM_TOO_LARGE.code
    assert "smaller matrix" in error.remedy


@hazard("Geometry", "the series has fewer than three slices", TOO_FEW_SLICES)
@pytest.mark.parametrize("count", [1, 2])
def test_fewer_than_three_slices_are_refused(ct: Any, count: int) -> None:
    """Nobody can tell whether two slices are regular."""
    ct.write(count)
    error = refusal(ct.path)
    assert error.code == TOO_FEW_SLICES.code
    assert f"{count} slice" in error.message


@hazard("Geometry", "different images lie at one position", POSITION_TWICE)
def test_another_image_at_a_position_is_refused(ct: Any) -> None:
    """Two phases in one series."""
    ct.write()
    ct.save(ct.image(2, PixelData=bytes(96), SOPInstanceUID="1.2"), "x")
    error = refusal(ct.path)
    assert error.code == POSITION_TWICE.code
    assert "6 images lie at 5 positions" in error.message


def test_another_frame_at_a_position_is_refused(ct: Any) -> None:
    """The same in one Enhanced CT object."""
    image = ct.enhanced([0, 1, 2, 3])
    image.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence[0].ImagePositionPatient = list(START)
    ct.save(image, "enhanced")
    assert refusal(ct.path).code == POSITION_TWICE.code
