"""The texts and codes of a DICOM SEG: its organs, the algorithm that found them, and the warnings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import highdicom as hd
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from autosam_edge.dicom.highdicom_tables import parse_on_demand

if TYPE_CHECKING:
    from collections.abc import Iterable

    from autosam_edge.scan_warning import ScanWarning
    from autosam_edge.volume import Label, Provenance

parse_on_demand()  # before highdicom makes its first object

# The code that dcmqi, 3D Slicer, TotalSegmentator and the Imaging Data Commons write. CID 7150 now also lists
# 91723000 under that meaning.
CATEGORY = Code("123037004", "SCT", "Anatomical Structure")
SIDES = {"left": Code("7771000", "SCT", "Left"), "right": Code("24028007", "SCT", "Right")}
_ALGORITHM_PARAMETERS = ("model_sha256", "engine", "engine_version", "precision", "parameters")
_COMMENTS_LENGTH = 10240  # LT, PS3.5 6.2
_DESCRIPTION_LENGTH = 1024  # ST
_LABEL_LENGTH = 64  # LO; a name may have as many, and its side comes before it


def segment_description(
    label: Label,
    number: int,
    algorithm: hd.AlgorithmIdentificationSequence,
    warnings: Iterable[ScanWarning] = (),
) -> hd.seg.SegmentDescription:
    """The Segment Sequence item of one organ.

    Args:
        algorithm: Result of :func:`algorithm`.
        warnings: Warnings about this organ; they stand in Segment Description after its name.

    Source:
        DICOM PS3.3 C.8.20.4, C.10.10.1 (CIELab values), PS3.16 CID 7150, 7151, 244.
    """
    item = hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=_plain(label.title, _LABEL_LENGTH),
        segmented_property_category=CATEGORY,
        segmented_property_type=Code(label.snomed_code, "SCT", label.snomed_meaning),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm,
        display_color=hd.color.CIELabColor.from_rgb(*label.color),
    )
    item.SegmentDescription = _plain("; ".join([label.name, *map(_line, warnings)]), _DESCRIPTION_LENGTH)
    if label.laterality:
        item.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [
            hd.sr.CodedConcept.from_code(SIDES[label.laterality])
        ]
    return item


def algorithm(made_by: Provenance) -> hd.AlgorithmIdentificationSequence:
    """The Segmentation Algorithm Identification Sequence, the same for every organ.

    Source:
        DICOM PS3.3 10.19, PS3.16 CID 7162.
    """
    return hd.AlgorithmIdentificationSequence(
        name=f"autosam-edge {made_by.model}".strip()[:64],
        family=codes.cid7162.ArtificialIntelligence,
        version=(made_by.version or "unknown")[:64],
        source="autosam-edge",
        parameters={
            key: str(value)
            for key, value in made_by.as_dict().items()
            if key in _ALGORITHM_PARAMETERS and value
        },
    )


def image_comments(first_line: str, warnings: Iterable[ScanWarning]) -> str:
    """Image Comments (0020,4000): a sentence, then one warning a line.

    Args:
        first_line: Sentence that every object has.
    """
    return _plain("\r\n".join([first_line, *map(_line, warnings)]), _COMMENTS_LENGTH)


def _line(warning: ScanWarning) -> str:
    organ = f", {warning.organ}" if warning.organ else ""
    return f"{warning.code} ({warning.severity}{organ}): {warning.message}"


def _plain(text: str, length: int) -> str:
    """A text in ASCII, as the character set of the object is that of the source, cut to a length."""
    plain = text.encode("ascii", "replace").decode("ascii")
    return plain if len(plain) <= length else plain[: length - 3] + "..."
