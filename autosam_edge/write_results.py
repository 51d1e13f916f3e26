"""Writer of the results of a run: all files appear in the folder, or none."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from autosam_edge.atomic_files import require_space, staged_results, sync
from autosam_edge.error_codes import OUTPUT_IN_INPUT, OUTPUT_OCCUPIED, SEG_NOT_POSSIBLE
from autosam_edge.measurements import organ_statistics
from autosam_edge.output_formats import (
    DEFAULT_FORMATS,
    DICOM_FORMATS,
    FILE_NAMES,
    FORMATS,
    SEG_FORMATS,
    WITHOUT_DICOM,
)
from autosam_edge.platform import can_draw
from autosam_edge.plausibility.refusal import require_plausible
from autosam_edge.result_files import result_files
from autosam_edge.warning_codes import PREVIEW_LEFT_OUT, SEG_LEFT_OUT

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from autosam_edge.measurements import OrganStatistics
    from autosam_edge.output_formats import Format
    from autosam_edge.scan_warning import ScanWarning
    from autosam_edge.volume import Segmentation, Source, Volume

# Results of a scan of 512 x 512 x 160 voxels take about 16 MiB; scans may be four times as long.
_NEEDED_BYTES = 64 * 2**20
_LEFT_OUT: dict[str, Format] = {SEG_LEFT_OUT.code: "dicom-seg", PREVIEW_LEFT_OUT.code: "preview"}


def write(
    volume: Volume,
    segmentation: Segmentation,
    folder: str | os.PathLike[str],
    *,
    formats: Sequence[Format] | None = None,
    statistics: tuple[OrganStatistics, ...] | None = None,
    timings_s: dict[str, float] | None = None,
    accept_implausible: bool = False,
    pseudonymize: bool = False,
) -> dict[Format, Path]:
    """Write results into a folder, all of them or none.

    A folder that is there already keeps every file that is not ours. Of ours, those asked for are replaced;
    one that this run does not yield (a DICOM SEG when no organ was found) is removed, so that it cannot be
    taken for a result of this run. A caller with a long inference runs :func:`check_writable` before it.
    Where the images share no frame of reference, the DICOM SEG is left out with a warning in the other
    results, unless it is asked for.

    Args:
        volume: The scan that was segmented.
        segmentation: Labels on the scan's grid.
        folder: Folder for the files; made when absent, with its parents.
        formats: Formats to write; None for :data:`~autosam_edge.output_formats.DEFAULT_FORMATS`, as far as
            the input allows (DICOM formats need DICOM).
        statistics: Result of :func:`autosam_edge.measurements.organ_statistics`; None computes it.
        timings_s: Dictionary that receives the seconds of the statistics and of each format.
        accept_implausible: Whether to write labels whose verdict is ``implausible``; every file that holds
            warnings then names the reasons.
        pseudonymize: Whether the DICOM results hold a pseudonym in place of name and ID of the patient, and
            no dates; see :func:`~autosam_edge.dicom.patient_study.patient_and_study`. The other results never
            hold any of them.

    Returns:
        Path of each file written.

    Raises:
        ImplausibleError: The verdict is ``implausible`` and was not accepted (AE-PLAUSIBLE-*).
        OutputError: The folder cannot be written (AE-OUTPUT-001), the disk is full (-003), or see
            :func:`check_outputs`; also when the DICOM SEG cannot be made (-005, -006), or is all that is
            asked for and no organ was found (-005). Nothing is left behind.
        ValueError: Volume and segmentation do not share a shape, or a format is unknown.

    Example:
        >>> write(volume, segmentation, "out/", formats=("nifti", "preview"))  # doctest: +SKIP
    """
    target = Path(folder)
    if not accept_implausible:
        require_plausible(segmentation)
    chosen = check_outputs(target, source=volume.source, formats=formats)
    timings = timings_s if timings_s is not None else {}
    if statistics is None:
        started = time.perf_counter()
        statistics = organ_statistics(volume, segmentation)
        timings["statistics"] = time.perf_counter() - started
    left_out = warnings_of_outputs(volume.source, formats)
    # That a picture is missing says nothing about the labels, so the other files do not repeat it.
    new = (w for w in left_out if w not in segmentation.warnings and w.code != PREVIEW_LEFT_OUT.code)
    segmentation = replace(segmentation, warnings=(*segmentation.warnings, *new))
    replaced = (*chosen, *(_LEFT_OUT[warning.code] for warning in left_out))
    with staged_results(target, [FILE_NAMES[name] for name in replaced]) as stage:
        tasks = result_files(volume, segmentation, statistics, pseudonymize=pseudonymize)
        found = any(organ.voxels for organ in statistics)
        written = _write_all(tasks, stage, chosen, timings, found=found)
        if any(FILE_NAMES[name].endswith(".dcm") for name in written):
            from autosam_edge.dicom.source import check_unchanged

            check_unchanged(volume.source)
    return {name: target / FILE_NAMES[name] for name in written}


def check_writable(
    folder: str | os.PathLike[str],
    *,
    source: Source | None = None,
    input_path: Path | None = None,
    formats: Sequence[Format] | None = None,
) -> tuple[Format, ...]:
    """Check before the inference that its results can be written; nothing is left on the disk.

    Args:
        folder: Folder for the results.
        source: Files that the scan was read from, when it is read already.
        input_path: Path that the user gave as input; a folder must not contain the output.
        formats: Formats that will be written; None for all that fit.

    Returns:
        The formats that will be written.

    Raises:
        OutputError: The folder cannot be written (AE-OUTPUT-001), the disk is full (-003), or see
            :func:`check_outputs`.
        ValueError: A format is unknown.
    """
    chosen = check_outputs(folder, source=source, input_path=input_path, formats=formats)
    require_space(_existing(Path(folder)), _NEEDED_BYTES)
    return chosen


def check_outputs(
    folder: str | os.PathLike[str],
    *,
    source: Source | None = None,
    input_path: Path | None = None,
    formats: Sequence[Format] | None = None,
) -> tuple[Format, ...]:
    """Check names, folders, input and headers; the part of :func:`check_writable` that only reads.

    Args:
        folder: Folder for the results.
        source: Files that the scan was read from, when it is read already.
        input_path: Path that the user gave as input; a folder must not contain the output.
        formats: Formats that will be written; None for all that fit.

    Returns:
        The formats that will be written.

    Raises:
        OutputError: The folder is a file or holds a folder or the input under one of our names
            (AE-OUTPUT-002), lies inside the input folder (-004), or a DICOM format is asked of input that is
            not DICOM (-005) or lacks the identifiers that it would refer to (-006).
        ValueError: A format is unknown.
    """
    target = Path(folder)
    chosen = _choose(source, formats)
    _check_outside(target, source, input_path)
    if target.exists() and not target.is_dir():
        raise OUTPUT_OCCUPIED(
            "the output path is a file, expected a folder.", remedy="Give a folder, new or existing."
        )
    taken = [FILE_NAMES[name] for name in chosen if (target / FILE_NAMES[name]).is_dir()]
    if taken:
        raise OUTPUT_OCCUPIED(
            f"the output folder holds a folder named {taken[0]}, which is the name of a result."
        )
    _check_input_stays(target, source, input_path, chosen)
    if not _existing(target).is_dir():
        raise OUTPUT_OCCUPIED(
            "a parent of the output folder is a file.", remedy="Give a path whose parents are folders."
        )
    return chosen


def warnings_of_outputs(source: Source, formats: Sequence[Format] | None = None) -> tuple[ScanWarning, ...]:
    """Warnings about results that cannot be made; they can be given before the inference.

    Args:
        source: Files that the scan was read from.
        formats: Formats that will be written; None for all that fit.
    """
    found = []
    if formats is None and source.kind == "dicom" and source.frame_of_reference_fault:
        found.append(SEG_LEFT_OUT(f"No DICOM SEG was written: the images {source.frame_of_reference_fault}."))
    if formats is None and not can_draw():
        found.append(PREVIEW_LEFT_OUT("No preview was drawn: Pillow is not installed."))
    return tuple(found)


def _existing(target: Path) -> Path:
    """The innermost part of a path that is there."""
    return next(parent for parent in (target, *target.absolute().parents) if parent.exists())


def _choose(source: Source | None, formats: Sequence[Format] | None) -> tuple[Format, ...]:
    """The formats that fit the source; one that is asked for and cannot be made is refused."""
    unknown = set(formats or ()) - set(FORMATS)
    if unknown or (formats is not None and not formats):
        raise ValueError(
            f"`formats` are {', '.join(sorted(unknown)) or 'empty'}, expected some of {', '.join(FORMATS)}"
        )
    chosen = tuple(name for name in FORMATS if name in (DEFAULT_FORMATS if formats is None else formats))
    if formats is None and not can_draw():
        chosen = tuple(name for name in chosen if name != "preview")
    of_dicom = [name for name in chosen if name in DICOM_FORMATS]
    if source is None or not of_dicom:
        return chosen
    without = tuple(name for name in chosen if name not in of_dicom)
    if source.kind != "dicom" or not source.files:
        if formats is None:
            return without
        raise SEG_NOT_POSSIBLE(
            f"{', '.join(of_dicom)} must refer to the DICOM series that was segmented, and the input is not "
            "DICOM.",
            remedy=f"Give the DICOM series as input, or {WITHOUT_DICOM}.",
        )
    if source.frame_of_reference_fault and formats is None and not source.identifier_fault:
        return without
    misplaced = source.frame_of_reference_fault if set(of_dicom) & set(SEG_FORMATS) else ""
    if fault := source.identifier_fault or misplaced:
        from autosam_edge.dicom.source import headers_not_sound

        raise headers_not_sound(fault)
    return chosen


def _check_outside(target: Path, source: Source | None, input_path: Path | None) -> None:
    """Refuse an output folder inside the input folder: the next run would read its own results."""
    read = source.folder if source is not None else None
    given = input_path if input_path is not None and input_path.is_dir() else None
    resolved = target.resolve()
    for folder in (read, given):
        if folder is not None and folder.resolve() in (resolved, *resolved.parents):
            raise OUTPUT_IN_INPUT("the output folder lies inside the input folder.")


def _check_input_stays(
    target: Path, source: Source | None, input_path: Path | None, chosen: Sequence[Format]
) -> None:
    """Refuse to replace a file of the input, which may lie in the output folder, by a result."""
    files = (*(source.files if source is not None else ()), *([input_path] if input_path is not None else []))
    results = [target / FILE_NAMES[name] for name in chosen]
    for result in (path for path in results if path.exists()):
        # By name first: a series has thousands of files, and each look at the disk takes time on a network
        # share.
        if any(
            file.name.casefold() == result.name and file.exists() and file.samefile(result) for file in files
        ):
            raise OUTPUT_OCCUPIED(
                f"{result.name} of the output folder is the input, and a result would replace it."
            )


def _write_all(
    tasks: dict[Format, Callable[[Path], None]],
    stage: Path,
    chosen: Sequence[Format],
    timings: dict[str, float],
    *,
    found: bool,
) -> list[Format]:
    """Make every file in the stage; return the formats that this run yields."""
    todo = [name for name in chosen if found or name not in SEG_FORMATS]
    if not todo:
        raise SEG_NOT_POSSIBLE(
            "no organ was found, and DICOM SEG, the only requested format, needs at least one.",
            remedy=f"To see the scan and the warnings, {WITHOUT_DICOM}.",
        )

    # One after the other: with two threads on two cores the same work took longer, as pydicom holds the
    # interpreter most of the time.
    for name in todo:
        started = time.perf_counter()
        path = stage / FILE_NAMES[name]
        tasks[name](path)
        sync(path)
        timings[name] = time.perf_counter() - started
    return todo
