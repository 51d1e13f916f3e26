"""Select the one CT series to read; no message shows a value that identifies a patient."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydicom.uid import UID

from autosam_edge.ct_grid import MIN_SLICES
from autosam_edge.dicom.header import CT_IMAGE, ENHANCED_CT_IMAGES, Header, items_of, numbers, texts_of
from autosam_edge.error_codes import (
    ATTRIBUTE_INVALID,
    IDENTITIES_DIFFER,
    NO_CT,
    NO_DICOM,
    SERIES_NOT_FOUND,
    SEVERAL_SERIES,
)
from autosam_edge.errors import InputError
from autosam_edge.warning_codes import FILES_PASSED_OVER, SERIES_CHOSEN, SERIES_DERIVED

if TYPE_CHECKING:
    from collections.abc import Iterable

    from autosam_edge.dicom.find import DicomFiles
    from autosam_edge.scan_warning import ScanWarning

_HASH_LETTERS = 8
_PROJECTIONS = frozenset({"MIP", "MINIP", "MAX_IP", "MIN_IP", "MAXIP", "PROJECTION IMAGE", "VRT", "VOLREN"})
_MAX_LISTED = 12


@dataclass(frozen=True, eq=False)
class Series:
    """The CT images that share a SeriesInstanceUID.

    Args:
        uid: SeriesInstanceUID.
        headers: The files.
        number: SeriesNumber as text, empty when absent.
        slices: Distinct positions, or frames of a multi-frame object.
        spacing_mm: Median distance between them, 0 when unknown; for display only.
        derived: Whether its images are secondary derivations such as reformats (ImageType DERIVED,
            SECONDARY).
    """

    uid: str
    headers: list[Header]
    number: str
    slices: int
    spacing_mm: float
    derived: bool

    @property
    def hash(self) -> str:
        """SHA-256 of the UID, hexadecimal."""
        return hashlib.sha256(self.uid.encode()).hexdigest()


def select_series(found: DicomFiles, wanted: str | None) -> tuple[Series, list[ScanWarning]]:
    """Select one series; warnings name everything else that was found.

    Without ``wanted`` there must be exactly one candidate. Series of fewer than three positions (bolus
    tracking) and secondary derivations (reformats) count only when nothing better is there.

    Args:
        found: DICOM files of the input.
        wanted: Number in the list of candidates, SeriesNumber, SeriesInstanceUID or the start of its hash (8
            letters or more); None if there is only one candidate.

    Raises:
        InputError: There is no DICOM file (AE-DICOM-001), no CT image (AE-DICOM-002), more than one candidate
            (AE-DICOM-003) or none that is ``wanted`` (AE-DICOM-004); one series mixes patients or frames of
            reference (AE-DICOM-014).
    """
    if not found.headers:
        skipped = f" ({_counted(found.skipped)} passed over)" if found.skipped else ""
        raise NO_DICOM(f"the input holds no DICOM file{skipped}.")
    images, passed_over = _ct_images(found.headers)
    if not images:
        raise NO_CT(f"the input holds no CT image, only {_counted(passed_over)}.")
    everything = _grouped(images)
    candidates = [s for s in everything if s.slices >= MIN_SLICES] or everything
    candidates = [s for s in candidates if not s.derived] or candidates
    chosen = _named(everything, wanted) if wanted is not None else candidates[0]
    if wanted is None and len(candidates) > 1:
        raise SEVERAL_SERIES(
            f"the input holds {len(everything)} CT series, expected 1: {_listed(everything)}."
        )
    _check_one_patient(chosen)
    warnings = (
        [FILES_PASSED_OVER(f"Passed over: {_counted(found.skipped + passed_over)}.")]
        if found.skipped + passed_over
        else []
    )
    if len(everything) > 1:
        warnings.append(
            SERIES_CHOSEN(
                f"Read series {chosen.hash[:_HASH_LETTERS]} of {len(everything)} CT series: "
                f"{_listed(everything)}."
            )
        )
    if chosen.derived:
        warnings.append(
            SERIES_DERIVED(
                "The series is derived (ImageType DERIVED, SECONDARY), such as a reformat; "
                "the original series is better."
            )
        )
    return chosen, warnings


def _ct_images(headers: list[Header]) -> tuple[list[Header], Counter[str]]:
    """The CT images among DICOM files, and a count of the others by kind."""
    images: list[Header] = []
    others: Counter[str] = Counter()
    for header in headers:
        image_type = _image_type(header)
        sop_class, modality = header.text("SOPClassUID"), header.text("Modality")
        if sop_class != CT_IMAGE and sop_class not in ENHANCED_CT_IMAGES:
            others[
                UID(sop_class).name if UID(sop_class).name != sop_class else "object of unknown class"
            ] += 1
        elif modality != "CT":
            others["CT Image whose Modality is not CT"] += 1
        elif "LOCALIZER" in image_type:
            others["localizer"] += 1
        elif image_type & _PROJECTIONS:
            others["projection or rendering"] += 1
        else:
            images.append(header)
    return images, others


def _image_type(header: Header) -> set[str]:
    return {item.upper() for item in texts_of(header.dataset, "ImageType", header.name)}


def _grouped(images: list[Header]) -> list[Series]:
    """Series in the order of SeriesNumber, then hash, whatever the order of the files."""
    groups: dict[str, list[Header]] = {}
    for header in images:
        uid = header.text("SeriesInstanceUID")
        if not uid:
            raise ATTRIBUTE_INVALID(
                f"{header.name} has no SeriesInstanceUID.",
                remedy="Export the series again; files without it cannot be grouped.",
            )
        groups.setdefault(uid, []).append(header)
    series = [_described(uid, headers) for uid, headers in groups.items()]
    return sorted(series, key=lambda s: (len(s.number), s.number, s.hash))


def _described(uid: str, headers: list[Header]) -> Series:
    number = headers[0].text("SeriesNumber")
    derived = all({"DERIVED", "SECONDARY"} <= _image_type(header) for header in headers)
    slices, spacing_mm = _extent(headers)
    return Series(uid, headers, number if number.isdecimal() else "", slices, spacing_mm, derived)


def _extent(headers: list[Header]) -> tuple[int, float]:
    """How many positions a series has and their median distance in mm: a preview that raises nothing."""
    try:
        if any(header.text("SOPClassUID") in ENHANCED_CT_IMAGES for header in headers):
            return sum(
                len(items_of(header.dataset, "PerFrameFunctionalGroupsSequence", header.name))
                for header in headers
            ), 0.0
        orientation = numbers(headers[0].dataset, "ImageOrientationPatient", 6, headers[0].name)
        positions = [numbers(header.dataset, "ImagePositionPatient", 3, header.name) for header in headers]
    except InputError:  # the series is still a candidate, and choosing it tells what is malformed
        return len(headers), 0.0
    if orientation is None or None in positions:
        return len(headers), 0.0
    along = np.asarray(positions, dtype=np.float64) @ np.cross(orientation[:3], orientation[3:])
    distinct = np.unique(np.round(along, 2))
    return len(distinct), float(np.median(np.diff(distinct))) if len(distinct) > 1 else 0.0


def _named(everything: list[Series], wanted: str) -> Series:
    key = wanted.strip()
    exact = [s for s in everything if s.uid == key]
    by_hash = [s for s in everything if len(key) >= _HASH_LETTERS and s.hash.startswith(key.lower())]
    by_number = [s for index, s in enumerate(everything, 1) if key in (str(index), s.number)]
    matches = exact or by_hash or by_number
    if len(matches) != 1:
        raise SERIES_NOT_FOUND(
            f"`series` matches {len(matches) or 'none'} of the CT series, expected 1: {_listed(everything)}."
        )
    return matches[0]


def _check_one_patient(series: Series) -> None:
    for keyword, what in (
        ("PatientID", "patients"),
        ("StudyInstanceUID", "studies"),
        ("FrameOfReferenceUID", "frames of reference"),
    ):
        count = len({header.text(keyword) for header in series.headers})
        if count > 1:
            raise IDENTITIES_DIFFER(f"the images of one series name {count} {what} ({keyword}), expected 1.")


def _listed(everything: Iterable[Series]) -> str:
    lines = [
        f"[{index}] {s.slices} slices"
        + (f" of {s.spacing_mm:.3g} mm" if s.spacing_mm else "")
        + (f", SeriesNumber {s.number}" if s.number else "")
        + (", derived" if s.derived else "")
        + f", hash {s.hash[:_HASH_LETTERS]}"
        for index, s in enumerate(everything, 1)
    ]
    more = len(lines) - _MAX_LISTED
    return "; ".join(lines[:_MAX_LISTED] + ([f"and {more} more"] if more > 0 else []))


def _counted(kinds: Counter[str]) -> str:
    return ", ".join(f"{count} x {kind}" for kind, count in sorted(kinds.items()))
