"""Training cases on the model's grid, prepared with the runtime's own geometry and resampling so that training and device agree.

A case is an image (window mapped to 0..255) and the *occupancy* of every organ: the fraction of each voxel that it fills, found by
sending each organ's mask through the same antialiased filter as the image. Occupancy keeps what a hard label at 3 mm throws away
(docs/adr/0004-occupancy-targets.md).
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from autosam_edge.geometry import Grid, Orientation
from autosam_edge.io.nifti import read_array
from autosam_edge.preprocess import Resampler

if TYPE_CHECKING:
    from collections.abc import Iterable

CLASSES = 14
WINDOW_HU = (-125.0, 275.0)  # the paper's window for BTCV (teacher.md 5.4)
# Four of the 24 training cases of the SwinUNETR split, held out to compare students; the six test cases are never seen here.
VALIDATION_CASES = ("0007", "0010", "0026", "0033")


@dataclass(frozen=True, eq=False)
class Case:
    """One prepared scan.

    Args:
        name: Case number.
        image: (D, H, W) uint8, the HU window mapped to 0..255.
        occupancy: (14, D, H, W) uint8, 255 = the voxel is filled; sums to about 255 over the classes.
    """

    name: str
    image: npt.NDArray[np.uint8]
    occupancy: npt.NDArray[np.uint8]

    @property
    def labels(self) -> npt.NDArray[np.uint8]:
        """(D, H, W) uint8, the organ that fills most of each voxel."""
        return self.occupancy.argmax(axis=0).astype(np.uint8)


def prepare_case(
    name: str, hu: npt.NDArray[np.generic], labels: npt.NDArray[np.generic], grid: Grid, *, spacing_mm: tuple[float, float, float]
) -> Case:
    """Bring a scan and its labels to the model's grid.

    Args:
        name: Case number.
        hu: (D, H, W) HU on ``grid``.
        labels: (D, H, W) integers 0..13 on ``grid``.
        grid: Grid of both arrays, any orientation.
        spacing_mm: The model's spacing (D, H, W).
    """
    orientation = Orientation.of(grid)
    canonical = orientation.canonical_grid(grid)
    low, high = WINDOW_HU
    image = Resampler(canonical, spacing_mm, WINDOW_HU)
    mask = Resampler(canonical, spacing_mm, (0.0, 1.0))
    turned_hu, turned_labels = orientation.to_canonical(hu), orientation.to_canonical(labels)
    depth = image.shape[0]
    scaled = (image.rows(turned_hu, 0, depth) - low) * (255.0 / (high - low))
    occupancy = np.stack([mask.rows(turned_labels == organ, 0, depth) * 255.0 for organ in range(CLASSES)])
    return Case(name, np.rint(scaled).astype(np.uint8), np.rint(occupancy).astype(np.uint8))


def cases_of(data: Path, split: str) -> list[tuple[str, Path, Path]]:
    """Case number, image and label of each case of a split: ``training``, ``validation`` or ``test``."""
    listing = json.loads((data / "dataset.json").read_text())
    entries = listing["test" if split == "test" else "training"]
    found = []
    for entry in entries:
        image = data / entry["image"]
        name = "".join(c for c in image.name.split(".")[0] if c.isdigit())
        if split == "test" or (name in VALIDATION_CASES) == (split == "validation"):
            found.append((name, image, data / entry["label"]))
    return found


def prepare_btcv(source: Path, out: Path, *, spacing_mm: tuple[float, float, float] = (3.0, 3.0, 3.0)) -> Path:
    """Prepare every case of a Decathlon-style folder (``dataset.json``, ``imagesTr``, ``labelsTr``).

    Args:
        source: Folder with the data set.
        out: Folder for the prepared cases, one ``.npz`` each, and ``prepared.json`` with the split and hashes.
        spacing_mm: The model's spacing (D, H, W).

    Returns:
        Path of ``prepared.json``.
    """
    out.mkdir(parents=True, exist_ok=True)
    names: dict[str, list[str]] = {}
    sha256: dict[str, str] = {}
    for split in ("training", "validation", "test"):
        names[split] = []
        for name, image_path, label_path in cases_of(source, split):
            hu, grid = read_array(image_path)
            labels, _ = read_array(label_path)
            case = prepare_case(name, hu, labels, grid, spacing_mm=spacing_mm)
            np.savez(out / f"{name}.npz", image=case.image, occupancy=case.occupancy)
            names[split].append(name)
            sha256[name] = hashlib.sha256(case.image.tobytes() + case.occupancy.tobytes()).hexdigest()
    record = {"spacing_mm": spacing_mm, "window_hu": WINDOW_HU, **names, "sha256": sha256}
    path = out / "prepared.json"
    path.write_text(json.dumps(record, indent=1))
    return path


def load_cases(folder: Path, names: Iterable[str]) -> list[Case]:
    """Load prepared cases into memory (about 30 MB each at 3 mm)."""
    cases = []
    for name in names:
        with np.load(folder / f"{name}.npz", allow_pickle=False) as arrays:
            cases.append(Case(name, arrays["image"], arrays["occupancy"]))
    return cases


def phantom_case(seed: int, *, spacing_mm: tuple[float, float, float]) -> Case:
    """A prepared phantom: synthetic, with truth known in closed form."""
    from autosam_edge.phantom import make_phantom

    phantom = make_phantom(seed)
    return prepare_case(f"phantom-{seed}", phantom.volume.hu, phantom.labels, phantom.volume.grid, spacing_mm=spacing_mm)
