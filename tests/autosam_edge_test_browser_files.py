"""The files that this machine writes for labels that a browser found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from autosam_edge import open_bundle
from autosam_edge.scan_warning import ScanWarning
from autosam_edge.volume import Provenance, Segmentation
from autosam_edge.write_results import write

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np

    from autosam_edge.volume import Volume

NAMES = ("segmentation.nii.gz", "segmentation.dcm")


def write_here(scan: Volume, labels: np.ndarray, told: dict[str, Any], folder: Path) -> None:
    """Write NIfTI and DICOM SEG of ``labels`` with the provenance and warnings of ``statistics.json``."""
    segmentation = Segmentation(
        labels,
        scan.grid,
        open_bundle().manifest.labels,
        provenance=Provenance(**told["provenance"]),
        warnings=tuple(ScanWarning(**warning) for warning in told["warnings"]),
        filled=scan.source.filled,
    )
    write(scan, segmentation, folder, formats=("nifti", "dicom-seg"))
