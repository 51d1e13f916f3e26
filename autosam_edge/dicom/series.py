"""Select the one CT series to read; no message shows a value that identifies a patient."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from autosam_edge.ct_grid import MIN_SLICES, SHORT_MM
from autosam_edge.dicom.find import INPUTS_OF_THEIR_OWN
from autosam_edge.dicom.header import Header, numbers
from autosam_edge.dicom.image_kinds import MAP, MEDIA_DIRECTORY, ct_images, image_type, is_spectral
from autosam_edge.dicom.one_scan import check_frame_of_reference, check_one_patient
from autosam_edge.error_codes import (
    ATTRIBUTE_INVALID,
    NO_CT,
    NO_DICOM,
    NOT_HU,
    SERIES_NOT_FOUND,
    SEVERAL_SERIES,
)
from autosam_edge.errors import AutosamEdgeError, InputError
from autosam_edge.warning_codes import (
    FILES_PASSED_OVER,
    SERIES_CHOSEN,
    SERIES_DERIVED,
    SERIES_JOINED,
    SPECTRAL_IMAGES,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from autosam_edge.dicom.find import DicomFiles
    from autosam_edge.read_choices import ReadChoices
    from autosam_edge.scan_warning import ScanWarning

_HASH_LETTERS = 8
_MAX_LISTED = 12


@dataclass(frozen=True, eq=False)
class Series:
    """The CT images that share a SeriesInstanceUID.

    Args:
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


@dataclass(frozen=True)
class SeriesChoice:
    """One entry of the list of series that a person chooses from; it names no patient.

    Args:
        id: Hash that ``series`` takes.
        number: SeriesNumber as text, empty when absent.
        slices: Distinct positions, or frames of a multi-frame object.
        spacing_mm: Median distance between them, 0 when unknown.
        derived: Whether its images are secondary derivations.
        preferred: Whether it is read when no series is named.
        reason: A sentence on why it is less suitable; empty if nothing speaks against it.
    """

    id: str
    number: str
    slices: int
    spacing_mm: float
    derived: bool
    preferred: bool
    reason: str


def series_choices(found: DicomFiles) -> list[SeriesChoice]:
    """All CT series of the input, in the order of the list that an error shows.

    Raises:
        InputError: There is no DICOM file (AE-DICOM-001), no CT image (AE-DICOM-002) or only maps that are
            not in HU (AE-DICOM-008).
    """
    everything, _ = _all_series(found)
    candidates = _candidates(everything)
    choices = []
    for series in everything:
        reason = "Its images are reformats or otherwise derived." if series.derived else ""
        if series.slices < MIN_SLICES:
            reason = f"It has only {_slices(series.slices)}, and {MIN_SLICES} are needed."
        choices.append(
            SeriesChoice(
                series.hash,
                series.number,
                series.slices,
                series.spacing_mm,
                series.derived,
                preferred=candidates == [series],
                reason=reason,
            )
        )
    return choices


def select_series(
    found: DicomFiles, wanted: str | None, choices: ReadChoices
) -> tuple[Series, list[ScanWarning]]:
    """Select one series; warnings name everything else that was found.

    Without ``wanted`` there must be exactly one candidate. Series of fewer than three positions (bolus
    tracking) and secondary derivations (reformats) count only when nothing better is there; an original that
    is a small part of a scan is no better than a derivation of the whole.

    Args:
        wanted: Number in the list of candidates, SeriesNumber, SeriesInstanceUID or the start of its hash (8
            letters or more); ``all`` where every series holds one image; None if there is only one candidate.

    Raises:
        InputError: There is no DICOM file (AE-DICOM-001), no CT image (AE-DICOM-002) or only maps that are
            not in HU (AE-DICOM-008), more than one candidate (AE-DICOM-003) or none that is ``wanted``
            (AE-DICOM-004); one series mixes patients, studies or frames of reference (AE-DICOM-014).
    """
    everything, others = _all_series(found)
    passed_over = found.skipped + others
    warnings = [FILES_PASSED_OVER(f"Passed over: {_counted(passed_over)}.")] if passed_over else []
    if wanted is not None and wanted.strip().lower() == "all":
        chosen, left_out = _joined(everything)
        joined = f"Read {len(everything) - left_out} series of one image each as one series"
        rest = f", and left out {left_out} of two images each" if left_out else ""
        warnings.append(SERIES_JOINED(f"{joined}{rest}."))
    else:
        chosen = _named(everything, wanted) if wanted is not None else _only(everything)
        if len(everything) > 1:
            warnings.append(
                SERIES_CHOSEN(
                    f"Read series {chosen.hash[:_HASH_LETTERS]} of {len(everything)} CT series: "
                    f"{_listed(everything)}."
                )
            )
    check_one_patient(chosen.headers)
    warnings += check_frame_of_reference(chosen.headers, choices)
    return chosen, [*warnings, *_kind_warnings(chosen)]


def _all_series(found: DicomFiles) -> tuple[list[Series], Counter[str]]:
    """All CT series, and a count of the other objects by kind."""
    images, others = ct_images(found.headers)
    if not images:
        raise _no_image(found, others)
    return _grouped(images), others


def _no_image(found: DicomFiles, others: Counter[str]) -> AutosamEdgeError:
    """The error for an input without a CT image; it says what to give in its place."""
    volume = next((kind for kind in INPUTS_OF_THEIR_OWN.values() if kind in found.skipped), "")
    remedy = f"Give the {volume} itself, not the folder or archive that holds it." if volume else None
    if not found.headers:
        skipped = f" ({_counted(found.skipped)} passed over)" if found.skipped else ""
        return NO_DICOM(f"the input holds no DICOM file{skipped}.", remedy=remedy)
    if set(others) == {MEDIA_DIRECTORY}:
        remedy = remedy or "Give the folder that holds the DICOMDIR and the images that it lists."
    if MAP in others:
        return NOT_HU(
            f"the input holds no CT image in HU, only {_counted(others)}.",
            remedy="Give the series of conventional CT images in Hounsfield units.",
        )
    return NO_CT(f"the input holds no CT image, only {_counted(others)}.", remedy=remedy)


def _only(everything: list[Series]) -> Series:
    """The one candidate among the series."""
    candidates = _candidates(everything)
    if len(candidates) == 1:
        return candidates[0]
    if len(_of_one_image(candidates)) >= MIN_SLICES and candidates[0].slices == 1:
        raise SEVERAL_SERIES(
            f"the input holds {len(candidates)} CT series of one image each: every image has a "
            "SeriesInstanceUID of its own, expected one for all images of a scan.",
            remedy='If they are the slices of one scan, read them as one series with `series="all"`.',
        )
    raise SEVERAL_SERIES(f"the input holds {len(everything)} CT series, expected 1: {_listed(everything)}.")


def _candidates(everything: list[Series]) -> list[Series]:
    """The most suitable series: long enough and original, as far as there are any.

    A derived one stays beside originals that cover only a small part of a scan.
    """
    candidates = [s for s in everything if s.slices >= MIN_SLICES] or everything
    originals = [s for s in candidates if not s.derived]
    covered = any(s.slices * s.spacing_mm >= SHORT_MM for s in originals)
    most = math.inf if covered else 2 * max((s.slices for s in originals), default=0)
    return [s for s in candidates if not (s.derived and s.slices <= most)]


def _of_one_image(everything: list[Series]) -> list[Series]:
    """The series that are one image, or copies of it."""
    return [s for s in everything if s.slices == 1]


def _joined(everything: list[Series]) -> tuple[Series, int]:
    """All series of one image each as one series; others must be too short to be a scan.

    Returns:
        The series, and the number of those that it leaves out.
    """
    single = _of_one_image(everything)
    if len(single) < MIN_SLICES or any(s.slices >= MIN_SLICES for s in everything):
        raise SERIES_NOT_FOUND(
            '`series="all"` joins series of one image each, and the input holds others: '
            f"{_listed(everything)}.",
            remedy="Name one series by its hash, which fits only one.",
        )
    headers = [header for s in single for header in s.headers]
    return _described("\n".join(sorted(s.uid for s in single)), headers), len(everything) - len(single)


def _kind_warnings(chosen: Series) -> Iterator[ScanWarning]:
    if chosen.derived:
        yield SERIES_DERIVED(
            "The series is derived (ImageType DERIVED, SECONDARY), such as a reformat; "
            "the original series is better."
        )
    if any(is_spectral(header) for header in chosen.headers):
        yield SPECTRAL_IMAGES(
            "The images are computed from several energies (ImageType), such as monoenergetic or virtual "
            "non-contrast images; the model was trained on conventional images."
        )


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
    derived = all({"DERIVED", "SECONDARY"} <= image_type(header) for header in headers)
    slices, spacing_mm = _extent(headers)
    return Series(uid, headers, number if number.isdecimal() else "", slices, spacing_mm, derived)


def _extent(headers: list[Header]) -> tuple[int, float]:
    """How many positions a series has and their median distance in mm: a preview that raises nothing."""
    try:
        if any(header.is_enhanced for header in headers):
            return sum(header.frames for header in headers), 0.0
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
    by_number = [s for index, s in enumerate(everything, 1) if key and key in (str(index), s.number)]
    matches = exact or by_hash or by_number
    if len(matches) != 1:
        raise SERIES_NOT_FOUND(
            f"`series` matches {len(matches) or 'none'} of the CT series, expected 1: {_listed(everything)}."
        )
    return matches[0]


def _listed(everything: Iterable[Series]) -> str:
    lines = [
        f"[{index}] {_slices(s.slices)}"
        + (f" of {s.spacing_mm:.3g} mm" if s.spacing_mm else "")
        + (f", SeriesNumber {s.number}" if s.number else "")
        + (", derived" if s.derived else "")
        + f", hash {s.hash[:_HASH_LETTERS]}"
        for index, s in enumerate(everything, 1)
    ]
    more = len(lines) - _MAX_LISTED
    return "; ".join(lines[:_MAX_LISTED] + ([f"and {more} more"] if more > 0 else []))


def _slices(count: int) -> str:
    return "1 slice" if count == 1 else f"{count} slices"


def _counted(kinds: Counter[str]) -> str:
    return ", ".join(f"{count} x {kind}" for kind, count in sorted(kinds.items()))
