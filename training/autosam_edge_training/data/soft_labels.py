"""A teacher's probabilities of one scan, small: each organ in its own box, one byte a voxel, compressed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.ndimage import find_objects

from autosam_edge.geometry import Box
from autosam_edge.pipeline.resample import resampling_matrix
from autosam_edge.system.atomic_files import staged_file

_FULL = 255
Spacing = tuple[float, float, float]


@dataclass(frozen=True, eq=False)
class SoftLabels:
    """The probabilities of the organs in every voxel of a scan; the background is what they leave.

    Args:
        shape: Voxels of the scan on the model's grid, (D, H, W).
        spacing_mm: Voxel spacing of that grid, (D, H, W), mm.
        classes: Number of classes with the background.
        parts: Box of each organ that occurs and its probabilities there, uint8, 255 = certain.
    """

    shape: tuple[int, int, int]
    spacing_mm: Spacing
    classes: int
    parts: Mapping[int, tuple[Box, npt.NDArray[np.uint8]]]

    @classmethod
    def of(
        cls, probability: npt.NDArray[np.float32], spacing_mm: Spacing, *, least: float = 1 / _FULL
    ) -> SoftLabels:
        """Take the organs out of probabilities, each rounded to a byte.

        Args:
            probability: (C, D, H, W), 0 to 1, the background first.
            least: Smallest probability that the box of an organ must hold.
        """
        parts = {}
        for value in range(1, len(probability)):
            share = np.rint(probability[value] * np.float32(_FULL)).astype(np.uint8)
            (box,) = find_objects((share >= least * _FULL - 1e-6).astype(np.uint8)) or [None]
            if box is not None:
                parts[value] = box, share[box].copy()
        return cls(probability.shape[1:], spacing_mm, len(probability), parts)

    @cached_property
    def organ_boxes(self) -> dict[int, Box]:
        """The box of every organ that occurs, by class."""
        return {value: box for value, (box, _) in self.parts.items()}

    def share_in(self, value: int, where: Box) -> npt.NDArray[np.float32]:
        """The probability of one organ in a part of its box, (d, h, w).

        Args:
            where: Slices along (D, H, W) of the scan, within the box of the organ.
        """
        box, share = self.parts[value]
        depth, height, width = (
            slice(w.start - b.start, w.stop - b.start) for w, b in zip(where, box, strict=True)
        )
        return np.asarray(share[depth, height, width] / np.float32(_FULL), dtype=np.float32)

    def resampled(self, spacing_mm: Spacing, shape: tuple[int, int, int]) -> SoftLabels:
        """The probabilities on another grid over the same scan, through the runtime's antialiased filter.

        Args:
            shape: Voxels (D, H, W) of the other grid; both grids have the same center.
        """
        matrices = []
        for there, here, count, side in zip(spacing_mm, self.spacing_mm, shape, self.shape, strict=True):
            offsets = (np.arange(count, dtype=np.float64) - (count - 1) / 2.0) * (there / here)
            positions: npt.NDArray[np.float64] = offsets + (side - 1) / 2.0
            matrices.append(resampling_matrix(positions, side))
        parts = {}
        for value, (box, share) in self.parts.items():
            found: npt.NDArray[np.float32] = share.astype(np.float32)
            sides = []
            for axis, matrix in enumerate(matrices):
                weights = matrix[:, box[axis]]
                reached = np.flatnonzero(weights.any(axis=1))
                rows = slice(int(reached[0]), int(reached[-1]) + 1) if len(reached) else slice(0, 0)
                sides.append(rows)
                found = np.moveaxis(np.tensordot(weights[rows], found, axes=(1, axis)), 0, axis)
            if found.size:
                parts[value] = (sides[0], sides[1], sides[2]), np.rint(found).astype(np.uint8)
        return SoftLabels(shape, spacing_mm, self.classes, parts)

    def write(self, path: Path, identity: Mapping[str, str]) -> None:
        """Write a compressed file, which appears whole or not at all.

        Args:
            identity: What the probabilities belong to, such as the SHA-256 of a scan.
        """
        boxes = [
            [value, *(end for side in box for end in (side.start, side.stop))]
            for value, box in self.organ_boxes.items()
        ]
        arrays: dict[str, npt.NDArray[np.generic]] = {
            "shape": np.array(self.shape),
            "spacing_mm": np.array(self.spacing_mm),
            "classes": np.array(self.classes),
            "boxes": np.array(boxes, dtype=np.int64).reshape(-1, 7),
            "identity": np.array([f"{key}={text}" for key, text in sorted(identity.items())]),
            **{f"organ_{value}": share for value, (_, share) in self.parts.items()},
        }
        with staged_file(path) as stage, stage.open("wb") as file:
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]  # it takes any names

    @classmethod
    def read(cls, path: Path) -> tuple[SoftLabels, dict[str, str]]:
        """Read a file of :meth:`write`, and what the probabilities belong to.

        Raises:
            OSError: The file cannot be read.
            ValueError: It is no such file, or it is damaged.
        """
        try:
            with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
                parts = {}
                for value, *ends in file["boxes"].tolist():
                    box = slice(*ends[0:2]), slice(*ends[2:4]), slice(*ends[4:6])
                    share = file[f"organ_{value}"]
                    if share.dtype != np.uint8 or share.shape != tuple(
                        side.stop - side.start for side in box
                    ):
                        raise ValueError(f"organ {value} holds {share.dtype} {share.shape}")
                    parts[value] = box, share
                identity = dict(text.split("=", 1) for text in file["identity"].tolist())
                depth, height, width = file["shape"].tolist()
                along_d, along_h, along_w = file["spacing_mm"].tolist()
                classes = int(file["classes"])
                return cls((depth, height, width), (along_d, along_h, along_w), classes, parts), identity
        except (OSError, MemoryError):
            raise
        except Exception as error:  # NumPy raises whatever its readers raise on a damaged file
            raise ValueError(f"it is damaged ({type(error).__name__})") from error
