"""A grid that no CT reconstruction has is refused, whatever the format that brings it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from autosam_edge_test_hazards import hazard
from hypothesis import given, settings
from hypothesis import strategies as st

from autosam_edge.ct_grid import check_ct_grid, short_warnings, thick_warnings
from autosam_edge.error_codes import NIFTI_GRID_INVALID
from autosam_edge.errors import InputError
from autosam_edge.geometry import Grid, Orientation
from autosam_edge.warning_codes import SHORT_SCAN, TILT_CORRECTED


def grid(
    *spacing_mm: float,
    shape: tuple[int, int, int] = (5, 6, 7),
    lean_deg: float = 0.0,
    lean: tuple[int, int] = (0, 1),
) -> Grid:
    """An upright grid; ``lean`` = (a, b) turns axis a towards axis b by ``lean_deg``."""
    affine = np.diag([*(spacing_mm or (2.5, 0.5, 0.9)), 1.0])[[2, 1, 0, 3]]  # D runs along z, W along x
    a, b = lean
    affine[2 - b, a] = np.tan(np.radians(lean_deg)) * affine[2 - a, a]
    return Grid(shape, affine)


def rotated(of: Grid, quaternion: Any) -> Grid:
    """The grid turned about its origin, as a float32 header would hold it."""
    w, x, y, z = np.asarray(quaternion) / np.linalg.norm(quaternion)
    affine = np.array(of.affine)
    affine[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ] @ affine[:3, :3]
    return Grid(of.shape, affine.astype(np.float32).astype(np.float64))


quaternions = st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q) > 0.1)


@given(quaternions)
def test_a_straight_grid_passes_however_it_is_turned(quaternion: tuple[float, ...]) -> None:
    """At both ends of the spacing too, which rounding to float32 must not cross."""
    for spacing_mm in ((2.5, 0.5, 0.9), (4.99, 0.01, 0.01)):
        assert check_ct_grid(rotated(grid(*spacing_mm), quaternion), NIFTI_GRID_INVALID) == []
    assert len(check_ct_grid(rotated(grid(10.0, 10.0, 10.0), quaternion), NIFTI_GRID_INVALID)) == 1


@settings(max_examples=30)
@given(quaternions)
def test_the_upright_grid_does_not_depend_on_how_it_is_turned(quaternion: tuple[float, ...]) -> None:
    """A tilt is seen through the rounding to float32, however the grid is turned."""
    turned = rotated(grid(lean_deg=0.2), quaternion)
    canonical = turned.orientation.canonical_grid(turned)
    if canonical.skew_deg > 0.1:
        with pytest.raises(InputError, match=r"axial plane is sheared by 0\.20 degrees"):
            check_ct_grid(turned, NIFTI_GRID_INVALID)
    else:
        (warning,) = check_ct_grid(turned, NIFTI_GRID_INVALID)
        assert warning.code == TILT_CORRECTED.code
        assert "tilted by 0.2 degrees" in warning.message


@hazard(
    "NIfTI, NRRD and MetaImage",
    "the grid is sheared, as by a gantry that was tilted by up to 35 degrees",
    TILT_CORRECTED,
)
@pytest.mark.parametrize("lean", [(0, 1), (0, 2), (1, 0), (2, 0)])
def test_a_tilt_is_corrected_from_a_tenth_of_a_degree_on(lean: tuple[int, int]) -> None:
    """The limits are those of DICOM; the axis along the body leans, or another leans along the body."""
    assert check_ct_grid(grid(lean_deg=0.099, lean=lean), NIFTI_GRID_INVALID) == []
    for lean_deg in (0.101, -0.101, 22.0, 34.9):
        (warning,) = check_ct_grid(grid(lean_deg=lean_deg, lean=lean), NIFTI_GRID_INVALID)
        assert warning == TILT_CORRECTED(
            f"The slices are tilted by {abs(lean_deg):.1f} degrees, as by a tilted gantry; the stack was "
            "straightened for the network, and the labels lie on the slices as they are."
        )


@hazard("NIfTI, NRRD and MetaImage", "the grid is tilted by more than 35 degrees", NIFTI_GRID_INVALID)
@pytest.mark.parametrize("lean_deg", [35.1, -40.0])
def test_a_tilt_that_no_scanner_has_is_refused(lean_deg: float) -> None:
    """Scanners tilt by up to 30 degrees."""
    with pytest.raises(InputError, match=f"tilted by {abs(lean_deg)} degrees, expected at most 35"):
        check_ct_grid(grid(lean_deg=lean_deg), NIFTI_GRID_INVALID)


@hazard("NIfTI, NRRD and MetaImage", "the grid is sheared within the axial plane", NIFTI_GRID_INVALID)
@pytest.mark.parametrize("lean", [(1, 2), (2, 1)])
def test_a_shear_within_the_axial_plane_is_refused(lean: tuple[int, int]) -> None:
    """No gantry leaves that."""
    assert check_ct_grid(grid(lean_deg=0.099, lean=lean), NIFTI_GRID_INVALID) == []
    with pytest.raises(InputError, match=f"{NIFTI_GRID_INVALID}: the axial plane is sheared by 5.00 degrees"):
        check_ct_grid(grid(lean_deg=5.0, lean=lean), NIFTI_GRID_INVALID)


@hazard("Geometry", "the scan covers less than 60 mm along the body", SHORT_SCAN)
def test_a_short_scan_is_told() -> None:
    """Measured along the body, whichever axis of the array that is."""
    assert short_warnings(Grid.axis_aligned((24, 50, 50), (2.5, 0.7, 0.7))) == []
    short = Grid.axis_aligned((8, 512, 512), (3.0, 0.7, 0.7))
    for orientation in (short.orientation, Orientation((2, 1, 0), (True, False, False))):
        (warning,) = short_warnings(orientation.input_grid(short))
        assert warning.severity == "caution"
        assert warning.message == (
            "The scan covers 24 mm along the body, less than 60 mm; organs that it cuts are uncertain."
        )


@pytest.mark.parametrize(
    "spacing_mm",
    [
        (2500, 700, 700),
        (0.0025, 0.0007, 0.0007),
        (2.5, 0.5, 0.009),
        (10.01, 0.5, 0.5),
        (2.5, 12, 0.5),
        (1e99, 0.5, 0.5),
    ],
)
def test_an_absurd_spacing_is_refused(spacing_mm: tuple[float, float, float]) -> None:
    """Micrometers, meters, and what would make the model's grid beyond any memory."""
    with pytest.raises(
        InputError, match=rf"{NIFTI_GRID_INVALID}: the voxels are .* mm \(D, H, W\), expected 0\.01 to 10 mm"
    ):
        check_ct_grid(grid(*spacing_mm), NIFTI_GRID_INVALID)


@pytest.mark.parametrize("shape", [(1, 6, 7), (2, 6, 7), (5, 2, 7), (5, 6, 1)])
def test_fewer_than_three_slices_are_refused_along_any_axis(shape: tuple[int, int, int]) -> None:
    """A single slice is no volume, and sagittal slices lie along W."""
    with pytest.raises(
        InputError,
        match=f"{NIFTI_GRID_INVALID}: the volume has {' x '.join(map(str, shape))} voxels .* at least 3 ",
    ):
        check_ct_grid(grid(shape=shape), NIFTI_GRID_INVALID)


def test_three_slices_are_enough() -> None:
    """As for DICOM."""
    assert check_ct_grid(grid(shape=(3, 3, 3)), NIFTI_GRID_INVALID) == []


def test_thick_slices_are_told() -> None:
    """From 5 mm on, be it 5 mm in float32; along any axis."""
    assert thick_warnings(4.999) == []
    for step_mm in (4.99999, 5.0, 7.5):
        assert [warning.message for warning in thick_warnings(step_mm)] == [
            f"Slices are {step_mm:.3g} mm apart; small organs are uncertain at 5 mm or more."
        ]
    for spacing_mm in ((5.0, 0.5, 0.9), (0.9, 5.0, 0.5), (0.5, 0.9, 5.0)):
        assert check_ct_grid(grid(*spacing_mm), NIFTI_GRID_INVALID) == thick_warnings(5.0)
