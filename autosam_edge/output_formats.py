"""The formats of results and the names of their files."""

from __future__ import annotations

from typing import Literal, get_args

Format = Literal["nifti", "dicom-seg", "json", "csv", "preview", "dicom-seg-labelmap"]
FORMATS: tuple[Format, ...] = get_args(Format)
DEFAULT_FORMATS: tuple[Format, ...] = ("nifti", "dicom-seg", "json", "csv", "preview")
"""Those that are written when none is asked for, as far as the input allows."""
DICOM_FORMATS: frozenset[Format] = frozenset({"dicom-seg", "dicom-seg-labelmap"})
"""Those that refer to the DICOM series that was segmented, and need one."""
ORGAN_FORMATS: frozenset[Format] = frozenset({"dicom-seg", "dicom-seg-labelmap"})
"""Those that cannot be made when no organ was found."""
FILE_NAMES: dict[Format, str] = {
    "nifti": "segmentation.nii.gz",
    "dicom-seg": "segmentation.dcm",
    "json": "statistics.json",
    "csv": "statistics.csv",
    "preview": "preview.png",
    "dicom-seg-labelmap": "segmentation_labelmap.dcm",
}
_WITHOUT_DICOM = tuple(name for name in DEFAULT_FORMATS if name not in DICOM_FORMATS)
WITHOUT_SEG = f"leave the DICOM SEG out: `formats={_WITHOUT_DICOM}`"
"""End of the remedy of every error of the DICOM SEG."""
