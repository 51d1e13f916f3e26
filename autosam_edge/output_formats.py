"""The formats of results and the names of their files."""

from __future__ import annotations

from typing import Literal, get_args

Format = Literal["nifti", "dicom-seg", "json", "csv", "preview"]
FORMATS: tuple[Format, ...] = get_args(Format)
FILE_NAMES: dict[Format, str] = {
    "nifti": "segmentation.nii.gz",
    "dicom-seg": "segmentation.dcm",
    "json": "statistics.json",
    "csv": "statistics.csv",
    "preview": "preview.png",
}
WITHOUT_SEG = f"leave the DICOM SEG out: `formats={tuple(name for name in FORMATS if name != 'dicom-seg')}`"
"""End of the remedy of every error of the DICOM SEG."""
