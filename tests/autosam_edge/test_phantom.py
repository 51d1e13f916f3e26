"""The phantom: closed-form labels, human anatomy, and a DICOM series that gives every voxel its position."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import pydicom
import pytest
from autosam_edge_test_support import codes

from autosam_edge.dicom.read import read_dicom
from autosam_edge.geometry import Grid, Orientation
from autosam_edge.phantom import ORGANS, Phantom, make_phantom
from autosam_edge.phantom.render import Canvas, Warp, smooth_noise
from autosam_edge.phantom.series import write_dicom_series
from autosam_edge.phantom.shapes import Tube, ellipsoid, rotation, union
from autosam_edge.read_choices import ReadChoices
from autosam_edge.volume import Volume
from autosam_edge.warning_codes import POSITIONS_ROUNDED, SLICES_FILLED

if TYPE_CHECKING:
    from pathlib import Path

COARSE_MM = (6.0, 4.0, 4.0)
SEEDS = (0, 1, 2, 3)

# Adults: wide ranges around published CT volumetry, since a phantom patient may be small or large.
HUMAN_ML = {
    "spleen": (70, 350),
    "kidney_right": (90, 250),
    "kidney_left": (90, 250),
    "gallbladder": (8, 80),
    "esophagus": (10, 50),
    "liver": (900, 2300),
    "stomach": (150, 800),
    "aorta": (40, 200),
    "inferior_vena_cava": (40, 180),
    "portal_vein_and_splenic_vein": (12, 60),
    "pancreas": (30, 130),
    "adrenal_gland_right": (1.5, 9),
    "adrenal_gland_left": (1.5, 9),
}
PORTAL_VENOUS_HU = {
    "spleen": (85, 160),
    "kidney_right": (110, 240),
    "kidney_left": (110, 240),
    "gallbladder": (-5, 35),
    "esophagus": (20, 85),
    "liver": (80, 145),
    "aorta": (105, 260),
    "inferior_vena_cava": (70, 190),
    "portal_vein_and_splenic_vein": (100, 210),
    "pancreas": (55, 120),
}


@lru_cache(maxsize=8)
def coarse(seed: int) -> Phantom:
    return make_phantom(seed, spacing_mm=COARSE_MM)


def mask(phantom: Phantom, organ: str) -> np.ndarray:
    return phantom.labels == ORGANS.index(organ) + 1


def center_mm(phantom: Phantom, organ: str) -> np.ndarray:
    index = np.argwhere(mask(phantom, organ)).mean(axis=0)
    return (phantom.volume.grid.affine @ [*index, 1.0])[:3]


def still_canvas(side: int = 41, spacing_mm: float = 2.0) -> Canvas:
    """A canvas around the origin without any warp."""
    corner_mm = -spacing_mm * (side - 1) / 2
    grid = Grid.axis_aligned((side,) * 3, (spacing_mm,) * 3, origin_mm=(corner_mm,) * 3)
    return Canvas(grid, Warp((1.0, 1.0, 1.0), np.zeros((3, 2)), np.ones((3, 2, 2)), np.zeros((3, 2, 2))))


def test_same_seed_same_phantom() -> None:
    """A seed gives the same bits again, another seed another patient."""
    again = make_phantom(0, spacing_mm=COARSE_MM)
    assert np.array_equal(again.volume.hu, coarse(0).volume.hu)
    assert np.array_equal(again.labels, coarse(0).labels)
    assert again.volume.grid.same_as(coarse(0).volume.grid)
    assert not np.array_equal(np.bincount(again.labels.ravel()), np.bincount(coarse(1).labels.ravel()))


def test_label_is_the_sign_of_the_implicit_function() -> None:
    """A sphere of 30 mm has its label and its HU exactly where the distance to its center is below 30 mm."""
    canvas = still_canvas()
    canvas.paint(ellipsoid((3.0, -2.0, 1.0), (30.0, 30.0, 30.0)), 80.0, label=7)
    z, y, x = np.meshgrid(*[np.arange(-40.0, 41.0, 2.0)] * 3, indexing="ij")
    distance = np.sqrt((x - 3) ** 2 + (y + 2) ** 2 + (z - 1) ** 2)
    clear = np.abs(distance - 30) > 1e-3
    assert np.array_equal((canvas.labels == 7)[clear], (distance < 30)[clear])
    assert np.allclose(canvas.hu[distance < 28], 80.0)
    assert np.allclose(canvas.hu[distance > 32], -1000.0)


def test_partial_volume_keeps_the_mass() -> None:
    """Summed over the volume, the painted share of a sphere is its closed-form volume within 1 %."""
    canvas = still_canvas()
    canvas.paint(ellipsoid((0.3, 0.7, -0.4), (25.0, 25.0, 25.0)), 0.0, label=1)
    share = (canvas.hu + 1000.0) / 1000.0
    assert float(share.sum()) * 8.0 == pytest.approx(4 / 3 * np.pi * 25**3, rel=0.01)


def test_turned_ellipsoid_and_tube_and_union_are_what_they_say() -> None:
    """The tip of a turned axis lies on the surface.

    A straight tube is a distance to a line; a union holds its parts.
    """
    turn = rotation(z_deg=30.0)
    tip = (20.0 * turn[:, 0]).astype(np.float32)
    shape = ellipsoid((0.0, 0.0, 0.0), (20.0, 10.0, 5.0), turn)
    one = np.ones((1, 1, 1), np.float32)
    assert abs(float(shape.field(one * tip[0], one * tip[1], one * tip[2])[0, 0, 0])) < 1e-4
    tube = Tube.along([(0.0, 0.0, -20.0), (0.0, 0.0, 20.0)], [6.0, 6.0]).solid()
    assert float(tube.field(one * 10, one * 0, one * 5)[0, 0, 0]) == pytest.approx(4.0, abs=1e-4)
    both = union([shape, tube], blend_mm=3.0)
    points = [one * 1, one * 2, one * 3]
    assert both.field(*points)[0, 0, 0] <= min(shape.field(*points)[0, 0, 0], tube.field(*points)[0, 0, 0])


def test_truth_does_not_depend_on_the_grid() -> None:
    """Where a coarse and a fine grid share voxel centers they share labels: nothing was interpolated."""
    coarse_grid = make_phantom(5, spacing_mm=(9.0, 9.0, 9.0), shape=(30, 34, 40))
    fine_grid = make_phantom(5, spacing_mm=(3.0, 3.0, 3.0), shape=(90, 102, 120))
    same = coarse_grid.labels == fine_grid.labels[1::3, 1::3, 1::3]
    assert same.mean() > 0.9999  # rounding of float32 coordinates may move a voxel that lies on a surface
    assert len(np.unique(coarse_grid.labels)) >= 12


@pytest.mark.parametrize("seed", SEEDS)
def test_volumes_are_human(seed: int) -> None:
    """Every organ is there and has a size that an adult's organ may have."""
    phantom = coarse(seed)
    volumes = {organ: float(mask(phantom, organ).sum()) * phantom.volume.grid.voxel_ml for organ in ORGANS}
    odd = {
        organ: round(ml, 1)
        for organ, ml in volumes.items()
        if not HUMAN_ML[organ][0] <= ml <= HUMAN_ML[organ][1]
    }
    assert not odd


@pytest.mark.parametrize("seed", SEEDS)
def test_contrast_is_portal_venous(seed: int) -> None:
    """The median HU of every organ lies in the range of a portal-venous scan.

    Vessels stand out from the liver's fat-free tissue.
    """
    phantom = coarse(seed)
    hu = phantom.volume.hu
    medians = {organ: float(np.median(hu[mask(phantom, organ)])) for organ in PORTAL_VENOUS_HU}
    odd = {
        organ: value
        for organ, value in medians.items()
        if not PORTAL_VENOUS_HU[organ][0] <= value <= PORTAL_VENOUS_HU[organ][1]
    }
    assert not odd


@pytest.mark.parametrize("seed", SEEDS)
def test_sides_are_right(seed: int) -> None:
    """World x runs to the patient's left and so does W.

    Liver and right kidney low, spleen and left kidney high.
    """
    phantom = coarse(seed)
    at = {organ: center_mm(phantom, organ) for organ in ORGANS}
    for organ in ("liver", "gallbladder", "kidney_right", "adrenal_gland_right", "inferior_vena_cava"):
        assert at[organ][0] < -10, organ
    for organ in ("spleen", "stomach", "kidney_left", "adrenal_gland_left"):
        assert at[organ][0] > 10, organ
    assert at["inferior_vena_cava"][0] < at["aorta"][0]
    assert np.argwhere(mask(phantom, "liver"))[:, 2].mean() < phantom.volume.shape[2] / 2
    for organ in ("kidney_right", "kidney_left"):
        assert at[organ][2] < at["liver"][2]  # superior is +z
        assert at[organ][1] > at["pancreas"][1]  # posterior is +y
    assert at["esophagus"][2] > at["stomach"][2]


def test_default_field_of_view() -> None:
    """The whole phantom is 400 mm wide and 300 to 360 mm long, with air at the corners and lungs above."""
    volume = coarse(0).volume
    d, h, w = (side * step for side, step in zip(volume.shape, volume.grid.spacing_mm, strict=True))
    assert h == w == 400.0
    assert 300.0 <= d <= 360.0
    assert volume.hu.dtype == np.int16
    assert np.abs(volume.hu[:, :5, :5].astype(float) + 1000).max() < 100
    assert volume.hu[:, :5, :5].min() >= -1024
    lungs = ((volume.hu > -950) & (volume.hu < -750)).mean(axis=(1, 2))
    assert lungs[-5:].mean() > 0.1 > lungs[:5].mean() + 0.05


@pytest.mark.parametrize(
    "orientation",
    [
        Orientation((0, 1, 2), (True, False, True)),
        Orientation((2, 1, 0), (False, False, False)),
        Orientation((1, 2, 0), (True, False, False)),
        Orientation((2, 0, 1), (False, True, True)),
    ],
)
def test_orientation_turns_the_array_not_the_patient(orientation: Orientation) -> None:
    """Another orientation gives the same values at the same positions."""
    straight = make_phantom(2, spacing_mm=(10.0, 8.0, 7.0))
    turned = make_phantom(2, spacing_mm=(10.0, 8.0, 7.0), orientation=orientation)
    assert Orientation.of(turned.volume.grid) == orientation
    assert orientation.canonical_grid(turned.volume.grid).same_as(straight.volume.grid)
    assert np.array_equal(orientation.to_canonical(turned.volume.hu), straight.volume.hu)
    assert np.array_equal(orientation.to_canonical(turned.labels), straight.labels)


def test_refuses_what_cannot_be() -> None:
    """A spacing of zero is refused, and labels must fit their volume."""
    with pytest.raises(ValueError, match="spacing"):
        make_phantom(0, spacing_mm=(0.0, 1.0, 1.0))
    with pytest.raises(ValueError, match="labels"):
        Phantom(coarse(0).volume, np.zeros((1, 1, 1), np.uint8))


def test_noise_has_unit_variance() -> None:
    """The smooth field's spread does not depend on the spacing."""
    field = smooth_noise(np.random.default_rng(0), (40, 60, 50), (3.0, 1.5, 2.0), grain_mm=5.0)
    assert field.shape == (40, 60, 50)
    assert float(field.std()) == pytest.approx(1.0, abs=0.15)


@pytest.mark.parametrize(
    "orientation",
    [Orientation((0, 1, 2), (False, False, False)), Orientation((1, 2, 0), (True, False, True))],
)
def test_series_round_trip(tmp_path: Path, orientation: Orientation) -> None:
    """Read through pydicom alone, the series has the same HU at the same positions, in any orientation."""
    volume = make_phantom(4, spacing_mm=(9.0, 6.0, 5.0), orientation=orientation).volume
    files = write_dicom_series(volume, tmp_path / "series", seed=4)
    assert [path.name for path in files[:2]] == ["IM0001.dcm", "IM0002.dcm"]
    assert len(files) == volume.shape[0]
    for index, path in enumerate(files):
        dataset = pydicom.dcmread(path)
        hu = dataset.pixel_array * float(dataset.RescaleSlope) + float(dataset.RescaleIntercept)
        assert np.array_equal(hu, volume.hu[index])
        along_row, along_column = (
            np.array(dataset.ImageOrientationPatient[:3]),
            np.array(dataset.ImageOrientationPatient[3:]),
        )
        down, right = (float(step) for step in dataset.PixelSpacing)
        position = np.array(dataset.ImagePositionPatient) + 7 * down * along_column + 3 * right * along_row
        assert np.allclose(position, (volume.grid.affine @ [index, 7, 3, 1])[:3], atol=1e-4)


def test_series_says_that_it_is_synthetic(tmp_path: Path) -> None:
    """The mandatory attributes are there, the series is one, and no reader can take it for a patient."""
    volume = make_phantom(0, spacing_mm=(40.0, 20.0, 20.0)).volume
    datasets = [pydicom.dcmread(path) for path in write_dicom_series(volume, tmp_path, seed=9)]
    first = datasets[0]
    assert first.file_meta.TransferSyntaxUID == pydicom.uid.ExplicitVRLittleEndian
    assert first.SOPClassUID == pydicom.uid.CTImageStorage
    assert (str(first.PatientName), first.PatientID) == ("Phantom^Abdomen", "PHANTOM-9")
    assert first.ImageComments == "Synthetic phantom; not a patient"
    assert list(first.ImageType) == ["ORIGINAL", "PRIMARY", "AXIAL"]
    assert (first.RescaleSlope, first.RescaleIntercept, first.PixelRepresentation) == (1, -1024, 1)
    for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        assert len({dataset[name].value for dataset in datasets}) == 1
    assert len({dataset.SOPInstanceUID for dataset in datasets}) == len(datasets)
    assert (
        len(
            {first.StudyInstanceUID, first.SeriesInstanceUID, first.FrameOfReferenceUID, first.SOPInstanceUID}
        )
        == 4
    )


def test_series_is_deterministic(tmp_path: Path) -> None:
    """The same volume and seed give the same bytes; another seed gives other UIDs."""
    volume = make_phantom(0, spacing_mm=(80.0, 30.0, 30.0)).volume
    one, two, other = (
        write_dicom_series(volume, tmp_path / name, seed=seed)
        for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]
    assert pydicom.dcmread(one[0]).SeriesInstanceUID != pydicom.dcmread(other[0]).SeriesInstanceUID


def test_the_phantom_writes_gaps_and_rounded_positions(tmp_path: Path) -> None:
    """Slices that are left out are missing; the others are read where the volume has them."""
    volume = make_phantom(0, spacing_mm=(3.75, 8.0, 8.0)).volume
    files = write_dicom_series(volume, tmp_path, left_out=(4, 5), position_decimals=1)
    assert len(files) == volume.shape[0] - 2
    again = read_dicom(tmp_path, choices=ReadChoices(allow_gap=True))
    assert again.source.filled == (4, 5)
    assert set(codes(again)) == {POSITIONS_ROUNDED.code, SLICES_FILLED.code}
    assert again.grid.same_as(volume.grid, tolerance_mm=0.1)
    kept = np.setdiff1d(np.arange(volume.shape[0]), (4, 5))
    np.testing.assert_array_equal(again.hu[kept], volume.hu[kept])


def test_series_refuses_what_dicom_cannot_say(tmp_path: Path) -> None:
    """A sheared slice and values beyond 16 bits are refused before a file is written."""
    sheared = np.eye(4)[:, [2, 1, 0, 3]].copy()
    sheared[0, 1] = 0.3
    hu = np.zeros((2, 3, 4), np.int32)
    with pytest.raises(ValueError, match="sheared"):
        write_dicom_series(Volume(hu, Grid(hu.shape, sheared)), tmp_path / "a")
    with pytest.raises(ValueError, match="16 bits"):
        write_dicom_series(Volume(hu + 40000, Grid(hu.shape, np.eye(4)[:, [2, 1, 0, 3]])), tmp_path / "b")
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "b").exists()
