"""SAM and MedSAM with one point per organ and axial slice (table 2), points taken from the ground truth.

A slice is windowed to 8 bits, shown to SAM in three equal channels, and each organ that the truth has in the
slice gets one positive point; SAM answers one mask each, and where masks overlap the larger logit wins. No
point is ever placed by a person or a network, so the scores tell how well SAM outlines what it is pointed at,
not whether it finds it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

import numpy as np
from scipy.ndimage import distance_transform_edt

from autosam_edge.formats.label_image import read_labels
from autosam_edge.formats.nifti import read_nifti, write_nifti
from autosam_edge.geometry import Orientation
from autosam_edge.label_table import label_table
from autosam_edge.volume import Segmentation

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import numpy.typing as npt

    from autosam_edge.volume import Volume
    from autosam_edge_training.data import Manifest

USES_TRUTH = "Points come from the ground truth at test time; this is no automatic segmentation."

PointRule = Literal["interior", "random"]
POINT_RULES: tuple[PointRule, ...] = get_args(PointRule)


class PointPredictor(Protocol):
    """What is asked of SAM; ``segment_anything.SamPredictor`` has it."""

    def set_image(self, image: npt.NDArray[np.uint8]) -> None:
        """Take an image (H, W, 3) in RGB."""

    def predict(
        self,
        point_coords: npt.NDArray[np.float64],
        point_labels: npt.NDArray[np.int64],
        *,
        multimask_output: bool,
        return_logits: bool,
    ) -> tuple[npt.NDArray[np.float32], Any, Any]:
        """Logits (1, H, W), above 0 inside, for points (N, 2) in x, y; what else SAM returns is not used."""


@dataclass(frozen=True)
class PointConfig:
    """How points are placed and slices shown.

    Args:
        window_hu: (low, high), HU, mapped to 0 and 255.
        rule: ``interior``: the pixel farthest from the organ's outline, of several the first; ``random``: any
            pixel of the organ.
        seed: Of random points.
        limit_slices: Only so many slices of a case, from the first one that has an organ; 0 for all. For
            trying out: the rest stays empty.
    """

    window_hu: tuple[float, float] = (-125.0, 275.0)
    rule: PointRule = "interior"
    seed: int = 0
    limit_slices: int = 0

    def __post_init__(self) -> None:
        if not self.window_hu[0] < self.window_hu[1]:
            raise ValueError(f"a window goes from a lower to a higher HU, not {self.window_hu}")
        if self.rule not in POINT_RULES:
            raise ValueError(f"rule is one of {', '.join(POINT_RULES)}, not {self.rule}")
        if self.limit_slices < 0:
            raise ValueError("limit_slices is 0 or more")


def segment_with_points(
    predictor: PointPredictor,
    volume: Volume,
    truth: npt.NDArray[np.uint8],
    config: PointConfig | None = None,
    *,
    progress: Callable[[int, int], None] | None = None,
) -> npt.NDArray[np.uint8]:
    """Label a scan, slice by slice, pointed at by its own truth.

    Args:
        predictor: SAM, or a fake.
        volume: HU on any grid; slices are cut axially in canonical orientation.
        truth: (D, H, W) on the volume's grid; 0 is the background.
        config: Points and window.
        progress: Told the slices done and their number.

    Returns:
        (D, H, W) uint8 on the volume's grid; a slice without an organ in the truth is empty.

    Raises:
        ValueError: Truth and volume do not share a shape.
    """
    config = config or PointConfig()
    if truth.shape != volume.shape:
        raise ValueError(f"the volume has shape {volume.shape}, the truth {truth.shape}")
    orientation = Orientation.of(volume.grid)
    spacing_mm = orientation.canonical_grid(volume.grid).spacing_mm
    hu, organs = orientation.to_canonical(volume.hu), orientation.to_canonical(truth)
    found = np.zeros(organs.shape, dtype=np.uint8)
    generator = np.random.default_rng(config.seed)
    slices = np.flatnonzero(organs.any(axis=(1, 2)))
    slices = slices[: config.limit_slices or None]
    for done, index in enumerate(slices, start=1):
        predictor.set_image(as_rgb(hu[index], config.window_hu))
        found[index] = _label_slice(predictor, organs[index], spacing_mm[1:], config.rule, generator)
        if progress is not None:
            progress(done, len(slices))
    return np.ascontiguousarray(orientation.from_canonical(found))


def write_point_predictions(
    predictor: PointPredictor,
    manifest: Manifest,
    out: Path,
    config: PointConfig | None = None,
    *,
    facts: dict[str, Any] | None = None,
    say: Callable[[str], None] = print,
) -> Path:
    """Label the test cases of a data set and write ``CASE.nii.gz`` on the scan's own grid, ready for ``evaluate --predictions``.

    Args:
        predictor: SAM, or a fake.
        manifest: The data set.
        out: Folder for the predictions and for ``points.json``, which tells how they were made.
        config: Points and window.
        facts: What else ``points.json`` shall tell, such as the hash of the weights.
        say: Told a line per case.

    Returns:
        The folder.

    Raises:
        InputError: A scan or its truth cannot be read, or they lie on different grids (AE-NIFTI-*,
            AE-DATA-*).
    """
    config = config or PointConfig()
    table = label_table(manifest.labels)
    out.mkdir(parents=True, exist_ok=True)
    say(USES_TRUTH)
    provenance = {
        **asdict(config),
        **(facts or {}),
        "data_sha256": manifest.sha256,
        "uses_ground_truth": USES_TRUTH,
    }
    for entry in manifest.entries("test"):
        volume = read_nifti(entry.image)
        truth = read_labels(
            entry.label, volume.grid, len(manifest.labels), f"image and label of case {entry.name}"
        )
        labels = segment_with_points(predictor, volume, truth, config)
        write_nifti(Segmentation(labels, volume.grid, table, provenance), out / f"{entry.name}.nii.gz")
        say(f"case {entry.name}: {np.unique(labels[labels > 0]).size} organs")
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
    """A slice (H, W) in HU as (H, W, 3), the window's ends at 0 and 255."""
    low, high = window_hu
    gray = np.rint(np.clip((hu.astype(np.float32) - low) * (255.0 / (high - low)), 0.0, 255.0)).astype(
        np.uint8
    )
    return np.repeat(gray[..., None], 3, axis=2)


def place_point(
    mask: npt.NDArray[np.bool_],
    spacing_mm: tuple[float, float],
    rule: PointRule,
    generator: np.random.Generator,
) -> tuple[int, int]:
    """Row and column of the point for an organ.

    Args:
        mask: (H, W), not empty.
        spacing_mm: Between rows and between columns.
        rule: See :class:`PointConfig`.
        generator: Of random points.
    """
    if rule == "random":
        rows, columns = np.nonzero(mask)
        pick = int(generator.integers(len(rows)))
        return int(rows[pick]), int(columns[pick])
    # The picture's border counts as outline: an organ that the field of view cuts gets its point inside, not
    # on the edge.
    depth = distance_transform_edt(np.pad(mask, 1), sampling=spacing_mm)[1:-1, 1:-1]
    row, column = np.unravel_index(int(depth.argmax()), mask.shape)
    return int(row), int(column)
