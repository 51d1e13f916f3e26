"""The reader of every kind of input; the kind is found by content."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from autosam_edge.error_codes import INPUT_KIND_UNKNOWN, INPUT_UNREADABLE, PATH_MISSING, SERIES_WITHOUT_DICOM
from autosam_edge.errors import InputError
from autosam_edge.formats.companion import sibling
from autosam_edge.formats.file_kind import ENOUGH_BYTES, kind_of, other_kind
from autosam_edge.formats.voxels import read_start
from autosam_edge.read_choices import ReadChoices

if TYPE_CHECKING:
    from autosam_edge.errors import AutosamEdgeError
    from autosam_edge.volume import Volume

_NAMES = {"nifti": "NIfTI", "nrrd": "NRRD", "metaimage": "MetaImage"}


def read(
    path: str | os.PathLike[str],
    *,
    series: str | int | None = None,
    allow_gap: bool = False,
    assume_hu: bool = False,
    ignore_frame_of_reference: bool = False,
    max_memory_mb: float | None = None,
) -> Volume:
    """Read a CT volume from a DICOM folder, zip or Enhanced CT file, or from NIfTI, NRRD or MetaImage.

    Args:
        path: Folder or file; its kind is found by content, not by name. Of a volume in two files, such as
            ``.hdr`` and ``.img``, or ``.mhd`` and ``.raw``, the header.
        series: DICOM series to read where the input holds several: its number in the list that the error
            shows, its SeriesNumber, its SeriesInstanceUID or the start of its hash (8 letters or more);
            ``all`` joins series of one image each.
        allow_gap: Whether missing slices of a DICOM series are filled by interpolation, with a warning.
        assume_hu: Whether values without a rescale are taken as HU, after a check of their range, with a
            warning.
        ignore_frame_of_reference: Whether DICOM slices that name several frames of reference are one volume,
            with a warning.
        max_memory_mb: Limit for the resident memory of the process, MB; a volume that alone exceeds it is
            refused before it is read. None sets no limit.

    Returns:
        The volume in HU, on its own grid.

    Raises:
        InputError: The path is absent (AE-INPUT-001), of an unknown kind (AE-INPUT-002), unreadable
            (AE-INPUT-003); ``series`` is given for something else than DICOM (AE-INPUT-005); a zip is unsafe,
            too large or damaged (AE-INPUT-006 to -008); a folder holds links that lead out of it, or slices
            inside gzip (AE-INPUT-009, -011); the second file of a volume is missing (AE-INPUT-012); a volume
            is too large (AE-INPUT-013); or the reader of its kind refuses it (AE-DICOM-*, AE-NIFTI-*,
            AE-NRRD-*, AE-MHA-*).
        BudgetError: The volume alone exceeds the limit (AE-MEMORY-001).

    Example:
        >>> volume = read("scan/", series="2")  # doctest: +SKIP
    """
    source = input_path(path)
    kind = _kind(source)
    source = _absolute(source)
    # Each leaf brings its own third parties, so it is loaded only when it is needed.
    if kind in ("dicom", "zip"):
        from autosam_edge.dicom.read import read_dicom
        from autosam_edge.formats.zip_archive import files_of_zip

        root = files_of_zip(source) if kind == "zip" else source
        choices = ReadChoices(allow_gap, assume_hu, ignore_frame_of_reference)
        wanted = None if series is None else str(series)
        return read_dicom(root, series=wanted, choices=choices, max_memory_mb=max_memory_mb)
    if series is not None:
        raise SERIES_WITHOUT_DICOM(f"`series` was given, but {_NAMES[kind]}, the input, has no series.")
    if kind == "nifti":
        from autosam_edge.formats.nifti import read_nifti as reader
    elif kind == "metaimage":
        from autosam_edge.formats.metaimage import read_metaimage as reader
    else:
        from autosam_edge.formats.nrrd_volume import read_nrrd as reader
    return reader(source, max_memory_mb=max_memory_mb)


def input_path(path: str | os.PathLike[str]) -> Path:
    """The path of an input; an empty text, as of a variable that is not set, is not the working directory.

    Raises:
        InputError: The text is empty (AE-INPUT-001).
    """
    if not os.fspath(path):
        raise PATH_MISSING(
            "the input path is an empty text.", remedy="Name a folder or file; the working directory is `.`."
        )
    return Path(path)


def numbered_files(path: Path) -> list[Path]:
    """The files of an input in the order in which messages number them.

    Args:
        path: Folder or file.

    Raises:
        InputError: The folder cannot be listed (AE-INPUT-003, AE-DICOM-023), or the zip is refused.
    """
    kind = _kind(path)
    if kind == "zip":
        from autosam_edge.formats.zip_archive import files_of_zip

        return list(files_of_zip(path))
    if not path.is_dir():
        return [path]
    from autosam_edge.dicom.find import walk

    return [Path(entry.path) for entry in sorted(walk(path), key=lambda entry: entry.path)]


def _absolute(path: Path) -> Path:
    """The path as it is meant now: the volume keeps it, and the working directory may change."""
    try:
        return path.absolute()
    except OSError as error:
        raise INPUT_UNREADABLE(f"the working directory cannot be found ({type(error).__name__}).") from error


def _kind(path: Path) -> str:
    """One of dicom, zip, nifti, nrrd and metaimage."""
    try:
        if path.is_dir():
            return "dicom"
        if not path.exists():
            raise PATH_MISSING("the input path does not exist.")
        if not path.is_file():
            raise INPUT_KIND_UNKNOWN(
                "the input is neither a folder nor a regular file.", remedy="Give a folder or a file."
            )
        start, zipped = read_start(path, ENOUGH_BYTES)
        pair = path.name.lower().endswith((".img", ".img.gz")) and sibling(path, (".hdr", ".hdr.gz"))
    except (OSError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise INPUT_UNREADABLE(f"the input cannot be read ({type(error).__name__}).") from error
    kind = kind_of(start)
    if kind == "nifti" or (kind and not zipped):
        return kind
    if pair and start[128:132] != b"DICM":
        return "nifti"
    from autosam_edge.dicom.header import sniff

    is_dicom = sniff(start)
    if is_dicom and not zipped:
        return "dicom"
    raise _unknown(path, start, "dicom" if is_dicom else kind, zipped=zipped)


def _unknown(path: Path, start: bytes, kind: str, *, zipped: bool) -> AutosamEdgeError:
    """Why a file is of no use, in its own words."""
    remedy = None
    found = {"zip": "a zip archive", "dicom": "DICOM", **_NAMES}.get(kind) or other_kind(start)
    if not start:
        what, remedy = "gzip, but damaged" if zipped else "empty", "Copy the file again."
    elif zipped:
        what = f"gzip and holds {found or 'something of an unknown kind'}; only NIfTI is read from gzip"
        remedy = "Unpack it, for example with gunzip, and give what it holds."
    elif found:
        what = f"{found}, expected a CT volume"
    elif path.suffix.lower() in (".raw", ".zraw"):
        what, remedy = "bare voxels without a header", "Give the header beside it, .mhd or .nhdr."
    else:
        what = "not DICOM, zip, NIfTI, NRRD or MetaImage, or its start is damaged"
    return INPUT_KIND_UNKNOWN(f"the file is {what}.", remedy=remedy)
