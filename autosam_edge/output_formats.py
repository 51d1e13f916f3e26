"""The formats of results and the names of their files."""

from __future__ import annotations

from typing import Literal, get_args

Format = Literal["nifti", "dicom-seg", "dicom-sr", "secondary-capture", "json", "csv", "preview"]
FORMATS: tuple[Format, ...] = get_args(Format)
DEFAULT_FORMATS: tuple[Format, ...] = ("nifti", "dicom-seg", "json", "csv", "preview")
"""Written where no formats are named, as far as the input allows."""
DICOM_FORMATS: tuple[Format, ...] = ("dicom-seg", "dicom-sr", "secondary-capture")
"""Formats that refer to the DICOM series that was segmented."""
FILE_NAMES: dict[Format, str] = {
    "nifti": "segmentation.nii.gz",
    "dicom-seg": "segmentation.dcm",
    "dicom-sr": "measurements.dcm",
    "secondary-capture": "preview.dcm",
    "json": "statistics.json",
    "csv": "statistics.csv",
    "preview": "preview.png",
}
WITHOUT_SEG = (
    "leave the DICOM formats out: "
    f"`formats={tuple(name for name in DEFAULT_FORMATS if name not in DICOM_FORMATS)}`"
)
"""End of the remedy of every error of a DICOM format."""
