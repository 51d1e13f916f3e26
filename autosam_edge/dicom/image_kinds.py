"""Tell the CT images of conventional kind from localizers, projections, maps and everything else."""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache

from pydicom.uid import UID, MediaStorageDirectoryStorage

from autosam_edge.dicom.header import CT_IMAGES, Header, malformed

MEDIA_DIRECTORY = "media directory (DICOMDIR)"
MAP = "map that is not in HU, such as of iodine, effective atomic number, density or perfusion"
_RENDERING = "projection or rendering"
_NOT_CT = "CT Image whose Modality is not CT"
_NO_MODALITY = "CT Image whose Modality is missing"
# Values of ImageType in capital letters and digits alone. Value 4 of multi-energy images is defined in PS3.3
# C.8.2.1.1.1 (MAT_SPECIFIC, MAT_FRACTIONAL, MAT_VALUE_BASED, EFF_ATOMIC_NUM, ELECTRON_DENSITY are not in HU;
# VMI, MAT_REMOVED, MAT_MODIFIED are), the derived pixel contrast in C.8.16.1.4; the rest is what scanners and
# workstations write.
_KINDS = (
    ("localizer", re.compile("LOCALIZER|SCOUT")),
    (_RENDERING, re.compile("^(MIP|MINIP|MAXIP|PROJECTIONIMAGE|VRT|VOLREN)$")),
    ("screenshot or report", re.compile("SCREENS|CAPTURE|DOSEINFO|REPORT|PROT$")),
)
_RENDERINGS = ("MAX_IP", "MIN_IP", "VOLUME_RENDER", "SURFACE_RENDER", "CURVED_MPR")  # C.8.16.2.1.3
_IN_HU = re.compile(
    "^VMI|MONO|KEV|VNC|VIRTUALNON|VIRTUALUN|^VUE|(MAT|IODINE|CONTRAST)REMOV|MATMODIF|SUPPRESS"
)
_NOT_HU = re.compile(
    "IODI|ZEFF|EFFZ|EFFECTIVEZ|ATOMICNUM|ELECTRONDENS|^RHO|MATSPECIF|MATFRACT|MATVALUE|MATERIALDENS"
    "|DENSITYMAP|URIC|PERFUSION|BLOOD(FLOW|VOL)|^(R?CB[FV]|MTT|TTP|TMAX)$|SUBTRACT|STDDEV|STANDARDDEV"
    "|^(QUANTITY|ADDITION|DIVISION|MULTIPLICATION|TTEST|ZSCORE)$"
)
_YOUNG_CLASSES = {"1.2.840.10008.5.1.4.1.1.66.7": "Label Map Segmentation Storage"}  # unknown to pydicom 3.0
# Of several images, pixel by pixel, where it is value 4 of a derived one.
_EXTREMES = (["MAXIMUM"], ["MINIMUM"])


def ct_images(headers: list[Header]) -> tuple[list[Header], Counter[str]]:
    """The CT images in HU among DICOM files, and a count of the others by kind.

    Raises:
        InputError: The images of one series differ in Modality, or ImageType is malformed (AE-DICOM-006).
    """
    kinds = [(header, _other_kind(header)) for header in headers]
    images = [header for header, kind in kinds if not kind]
    not_ct = [header for header, kind in kinds if kind in (_NOT_CT, _NO_MODALITY)]
    of_ct = {header.raw("SeriesInstanceUID") for header in images if not_ct}
    for header in not_ct:
        if header.raw("SeriesInstanceUID") in of_ct:
            # Passing over it could lose the first or the last slice without leaving a gap.
            raise malformed("Modality", header.name, "CT as in the other images of its series")
    return images, Counter(kind for _, kind in kinds if kind)


def image_type(header: Header) -> frozenset[str]:
    """The values of ImageType in capital letters and digits alone."""
    return _words(header.text("ImageType"))


def is_spectral(header: Header) -> bool:
    """Whether an image in HU is computed from several energies, such as a virtual non-contrast image."""
    return any(_IN_HU.search(word) for word in image_type(header))


@lru_cache(maxsize=256)
def _words(text: str) -> frozenset[str]:
    return frozenset(re.sub("[^A-Z0-9]", "", value.upper()) for value in text.split("\\"))


@lru_cache(maxsize=256)
def kind_of_type(text: str) -> str:
    """What an image is by the values of ImageType or FrameType if it is no cross-section in HU, or empty."""
    words = _words(text)
    if "DERIVED" in words and text.upper().split("\\")[3:4] in _EXTREMES:
        return _RENDERING
    for kind, pattern in _KINDS:
        if any(pattern.search(word) for word in words):
            return kind
    if "ORIGINAL" in words:
        words -= {"PERFUSION"}  # made for perfusion (C.8.16.1.3); a map of perfusion is derived
    is_map = any(_NOT_HU.search(word) for word in words) and not any(_IN_HU.search(word) for word in words)
    return MAP if is_map else ""


def _other_kind(header: Header) -> str:
    """What a DICOM file is if it is no CT image in HU, otherwise empty."""
    sop_class = header.text("SOPClassUID")
    if sop_class in CT_IMAGES:
        if (modality := header.text("Modality")) != "CT":
            return _NOT_CT if modality else _NO_MODALITY
        rendered = header.raw("VolumeBasedCalculationTechnique") in _RENDERINGS
        distorted = header.raw("VolumetricProperties") == "DISTORTED"
        return _RENDERING if rendered or distorted else kind_of_type(header.text("ImageType"))
    if sop_class == MediaStorageDirectoryStorage:
        return MEDIA_DIRECTORY
    return class_title(sop_class) or "object of unknown class"


def class_title(sop_class: str) -> str:
    """Title of a SOP class, or empty if it is not known: such a UID may as well be a damaged one."""
    title = _YOUNG_CLASSES.get(sop_class) or str(UID(sop_class).name)
    return title if title != sop_class else ""
