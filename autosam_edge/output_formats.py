"""The formats of results and the names of their files."""

from __future__ import annotations

from typing import Literal, get_args

Format = Literal[
    "nifti",
    "metaimage",
    "dicom-seg",
    "dicom-seg-labelmap",
    "dicom-sr",
    "secondary-capture",
    "json",
    "csv",
    "preview",
]
FORMATS: tuple[Format, ...] = get_args(Format)
"""In the order in which they are written: a structured report refers to the DICOM SEG."""
DEFAULT_FORMATS: tuple[Format, ...] = ("nifti", "dicom-seg", "json", "csv", "preview")
"""Those that are written when none is asked for, as far as the input allows."""
SEG_FORMATS: tuple[Format, ...] = ("dicom-seg", "dicom-seg-labelmap")
"""Those that place organs on the images: they need an organ, and images that share a frame of reference."""
DICOM_FORMATS: tuple[Format, ...] = (*SEG_FORMATS, "dicom-sr", "secondary-capture")
"""Those that refer to the DICOM series that was segmented, and need one."""
FILE_NAMES: dict[Format, str] = {
    "nifti": "segmentation.nii.gz",
    "metaimage": "segmentation.mha",
    "dicom-seg": "segmentation.dcm",
    "dicom-seg-labelmap": "segmentation_labelmap.dcm",
    "dicom-sr": "measurements.dcm",
    "secondary-capture": "preview.dcm",
    "json": "statistics.json",
    "csv": "statistics.csv",
    "preview": "preview.png",
}
_WITHOUT_DICOM = tuple(name for name in DEFAULT_FORMATS if name not in DICOM_FORMATS)
WITHOUT_DICOM = f"leave the DICOM formats out: `formats={_WITHOUT_DICOM}`"
"""End of the remedy of every error of a DICOM format."""
