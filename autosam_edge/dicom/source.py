"""Headers of the series that was segmented, to which every DICOM result refers.

They are read with pydicom alone: highdicom takes half a second to load. Nothing of them reaches a result but
identifiers and what :mod:`autosam_edge.dicom.patient_study` copies; positions and spacings are those of the
grid that the labels lie on, as a tag of the source may be wrong.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from pydicom.dataset import Dataset

from autosam_edge.dicom.header import stamp_of, texts_of
from autosam_edge.dicom.parse import Allowance, read_whole_header
from autosam_edge.error_codes import SEG_SOURCE_UNUSABLE
from autosam_edge.errors import InputError
from autosam_edge.output_formats import WITHOUT_DICOM

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from autosam_edge.errors import AutosamEdgeError
    from autosam_edge.volume import Source

_MAX_BYTES = 256 << 20  # 4,000 slices whose headers are longer than what is read ahead
_TYPE_1 = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
# PS3.5 9.1, but for zeros at the start of a component: many anonymizers write them, and every reader takes a
# UID as a text.
_UID = re.compile(r"[0-9]+(\.[0-9]+)*")
_HUMAN_CODES = ("337915000", "L-85B00")  # Homo sapiens, of SNOMED CT and SNOMED RT
# A patient of another species has a code or this text (type 1C); some systems write these for people.
_HUMAN = re.compile("homo sapiens|humai?n|umano|mensch|unknown|unspecified|^n/?a$", re.IGNORECASE)
LOSS_RATIO, _LOSS_METHOD = "LossyImageCompressionRatio", "LossyImageCompressionMethod"
_RATIO, _METHOD = re.compile(r"[0-9]{1,8}(\.[0-9]{0,7})?"), re.compile(r"ISO_[0-9_]{1,12}")


def read_headers(files: Sequence[Path], *, placed: bool) -> list[Dataset]:
    """The headers of the source without pixels, by the rules by which the series was read.

    Args:
        files: The DICOM files of the series; read again, as they were closed after the volume was read, and
            may have changed.
        placed: Whether the result places something on the images, and needs their frame of reference.

    Raises:
        OutputError: A file cannot be read any more, or there is none; identifiers are missing, ill-formed or
            not unique, or there is not one frame of reference (AE-OUTPUT-006).
    """
    allowance = Allowance(size=_MAX_BYTES)
    try:
        sources = [read_whole_header(file, allowance) for file in files]
    except (InputError, OSError) as error:
        raise source_changed(f"a source DICOM file can no longer be read ({type(error).__name__})") from None
    if not sources:
        raise source_changed("the volume names no source DICOM file")
    if fault := identifier_fault(sources) or (frame_of_reference_fault(sources) if placed else ""):
        raise headers_not_sound(fault)
    return sources


def check_unchanged(source: Source) -> None:
    """Refuse results that refer to files which are no longer those that were segmented.

    Args:
        source: Origin of the volume; files without a stamp are not compared.

    Raises:
        OutputError: A file vanished, or its size or time of modification differs (AE-OUTPUT-006).
    """
    for file, stamp in zip(source.files, source.stamps, strict=False):
        try:
            now = stamp_of(file.stat())
        except OSError as error:
            raise source_changed(f"a source DICOM file is gone ({type(error).__name__})") from None
        if now != stamp:
            raise source_changed("a source DICOM file changed after it was read")


def identifier_fault(sources: Sequence[Dataset]) -> str:
    """What is wrong with the identifiers of a series and its images, as a phrase; empty if nothing is."""
    values = {keyword: [identifier(source, keyword) for source in sources] for keyword in _TYPE_1}
    if missing := [keyword for keyword in _TYPE_1 if not all(values[keyword])]:
        return f"lack {', '.join(missing)}"
    if wrong := [keyword for keyword in _TYPE_1 if not all(map(_is_uid, values[keyword]))]:
        return f"hold a {', '.join(wrong)} that is not a valid UID"
    if len(set(values["StudyInstanceUID"])) > 1:
        return "name several studies"
    images = len(set(values["SOPInstanceUID"]))
    if images < len(sources):
        return f"hold {images} SOPInstanceUID{'s' if images > 1 else ''} for {len(sources)} images"
    return ""


def frame_of_reference_fault(sources: Sequence[Dataset]) -> str:
    """What is wrong with the frame of reference of a series, as a phrase; empty if nothing is."""
    found = {identifier(source, "FrameOfReferenceUID") for source in sources}
    if "" in found:
        return "lack FrameOfReferenceUID"
    if len(found) > 1:
        return "name several frames of reference"
    return "" if _is_uid(*found) else "hold a FrameOfReferenceUID that is not a valid UID"


def identifier(source: Dataset, keyword: str) -> str:
    """An attribute of a source as text; empty when it is absent or cannot be decoded."""
    try:
        return str(source.get(keyword) or "").strip()
    except Exception:  # pydicom raises many types for a damaged element
        return ""


def burned_in_annotation(source: Dataset) -> bool:
    """Whether an image says that text which identifies the patient is part of its pixels.

    Source:
        DICOM PS3.3 C.7.6.1 (General Image).
    """
    return identifier(source, "BurnedInAnnotation").upper() == "YES"


def shows_animal(source: Dataset) -> bool:
    """Whether an image says that its patient is an animal: by a species other than human, or as a quadruped.

    Source:
        DICOM PS3.3 C.7.1.1 (Patient), C.7.3.1.1.1 (Anatomical Orientation Type).
    """
    try:
        codes = [identifier(item, "CodeValue") for item in source.get("PatientSpeciesCodeSequence") or ()]
    except Exception:  # see identifier
        codes = []
    if identifier(source, "AnatomicalOrientationType").upper() == "QUADRUPED":
        return True
    if any(codes):
        return not set(codes) & set(_HUMAN_CODES)
    species = identifier(source, "PatientSpeciesDescription")
    return species != "" and _HUMAN.search(species) is None


def copy_lossy_compression(sources: Sequence[Dataset], target: Dataset) -> None:
    """Say in a result that images behind it were compressed with loss; nothing is said if none was.

    Args:
        sources: Result of :func:`read_headers`.
        target: Receives the attributes of the first such image.

    Source:
        DICOM PS3.3 C.7.6.1.1.5: what was lossy once stays so in all that is derived from it.
    """
    for source in sources:
        if identifier(source, "LossyImageCompression") == "01":
            target.LossyImageCompression = "01"
            for keyword, values in loss_of(source).items():
                if values:
                    setattr(target, keyword, values)
            return


def loss_of(source: Dataset) -> dict[str, list[str]]:
    """Ratios and methods of the compressions with loss, by keyword.

    An attribute is empty if one of its values is of another form than the standard's: it may hold a name.
    """
    found = {}
    for keyword, form in ((LOSS_RATIO, _RATIO), (_LOSS_METHOD, _METHOD)):
        try:
            values = texts_of(source, keyword, "")
        except InputError:  # a damaged element
            values = []
        found[keyword] = values if all(map(form.fullmatch, values)) else []
    return found


def referenced_series(sources: Sequence[Dataset]) -> list[Dataset]:
    """Items of Referenced Series Sequence: every source image, by its series.

    Args:
        sources: Result of :func:`read_headers`.

    Source:
        DICOM PS3.3 C.12.2 (Common Instance Reference).
    """
    items: dict[str, Dataset] = {}
    for source in sources:
        uid = identifier(source, "SeriesInstanceUID")
        if uid not in items:
            items[uid] = Dataset()
            items[uid].SeriesInstanceUID, items[uid].ReferencedInstanceSequence = uid, []
        image = Dataset()
        image.ReferencedSOPClassUID = identifier(source, "SOPClassUID")
        image.ReferencedSOPInstanceUID = identifier(source, "SOPInstanceUID")
        items[uid].ReferencedInstanceSequence.append(image)
    return list(items.values())


def source_changed(what: str) -> AutosamEdgeError:
    """The error for a source that does not fit the labels.

    Args:
        what: What was found, as the start of a sentence.
    """
    return SEG_SOURCE_UNUSABLE(
        f"{what}, so no DICOM result can refer to the series.",
        remedy=f"Keep the series unchanged until the run ends, and start again; or {WITHOUT_DICOM}.",
    )


def headers_not_sound(what: str) -> AutosamEdgeError:
    """The error for headers to which no DICOM result can refer.

    Args:
        what: What the headers do or lack, as the rest of a sentence.
    """
    return SEG_SOURCE_UNUSABLE(
        f"the source headers {what}, so no DICOM result can refer to them.",
        remedy=f"Export the series again with complete headers, or {WITHOUT_DICOM}.",
    )


def _is_uid(text: str) -> bool:
    return len(text) <= 64 and _UID.fullmatch(text) is not None
