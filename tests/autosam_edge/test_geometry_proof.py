"""Organs lie at the same place in every file: formula, NIfTI, DICOM SEG and LABELMAP agree to 0.1 mm.

NIfTI is read with nibabel and DICOM with pydicom, so no geometry of the package proves itself.
"""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from autosam_edge_test_hazards import hazard
from autosam_edge_test_support import ORIENTATIONS, make_model
from autosam_edge_test_tilt import tilt_gantry

from autosam_edge.dicom.labelmap import write_dicom_labelmap
from autosam_edge.dicom.read import read_dicom
from autosam_edge.dicom.segmentation import write_dicom_seg
from autosam_edge.engines.fake_engine import ThresholdEngine
from autosam_edge.formats.nifti import read_nifti, write_nifti
from autosam_edge.geometry import Grid, Orientation
from autosam_edge.labels import BTCV_LABELS
from autosam_edge.measurements import dice
from autosam_edge.phantom import make_phantom
from autosam_edge.phantom.series import write_dicom_series
from autosam_edge.phantom.shapes import Solid, cylinder, ellipsoid
from autosam_edge.read_choices import ReadChoices
from autosam_edge.session import Session, open_session
from autosam_edge.volume import Provenance, Segmentation, Volume

TOLERANCE_MM = 0.1
TABLE = BTCV_LABELS[:2]
Centers = dict[str, npt.NDArray[np.float64]]

ORGANS = {
    TABLE[0].name: ellipsoid((-39.0, -7.0, 67.3), (12.0, 12.0, 12.0)),
    TABLE[1].name: ellipsoid((-12.5, -3.4, 69.8), (11.0, 12.0, 13.0)),
}
"""Two organs: a solid of the phantom is a formula of x, y and z in mm."""
CENTERS: Centers = {
    TABLE[0].name: np.array([-39.0, -7.0, 67.3]),
    TABLE[1].name: np.array([-12.5, -3.4, 69.8]),
}
MIDDLE_MM = np.array([-25.0, -5.0, 68.0])
Extent = tuple[float, float, float]  # along x, y and z, mm
SMALL: Extent = (56.0, 32.0, 32.0)
ROUND: Extent = (72.0, 72.0, 72.0)
# Between slices, rows and columns: pixels are not square.
FINE_MM = (2.0, 0.9, 0.5)
COARSE_MM = (2.5, 1.8, 1.0)

UPRIGHT = ORIENTATIONS[0]


def rotation(degrees: tuple[float, float, float]) -> npt.NDArray[np.float64]:
    """Turn about x, then y, then z."""
    result = np.eye(3)
    for axis, angle in enumerate(np.radians(degrees)):
        turn = np.eye(3)
        i, j = (k for k in range(3) if k != axis)
        turn[[i, j], [i, j]] = np.cos(angle)
        turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
        result = turn @ result
    return result


def scan_grid(
    *,
    orientation: Orientation = UPRIGHT,
    turned_deg: tuple[float, float, float] = (0.0, 0.0, 0.0),
    tilt_deg: float = 0.0,
    extent_mm: Extent = ROUND,
    spacing_mm: tuple[float, float, float] = FINE_MM,
) -> Grid:
    """A grid around the organs: tilted about x, then turned, then stored in another order of axes."""
    d, h, w = spacing_mm
    angle = np.radians(tilt_deg)
    axes = np.array([[0, 0, w], [0, h * np.cos(angle), 0], [d, h * np.sin(angle), 0]])  # columns D, H, W
    shape = tuple(int(side) for side in np.ceil(np.divide(extent_mm[::-1], spacing_mm)))
    affine = np.eye(4)
    affine[:3, :3] = rotation(turned_deg) @ axes
    affine[:3, 3] = MIDDLE_MM - affine[:3, :3] @ (np.array(shape) - 1) / 2
    return orientation.input_grid(Grid((shape[0], shape[1], shape[2]), affine))


def positions_mm(grid: Grid) -> list[npt.NDArray[np.float32]]:
    """x, y and z of every voxel, each (D, H, W)."""
    index = np.indices(grid.shape).reshape(3, -1)
    place = grid.affine[:3, :3] @ index + grid.affine[:3, 3:]
    return [line.reshape(grid.shape).astype(np.float32) for line in place]


def truth(grid: Grid) -> Segmentation:
    """The organs of the formula on a grid."""
    x, y, z = positions_mm(grid)
    labels = np.zeros(grid.shape, np.uint8)
    for label in TABLE:
        labels[ORGANS[label.name].field(x, y, z) < 0] = label.value
    made_by = Provenance(version="1", model="formula", model_sha256="0" * 64)
    return Segmentation(labels, grid, TABLE, made_by)


def scan(grid: Grid, organs: list[Solid]) -> Volume:
    """Organs of 200 HU in a body of 40 HU in air, with borders one millimeter wide."""
    x, y, z = positions_mm(grid)
    hu = np.full(grid.shape, -1000.0)
    body = cylinder((float(MIDDLE_MM[0]), float(MIDDLE_MM[1])), (40.0, 40.0), low_mm=-500.0, high_mm=500.0)
    for solid, value in ((body, 40.0), *((organ, 200.0) for organ in organs)):
        hu += np.clip(0.5 - solid.field(x, y, z), 0, 1) * (value - hu)
    return Volume(np.rint(hu).astype(np.int16), grid)


def in_nifti(path: Path) -> Centers:
    """Centers of the labels of a NIfTI file, LPS mm, with nibabel's affine alone."""
    image = nib.load(path)
    labels = np.asarray(image.dataobj)
    found = {}
    for label in TABLE:
        ras = nib.affines.apply_affine(image.affine, np.argwhere(labels == label.value).mean(axis=0))
        found[label.name] = ras * (-1, -1, 1)
    return found


def in_dicom(path: Path) -> Centers:
    """Centers of the segments of a DICOM SEG or LABELMAP, LPS mm.

    From the frames and their positions alone (PS3.3 C.7.6.2.1.1).
    """
    seg = pydicom.dcmread(path)
    shared = seg.SharedFunctionalGroupsSequence[0]
    axes = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, dtype=float)
    between_rows, between_columns = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    shape = int(seg.NumberOfFrames), int(seg.Rows), int(seg.Columns)
    pixels = np.frombuffer(seg.PixelData, np.uint8)
    if seg.SegmentationType == "BINARY":
        pixels = np.unpackbits(pixels, bitorder="little")
    names = {int(item.SegmentNumber): str(item.get("SegmentDescription", "")) for item in seg.SegmentSequence}
    places: dict[str, list[npt.NDArray[np.float64]]] = {name: [] for name in names.values()}
    for frame, group in zip(
        pixels[: np.prod(shape)].reshape(shape), seg.PerFrameFunctionalGroupsSequence, strict=True
    ):
        corner = np.array(group.PlanePositionSequence[0].ImagePositionPatient, dtype=float)
        if seg.SegmentationType == "BINARY":
            frame = frame * int(group.SegmentIdentificationSequence[0].ReferencedSegmentNumber)
        for number in set(np.unique(frame)) - {0}:
            row, column = np.nonzero(frame == number)
            along = np.outer(column * between_columns, axes[:3]) + np.outer(row * between_rows, axes[3:])
            places[names[number]].append(corner + along)
    return {name: np.concatenate(parts).mean(axis=0) for name, parts in places.items() if parts}


def assert_agree(found: Centers) -> None:
    """Every organ has its center, as the formula has it."""
    assert found.keys() == CENTERS.keys()
    off_mm = {name: float(np.linalg.norm(found[name] - CENTERS[name])) for name in CENTERS}
    assert max(off_mm.values()) <= TOLERANCE_MM, off_mm


def prove(grid: Grid, folder: Path) -> None:
    """Write a scan as DICOM, read it, and write its labels in each format."""
    files = write_dicom_series(Volume(np.full(grid.shape, 40, np.int16), grid), folder / "scan")
    volume = read_dicom(folder / "scan")
    labels = truth(grid).labels
    if volume.source.files != tuple(files):  # the normal of the slices runs against the first axis
        assert volume.source.files == tuple(reversed(files))
        labels = labels[::-1]
    segmentation = Segmentation(labels, volume.grid, TABLE, truth(grid).provenance)
    write_nifti(segmentation, folder / "labels.nii.gz")
    assert_agree(in_nifti(folder / "labels.nii.gz"))
    write_dicom_seg(segmentation, volume.source.files, folder / "seg.dcm")
    assert_agree(in_dicom(folder / "seg.dcm"))
    write_dicom_labelmap(segmentation, volume.source.files, folder / "labelmap.dcm")
    assert_agree(in_dicom(folder / "labelmap.dcm"))


@hazard(
    "Results",
    "the scan lies in any of 48 orientations, oblique or tilted",
    "organs lie at the same place in NIfTI, DICOM SEG and LABELMAP, to 0.1 mm",
)
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_48_orientations_agree(orientation: Orientation, tmp_path: Path) -> None:
    """Every order and direction of the axes, with pixels that are not square."""
    prove(scan_grid(orientation=orientation, extent_mm=SMALL, spacing_mm=COARSE_MM), tmp_path)


@pytest.mark.parametrize("turned_deg", [(20.0, 0.0, 0.0), (10.0, -15.0, 30.0), (-40.0, 25.0, 5.0)])
@pytest.mark.parametrize("orientation", [UPRIGHT, Orientation((2, 0, 1), (True, False, True))])
def test_oblique_scans_agree(
    turned_deg: tuple[float, float, float], orientation: Orientation, tmp_path: Path
) -> None:
    """Turned about several axes."""
    prove(scan_grid(turned_deg=turned_deg, orientation=orientation), tmp_path)


@pytest.mark.parametrize("tilt_deg", [12.0, -20.0])
@pytest.mark.parametrize("turned_deg", [(0.0, 0.0, 0.0), (5.0, -8.0, 15.0)])
@pytest.mark.parametrize(
    "orientation",
    [UPRIGHT, Orientation((0, 2, 1), (True, False, True)), Orientation((0, 1, 2), (True, True, False))],
)
def test_tilted_scans_agree(
    tilt_deg: float, turned_deg: tuple[float, float, float], orientation: Orientation, tmp_path: Path
) -> None:
    """The files of a tilted gantry, on the frames that the scanner took."""
    grid = scan_grid(tilt_deg=tilt_deg, turned_deg=turned_deg, orientation=orientation)
    assert grid.tilt_deg == pytest.approx(abs(tilt_deg))
    prove(grid, tmp_path)


# Through the network's grid and back

LONG: Extent = (100.0, 100.0, 160.0)
FAR = [
    ellipsoid((-33.0, -14.2, 19.3), (20.0, 18.0, 19.0)),
    ellipsoid((-19.5, 6.4, 117.8), (19.0, 18.0, 20.0)),
]
FAR_CENTERS_MM = np.array([[-33.0, -14.2, 19.3], [-19.5, 6.4, 117.8]])


def session_of(spacing_mm: tuple[float, float, float]) -> Session:
    """A network that knows an organ by its 200 HU."""
    return Session(make_model(spacing_mm=spacing_mm), ThresholdEngine((40.0, 200.0, 1000.0), width_hu=80.0))


def assert_at_both_ends(segmentation: Segmentation) -> None:
    """The centers of the labels in the lower and in the upper half of the scan are those of the organs."""
    index = np.argwhere(segmentation.labels == 1)
    place = index @ segmentation.grid.affine[:3, :3].T + segmentation.grid.affine[:3, 3]
    upper = place[:, 2] > MIDDLE_MM[2]
    off_mm = np.stack([place[~upper].mean(axis=0), place[upper].mean(axis=0)]) - FAR_CENTERS_MM
    assert np.linalg.norm(off_mm, axis=1).max() <= TOLERANCE_MM, off_mm


@pytest.mark.parametrize("spacing_mm", [(3.0, 3.0, 3.0), (2.0, 1.5, 1.5)])
@pytest.mark.parametrize(
    ("tilt_deg", "turned_deg", "orientation"),
    [
        (0.0, (0.0, 0.0, 0.0), UPRIGHT),
        (12.0, (0.0, 0.0, 0.0), UPRIGHT),
        (-20.0, (0.0, 0.0, 0.0), UPRIGHT),
        (35.0, (0.0, 0.0, 0.0), UPRIGHT),
        (-20.0, (4.0, -6.0, 10.0), Orientation((0, 1, 2), (True, True, False))),
        (12.0, (0.0, 0.0, 0.0), Orientation((2, 0, 1), (True, False, True))),
        (-20.0, (0.0, 0.0, 0.0), Orientation((1, 2, 0), (False, True, True))),
    ],
)
def test_the_run_finds_organs_where_they_are(
    spacing_mm: tuple[float, float, float],
    tilt_deg: float,
    turned_deg: tuple[float, float, float],
    orientation: Orientation,
) -> None:
    """Shear, resampling, tiles and restoration, with a network that knows an organ by its HU.

    The organs lie near both ends of the scan, where a wrong shear would move them by centimeters.
    """
    grid = scan_grid(tilt_deg=tilt_deg, turned_deg=turned_deg, orientation=orientation, extent_mm=LONG)
    assert_at_both_ends(session_of(spacing_mm).segment(scan(grid, FAR)))


@hazard(
    "Results",
    "the gantry was tilted, or slices were filled",
    "the DICOM SEG lies on the frames of the source, and on no others",
)
def test_a_tilted_series_with_a_gap_goes_through_to_the_files(tmp_path: Path) -> None:
    """Read, segmented and written: organs at their places in NIfTI and, on real frames, in DICOM SEG."""
    grid = scan_grid(tilt_deg=-20.0, extent_mm=LONG)
    files = write_dicom_series(scan(grid, FAR), tmp_path / "scan", left_out=(39, 40))
    volume = read_dicom(tmp_path / "scan", choices=ReadChoices(allow_gap=True))
    segmentation = session_of((3.0, 3.0, 3.0)).segment(volume)
    assert_at_both_ends(segmentation)
    assert {"AE-WARN-041", "AE-WARN-043"} <= {warning.code for warning in segmentation.warnings}
    write_nifti(segmentation, tmp_path / "labels.nii.gz")
    again = read_nifti(tmp_path / "labels.nii.gz").grid
    assert again.same_as(volume.grid, tolerance_mm=1e-3)
    write_dicom_seg(segmentation, files, tmp_path / "seg.dcm")
    seg = pydicom.dcmread(tmp_path / "seg.dcm")
    real, shown_at = (
        {tuple(np.round(np.array(item.ImagePositionPatient, dtype=float), 6)) for item in items}
        for items in (
            map(pydicom.dcmread, files),
            (group.PlanePositionSequence[0] for group in seg.PerFrameFunctionalGroupsSequence),
        )
    )
    assert shown_at <= real
    bits = np.unpackbits(np.frombuffer(seg.PixelData, np.uint8))
    shown = np.delete(segmentation.labels, volume.source.filled, axis=0)
    assert bits.sum() == np.count_nonzero(shown)


@pytest.mark.slow
@pytest.mark.parametrize("tilt_deg", [12.0, -20.0])
def test_the_default_model_segments_a_tilted_scan(tilt_deg: float) -> None:
    """The whole abdomen of a phantom: organs are found as in an upright scan, and at the right places."""
    row_mm = 1.5 * float(np.cos(np.radians(tilt_deg)))
    fine = make_phantom(1, spacing_mm=(1.0, row_mm, 1.5), shape=(420, round(250 / row_mm), 230))
    phantom = tilt_gantry(fine, tilt_deg, step_mm=3.0)
    segmentation = open_session().segment(phantom.volume)
    overlap = [dice(segmentation.labels == k, phantom.labels == k) for k in range(1, 14)]
    assert np.mean(overlap) > 0.85
    for organ in ("liver", "kidney_right", "kidney_left"):
        (value,) = (label.value for label in segmentation.table if label.name == organ)
        centers = [
            np.argwhere(labels == value).mean(axis=0) for labels in (segmentation.labels, phantom.labels)
        ]
        assert np.linalg.norm(phantom.volume.grid.affine[:3, :3] @ (centers[0] - centers[1])) < 1.5
