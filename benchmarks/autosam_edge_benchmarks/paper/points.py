"""SAM and MedSAM with one point per organ and axial slice (table 2), taken from the ground truth.

A slice is mapped to 8 bits and given to SAM in three equal channels. Each organ of the slice gets one
positive point, for which SAM returns one mask; where masks overlap, the larger logit wins. The points come
from the ground truth, so the scores show how well SAM outlines an object at a given point, not whether it
finds it.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt

from autosam_edge.formats.label_image import read_labels
from autosam_edge.formats.nifti import read_nifti, write_nifti
from autosam_edge.labels import label_table
from autosam_edge.volume import Provenance, Segmentation, Volume
from autosam_edge_training.data import Manifest

USES_TRUTH = "Points come from the ground truth at test time; this is no automatic segmentation."

PointRule = Literal["interior", "random"]


class PointPredictor(Protocol):
    """The methods of ``segment_anything.SamPredictor`` that are used."""

    def set_image(self, image: npt.NDArray[np.uint8]) -> None:
        """Set the image, (H, W, 3) uint8 in RGB."""

    def predict(
        self,
        point_coords: npt.NDArray[np.float64],
        point_labels: npt.NDArray[np.int64],
        *,
        multimask_output: bool,
        return_logits: bool,
    ) -> tuple[npt.NDArray[np.float32], Any, Any]:
        """Return logits (1, H, W), above 0 inside, of points (N, 2) in x, y, and two unused outputs."""


@dataclass(frozen=True)
class PointConfig:
    """Rules for placing points and for mapping HU to gray values.

    Args:
        window_hu: Window (low, high) in HU, mapped to 0 and 255.
        rule: ``interior``: the pixel farthest from the organ's outline, of several the first; ``random``: any
            pixel of the organ.
        seed: Random seed of ``random`` points.
        limit_slices: Largest number of slices per case, from the first one that has an organ; the rest stays
            empty; 0 for no limit.
    """

    window_hu: tuple[float, float] = (-125.0, 275.0)
    rule: PointRule = "interior"
    seed: int = 0
    limit_slices: int = 0


def segment_with_points(
    predictor: PointPredictor, volume: Volume, truth: npt.NDArray[np.uint8], config: PointConfig
) -> npt.NDArray[np.uint8]:
    """Label a scan slice by slice, with points from its ground truth.

    Args:
        truth: Labels (D, H, W) on the volume's grid; 0 is the background.

    Returns:
        Labels (D, H, W) uint8 on the volume's grid; a slice without an organ in the truth is empty.
    """
    orientation, spacing_mm = volume.grid.orientation, volume.grid.canonical.spacing_mm
    hu, organs = orientation.to_canonical(volume.hu), orientation.to_canonical(truth)
    found = np.zeros(organs.shape, dtype=np.uint8)
    generator = np.random.default_rng(config.seed)
    slices = np.flatnonzero(organs.any(axis=(1, 2)))[: config.limit_slices or None]
    for index in slices:
        predictor.set_image(as_rgb(hu[index], config.window_hu))
        found[index] = _label_slice(predictor, organs[index], spacing_mm[1:], config.rule, generator)
    return np.ascontiguousarray(orientation.from_canonical(found))


def write_point_predictions(
    predictor: PointPredictor,
    manifest: Manifest,
    out: Path,
    config: PointConfig,
    *,
    facts: Mapping[str, str],
    log: Callable[[str], None],
) -> Path:
    """Label the test cases of a data set and write ``CASE.nii.gz`` for ``evaluate --predictions``.

    Args:
        out: Folder for the predictions, on each scan's own grid, and for ``points.json``, the provenance.
        facts: Entries of the predictor for the provenance.

    Raises:
        InputError: A scan or its truth cannot be read, or their grids differ (AE-NIFTI-*,
            AE-DATA-*).
    """
    table = label_table(manifest.labels)
    out.mkdir(parents=True, exist_ok=True)
    log(USES_TRUTH)
    provenance = {**asdict(config), **facts, "data_sha256": manifest.sha256, "uses_ground_truth": USES_TRUTH}
    for entry in manifest.entries("test"):
        volume = read_nifti(entry.image)
        what = f"image and label of case {entry.name}"
        truth = read_labels(entry.label_file, volume.grid, len(manifest.labels), what)
        labels = segment_with_points(predictor, volume, truth, config)
        found = Segmentation(labels, volume.grid, table, Provenance(parameters=provenance))
        write_nifti(found, out / f"{entry.name}.nii.gz")
        log(f"case {entry.name}: {np.unique(labels[labels > 0]).size} organs")
    (out / "points.json").write_text(json.dumps(provenance, indent=1) + "\n")
    return out


def _label_slice(
    predictor: PointPredictor,
    organs: npt.NDArray[np.uint8],
    spacing_mm: tuple[float, float],
    rule: PointRule,
    generator: np.random.Generator,
) -> npt.NDArray[np.uint8]:
    """(H, W) labels of one slice: of the organs whose logit is above 0, the one with the largest."""
    found = np.zeros(organs.shape, dtype=np.uint8)
    largest = np.zeros(organs.shape, dtype=np.float32)
    for organ in np.unique(organs[organs > 0]):
        row, column = place_point(organs == organ, spacing_mm, rule, generator)
        point = np.array([[column, row]], dtype=np.float64)  # SAM counts x, y
        logits = predictor.predict(
            point, np.ones(1, dtype=np.int64), multimask_output=False, return_logits=True
        )[0][0]
        wins = logits > largest
        found[wins] = organ
        largest[wins] = logits[wins]
    return found


def as_rgb(hu: npt.NDArray[np.generic], window_hu: tuple[float, float]) -> npt.NDArray[np.uint8]:
    """Convert a slice (H, W) in HU to (H, W, 3) uint8; the window's ends become 0 and 255."""
    low, high = window_hu
    gray = np.rint(np.clip((hu.astype(np.float32) - low) * (255.0 / (high - low)), 0.0, 255.0))
    return np.repeat(gray.astype(np.uint8)[..., None], 3, axis=2)


def place_point(
    mask: npt.NDArray[np.bool_],
    spacing_mm: tuple[float, float],
    rule: PointRule,
    generator: np.random.Generator,
) -> tuple[int, int]:
    """Place the point of an organ.

    Args:
        mask: Pixels of the organ (H, W), at least one.
        rule: Rule of :class:`PointConfig`.
    """
    if rule == "random":
        rows, columns = np.nonzero(mask)
        pick = int(generator.integers(len(rows)))
        return int(rows[pick]), int(columns[pick])
    # The border of the slice counts as outline, so that an organ that it cuts gets a point inside the organ.
    depth = distance_transform_edt(np.pad(mask, 1), sampling=spacing_mm)[1:-1, 1:-1]
    row, column = np.unravel_index(int(depth.argmax()), mask.shape)
    return int(row), int(column)
