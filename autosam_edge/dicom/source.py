"""Headers of the series that was segmented, to which a DICOM SEG refers.

They are read with pydicom alone: highdicom takes half a second to load.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from autosam_edge.dicom.header import silenced, stamp_of
from autosam_edge.dicom.parse import Allowance, read_whole_header
from autosam_edge.error_codes import SEG_SOURCE_UNUSABLE
from autosam_edge.errors import AutosamEdgeError, InputError
from autosam_edge.output_formats import WITHOUT_SEG

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pydicom.dataset import Dataset

    from autosam_edge.volume import Source

_MAX_BYTES = 256 << 20  # 4,000 slices whose headers are longer than what is read ahead
_TYPE_1 = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
_TYPE_2 = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
)


def check_can_be_referred_to(file: Path) -> None:
    """Check with one header of the series, before the inference, that a DICOM SEG can refer to it.

    Args:
        file: One DICOM file of the series.

    Raises:
        OutputError: It lacks an identifier that a DICOM SEG needs, or cannot be read (AE-OUTPUT-006).
    """
    with silenced():
        missing = missing_identifiers(read_headers([file]))
    if missing:
        raise headers_not_sound(f"lack {missing}, which a DICOM SEG needs")


def read_headers(files: Sequence[Path]) -> list[Dataset]:
    """Headers without pixels and private elements, by the rules by which the series was read.

    Missing type 2 attributes of patient and study are added empty. Call it inside
    :func:`autosam_edge.dicom.header.silenced`.

    Args:
        files: The files of the series.

    Raises:
        OutputError: A file cannot be read, or there is none (AE-OUTPUT-006).
    """
    sources, allowance = [], Allowance(size=_MAX_BYTES)
    for file in files:
        try:
            header = read_whole_header(file, allowance)
        except (InputError, OSError) as error:
            raise source_changed(
                f"a source DICOM file can no longer be read ({type(error).__name__})"
            ) from None
        for keyword in _TYPE_2:
            if keyword not in header:
                setattr(header, keyword, "")
        sources.append(header)
    if not sources:
        raise source_changed("the volume names no source DICOM file")
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


def source_changed(what: str) -> AutosamEdgeError:
    """The error for a source that does not fit the labels."""
    return SEG_SOURCE_UNUSABLE(
        f"{what}, so the segments cannot be placed.",
        remedy=f"Keep the series unchanged until the run ends, and start again; or {WITHOUT_SEG}.",
    )


def missing_identifiers(sources: Sequence[Dataset]) -> str:
    """Keywords of identifiers (type 1) that a header lacks or leaves empty, with commas."""
    return ", ".join(keyword for keyword in _TYPE_1 if not all(source.get(keyword) for source in sources))


def headers_not_sound(what: str) -> AutosamEdgeError:
    """The error for headers to which no DICOM SEG can refer."""
    return SEG_SOURCE_UNUSABLE(
        f"the source headers {what}.",
        remedy=f"Export the series again with complete headers, or {WITHOUT_SEG}.",
    )
