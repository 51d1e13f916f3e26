"""A data set whose only scan shows organs as blocks, as the studies read it."""

from __future__ import annotations

from types import SimpleNamespace

import nibabel as nib

from autosam_edge.formats.nifti import ras_affine, write_nifti
from autosam_edge.geometry import Grid
from autosam_edge.labels import BTCV_LABELS
from autosam_edge.volume import Segmentation

SPLEEN, KIDNEY = (label.name for label in BTCV_LABELS[:2])


def write_blocks(folder, hu, labels):
    """Write a scan of 3 mm and its labels, 1 a spleen and 2 a kidney; the data set validates with it."""
    grid = Grid.axis_aligned(labels.shape, (3.0, 3.0, 3.0), origin_mm=(5.0, 6.0, 7.0))
    image, label = folder / "image.nii.gz", folder / "label.nii.gz"
    nib.save(nib.Nifti1Image(hu.T, ras_affine(grid.affine)), image)
    write_nifti(Segmentation(labels, grid, BTCV_LABELS[:2]), label)
    entry = SimpleNamespace(name="1", image=image, label_file=label, known=None, check=lambda: None)
    return SimpleNamespace(
        dataset="blocks",
        labels=("background", SPLEEN, KIDNEY),
        entry=entry,
        manifest=SimpleNamespace(entries=lambda split: [entry] if split == "validation" else []),
        manifest_sha256="0",
    )
