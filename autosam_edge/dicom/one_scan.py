"""Check that the images of one series belong together: one patient, one coordinate system, one pass."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from autosam_edge.error_codes import ATTRIBUTE_INVALID, IDENTITIES_DIFFER, SEVERAL_STACKS
from autosam_edge.warning_codes import FRAME_OF_REFERENCE_MISSING, FRAMES_OF_REFERENCE_IGNORED, PARTS_JOINED

if TYPE_CHECKING:
    from collections.abc import Sequence

    from autosam_edge.dicom.header import Header
    from autosam_edge.dicom.planes import ImagePlane
    from autosam_edge.read_choices import ReadChoices
    from autosam_edge.scan_warning import ScanWarning

    Labels = npt.NDArray[np.int64]

_PAUSE_S = 5.0  # a helical scan has none, step-and-shoot rests for 1 to 3 s, phases lie 10 s apart or more
_NUMBERS = (
    "AcquisitionNumber",
    "FrameAcquisitionNumber",
    "KVP",
    "SeriesNumber",
    "SliceThickness",
    "TemporalPositionIdentifier",
)
_SAME_NUMBER = 0.01
_DAY_S = 86_400.0
_MAX_PARTS = 4  # more parts than this are the steps of one step-and-shoot scan


def check_one_patient(headers: Sequence[Header]) -> None:
    """Refuse a series whose images name several patients or studies.

    Raises:
        InputError: AE-DICOM-014.
    """
    for keyword, what in (("PatientID", "patients"), ("StudyInstanceUID", "studies")):
        count = len({header.text(keyword) for header in headers})
        if count > 1:
            raise IDENTITIES_DIFFER(f"the images of one series name {count} {what} ({keyword}), expected 1.")
    # A PatientID that was emptied, or is the same for all, does not tell patients apart.
    for keyword in ("PatientName", "PatientBirthDate", "PatientSex"):
        count = len({header.raw(keyword) for header in headers} - {""})
        if count > 1:  # or one value in two forms
            count = len({_plain(header.text(keyword)) for header in headers} - {""})
        if count > 1:
            raise IDENTITIES_DIFFER(
                f"the images of one series name one PatientID and {count} values of {keyword}, expected 1."
            )


def check_frame_of_reference(headers: Sequence[Header], choices: ReadChoices) -> list[ScanWarning]:
    """Refuse a series in several coordinate systems, unless a person decided to read it.

    Raises:
        InputError: AE-DICOM-014, or -006 if an image has no position either.
    """
    named = [header.text("FrameOfReferenceUID") for header in headers]
    missing = [
        FRAME_OF_REFERENCE_MISSING(
            "FrameOfReferenceUID is missing, so results cannot be related to other series."
        )
    ] * ("" in named)
    if len(set(named)) == 1:
        return missing
    for header, uid in zip(headers, named, strict=True):
        if not (uid or header.is_enhanced or header.raw("ImagePositionPatient")):
            raise ATTRIBUTE_INVALID(
                f"{header.name} has neither ImagePositionPatient nor FrameOfReferenceUID, which other images "
                "of its series have.",
                remedy="If it is no slice but a page or a screenshot, leave it out of the folder; "
                "otherwise export the series again.",
            )
    several, without = len({*named} - {""}), named.count("")
    what = f"the images of one series name {several} frames of reference (FrameOfReferenceUID)"
    if several == 1:
        count = "1 image of the series names" if without == 1 else f"{without} images of the series name"
        what = f"{count} no frame of reference (FrameOfReferenceUID), the others name one"
    if choices.ignore_frame_of_reference:
        return [FRAMES_OF_REFERENCE_IGNORED(f"{what[0].upper()}{what[1:]}; this was ignored."), *missing]
    raise IDENTITIES_DIFFER(
        f"{what}, expected one for all.",
        remedy="If the images were made in one scan, read them with `ignore_frame_of_reference`.",
    )


def check_one_pass(planes: Sequence[ImagePlane]) -> list[ScanWarning]:
    """Refuse planes of several passes or reconstructions that lie between each other.

    Two phases, kernels or acquisitions, each a regular stack and one shifted by half a step, form one regular
    stack too; nothing but the headers tells them apart. Parts one after the other give a warning.

    Args:
        planes: The planes in slice order, one for each position.

    Raises:
        InputError: AE-DICOM-024.
    """
    parts = []
    for keyword in dict.fromkeys(keyword for plane in planes for keyword in plane.traits):
        labels = _labels(planes, keyword)
        kinds, runs = len(np.unique(labels)), 1 + int(np.count_nonzero(np.diff(labels)))
        if runs - kinds >= 2:
            raise SEVERAL_STACKS(
                f"the series holds {kinds} sets of slices that lie between each other and differ in "
                f"{keyword}, as two phases or two reconstructions do, expected one."
            )
        if 2 <= kinds <= _MAX_PARTS:
            parts.append(keyword)
    if not parts:
        return []
    return [
        PARTS_JOINED(
            f"The series consists of parts that differ in {', '.join(parts)}; organs may be displaced, or "
            "differ in contrast, at their borders."
        )
    ]


def _labels(planes: Sequence[ImagePlane], keyword: str) -> Labels:
    """A number for each plane that has a value, equal for equal values; what is absent tells nothing apart.

    Without ContrastBolusAgent no agent was given, which is a value too.
    """
    planes = [plane for plane in planes if plane.traits.get(keyword) or keyword == "ContrastBolusAgent"]
    values = [plane.traits[keyword] for plane in planes]
    if len(set(values)) < 2:
        return np.zeros(len(values), np.int64)
    if keyword.endswith("Time"):
        seconds = np.array([_seconds(value) for value in values])
        seconds = seconds[~np.isnan(seconds)]
        if seconds.size and np.ptp(seconds) > _DAY_S / 2:
            seconds[seconds < _DAY_S / 2] += _DAY_S  # the scan went on after midnight
        return _groups(seconds, _PAUSE_S)
    if keyword in _NUMBERS and all(map(_is_number, values)):
        return _groups(np.array(values, np.float64), _SAME_NUMBER)
    if any("\N{REPLACEMENT CHARACTER}" in value for value in values):  # in several character sets, perhaps
        values = [plane.header.text(keyword) or value for plane, value in zip(planes, values, strict=True)]
    labels: Labels = np.unique(values, return_inverse=True)[1]
    return labels


def _groups(values: npt.NDArray[np.float64], gap: float) -> Labels:
    """A number for each value, the next one after each gap."""
    order = np.argsort(values)
    labels = np.empty(len(values), np.int64)
    labels[order] = np.cumsum(np.diff(values[order], prepend=values[order[:1]]) > gap)
    return labels


def _is_number(text: str) -> bool:
    try:
        return bool(np.isfinite(float(text)))
    except ValueError:
        return False


def _plain(text: str) -> str:
    """A name, date or sex as it is compared: the first of the groups of a name, old dates without periods."""
    return text.partition("=")[0].replace(".", "").strip("^ ").upper()


def _seconds(text: str) -> float:
    """Seconds since midnight of a time such as 142359.120, also behind a date; NaN if it is none."""
    time = re.split("[+-]", text)[0]  # an offset from UTC may follow
    time = time[8:] if len(time.partition(".")[0]) > 6 else time
    try:
        return int(time[:2]) * 3600 + int(time[2:4]) * 60 + float(time[4:])
    except ValueError:
        return float("nan")
