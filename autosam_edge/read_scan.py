"""The reader of every kind of input; the kind is found by content."""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from autosam_edge.error_codes import (
    INPUT_KIND_UNKNOWN,
    INPUT_UNREADABLE,
    METAIMAGE_UNSUPPORTED,
    PATH_MISSING,
    SERIES_WITHOUT_DICOM,
)
from autosam_edge.errors import InputError
from autosam_edge.read_choices import ReadChoices

if TYPE_CHECKING:
    from autosam_edge.volume import Volume

_HEAD_BYTES = 4096
_NIFTI_MAGICS = {344: (b"n+1\x00", b"ni1\x00"), 4: (b"n+2\x00", b"ni2\x00")}  # by offset, NIfTI-1 and NIfTI-2


def read(
    path: str | os.PathLike[str],
    *,
    series: str | None = None,
    allow_gap: bool = False,
    assume_hu: bool = False,
    ignore_frame_of_reference: bool = False,
) -> Volume:
    """Read a CT volume from a DICOM folder, zip or Enhanced CT file, or from a NIfTI or NRRD file.

    Args:
        path: Folder or file; its kind is found by content, not by name.
        series: DICOM series to read where the input holds several: its number in the list that the error
            shows, its SeriesNumber, its SeriesInstanceUID or the start of its hash (8 letters or more);
            ``all`` joins series of one image each.
        allow_gap: Whether missing slices of a DICOM series are filled by interpolation, with a warning.
        assume_hu: Whether values without a rescale are taken as HU, after a check of their range, with a
            warning.
        ignore_frame_of_reference: Whether DICOM slices that name several frames of reference are one volume,
            with a warning.

    Returns:
        The volume in HU, on its own grid.

    Raises:
        InputError: The path is absent (AE-INPUT-001), of an unknown kind (AE-INPUT-002), unreadable
            (AE-INPUT-003) or MetaImage (AE-INPUT-004); ``series`` is given for something else than DICOM
            (AE-INPUT-005); a zip is unsafe, too large or damaged (AE-INPUT-006 to -008); a folder holds links
            that lead out of it, or slices inside gzip (AE-INPUT-009, -011); or the reader of its kind refuses
            it (AE-DICOM-*, AE-NIFTI-*, AE-NRRD-*).

    Example:
        >>> volume = read("scan/", series="2")  # doctest: +SKIP
    """
    source = Path(path)
    choices = ReadChoices(allow_gap, assume_hu, ignore_frame_of_reference)
    kind = _kind(source)
    # Each leaf brings its own third parties, so it is loaded only when it is needed.
    if kind == "dicom":
        from autosam_edge.dicom.read import read_dicom

        return read_dicom(source, series=series, choices=choices)
    if kind == "zip":
        from autosam_edge.dicom.read import read_dicom
        from autosam_edge.formats.zip_archive import UnpackedZip

        unpacked = UnpackedZip(source)
        try:
            return read_dicom(unpacked.root, series=series, choices=choices, keepalive=unpacked)
        except BaseException:
            unpacked.close()
            raise
    if series is not None:
        raise SERIES_WITHOUT_DICOM(
            f"`series` was given, but the input is {kind.upper()}, which has no series."
        )
    if kind == "nifti":
        from autosam_edge.formats.nifti import read_nifti

        return read_nifti(source)
    from autosam_edge.formats.nrrd_volume import read_nrrd

    return read_nrrd(source)


def _kind(path: Path) -> str:
    """One of dicom, zip, nifti and nrrd."""
    try:
        if path.is_dir():
            return "dicom"
        if not path.exists():
            raise PATH_MISSING("the input path does not exist.")
        if not path.is_file():
            raise INPUT_KIND_UNKNOWN(
                "the input is neither a folder nor a regular file.", remedy="Give a folder or a file."
            )
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise INPUT_UNREADABLE(f"the input cannot be read ({type(error).__name__}).") from error
    kind = _kind_of(head)
    if kind == "metaimage":
        raise METAIMAGE_UNSUPPORTED("MetaImage (.mha, .mhd) is not supported.")
    if kind == "unknown":
        raise INPUT_KIND_UNKNOWN(
            "the file is not DICOM, zip, NIfTI or NRRD." if head else "the file is empty."
        )
    return kind


def _kind_of(head: bytes) -> str:
    if head[:2] == b"\x1f\x8b":
        try:
            # 352 bytes hold the magic number of NIfTI.
            head = zlib.decompressobj(16 + zlib.MAX_WBITS).decompress(head, 352)
        except zlib.error:
            return "unknown"
    if head[:4] in (b"PK\x03\x04", b"PK\x05\x06"):
        return "zip"
    if head[:7] == b"NRRD000":
        return "nrrd"
    if any(head[offset : offset + 4] in magics for offset, magics in _NIFTI_MAGICS.items()):
        return "nifti"
    if b"ObjectType" in head[:256] and b"=" in head[:256]:
        return "metaimage"
    from autosam_edge.dicom.header import sniff

    return "dicom" if sniff(head) else "unknown"
