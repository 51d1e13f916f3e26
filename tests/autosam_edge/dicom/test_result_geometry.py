"""An organ lies at one place, whichever result tells it: NIfTI, DICOM SEG or LABELMAP."""

from __future__ import annotations

from itertools import permutations, product
from typing import TYPE_CHECKING

import nibabel
import numpy as np
import pytest
from autosam_edge_test_hazards import hazard
from autosam_edge_test_seg import SHAPE, SPACING_MM, header, segread

from autosam_edge.labels import BTCV_LABELS
from autosam_edge.read_scan import read
from autosam_edge.volume import Segmentation
from autosam_edge.write_results import write

if TYPE_CHECKING:
    from pathlib import Path

ORIGIN_MM = np.array([-100.5, -80.25, 1200.0])
ORGAN = (slice(2, 5), slice(3, 7), slice(5, 12))  # slices, rows and columns of the bright block
AXES = [
    (np.eye(3)[list(order)] * np.array(signs)[:, None])
    for order in permutations(range(3))
    for signs in product((1, -1), repeat=3)
]
OBLIQUE = np.linalg.qr(np.array([[0.9, 0.3, -0.1], [-0.2, 0.95, 0.2], [0.15, -0.1, 0.97]]))[0]


def write_series(folder: Path, directions: np.ndarray) -> np.ndarray:
    """A series of a bright block, whose slices follow each other along the first direction.

    Args:
        folder: New folder.
        directions: (3, 3) unit vectors of slices, rows and columns. The slices may lie against the normal.

    Returns:
        Center of the block, LPS mm, by the formula of PS3.3 C.7.6.2.1.1.
    """
    folder.mkdir()
    steps = directions * np.array(SPACING_MM)[:, None]
    hu = np.full(SHAPE, -50, np.int16)
    hu[ORGAN] = 300
    for d in range(SHAPE[0]):
        ds = header(d, (*directions[2], *directions[1]))
        ds.ImagePositionPatient = [float(value) for value in np.round(ORIGIN_MM + d * steps[0], 6)]
        ds.PixelData = hu[d].tobytes()
        ds.save_as(folder / f"{d}.dcm", enforce_file_format=True)
    middle = [(part.start + part.stop - 1) / 2 for part in ORGAN]
    center: np.ndarray = ORIGIN_MM + np.array(middle) @ steps
    return center


def centroid(mask: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Mean position of the voxels of a mask."""
    index = np.argwhere(mask).mean(axis=0)
    place: np.ndarray = (affine @ np.array([*index, 1.0]))[:3]
    return place


def dicom_volume(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Mask of all segments and affine of a DICOM SEG or LABELMAP, as highdicom reads them."""
    volume = segread(path).get_volume(combine_segments=True)
    return volume.array > 0, volume.affine


@hazard("Results", "slices of any orientation, oblique and not square", "every result in its place")
@pytest.mark.parametrize("directions", [*AXES, OBLIQUE, OBLIQUE[[2, 0, 1]]])
def test_centroids_agree_in_every_orientation(directions: np.ndarray, tmp_path: Path) -> None:
    """48 orientations and two oblique ones: within 0.1 mm of where the block is."""
    truth = write_series(tmp_path / "scan", directions)
    scan = read(tmp_path / "scan")
    labels = np.where(scan.hu > 200, 6, 0).astype(np.uint8)
    paths = write(
        scan,
        Segmentation(labels, scan.grid, BTCV_LABELS),
        tmp_path / "out",
        formats=("nifti", "dicom-seg", "dicom-seg-labelmap"),
    )
    image = nibabel.load(paths["nifti"])
    found = centroid(np.asarray(image.dataobj) > 0, image.affine) * (-1, -1, 1)  # RAS to LPS
    np.testing.assert_allclose(found, truth, atol=0.1)
    for name in ("dicom-seg", "dicom-seg-labelmap"):
        np.testing.assert_allclose(centroid(*dicom_volume(paths[name])), truth, atol=0.1)
