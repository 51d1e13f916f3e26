"""Writer of the results of a run: all files appear in the folder, or none."""

from __future__ import annotations

import os
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from autosam_edge.error_codes import OUTPUT_IN_INPUT, OUTPUT_OCCUPIED, OUTPUT_UNNAMED, SEG_NOT_POSSIBLE
from autosam_edge.measurements import organ_statistics
from autosam_edge.output_formats import (
    DEFAULT_FORMATS,
    DICOM_FORMATS,
    FILE_NAMES,
    FORMATS,
    SEG_FORMATS,
    WITHOUT_DICOM,
)
from autosam_edge.plausibility.refusal import require_plausible
from autosam_edge.result_files import Results
from autosam_edge.system.atomic_files import explained, require_space, staged_results
from autosam_edge.system.clock import timed
from autosam_edge.system.machine import available_cores
from autosam_edge.system.platform import can_draw
from autosam_edge.system.staging import sweep, sync
from autosam_edge.system.thread_team import ThreadTeam
from autosam_edge.volume import require_same_grid
from autosam_edge.warning_codes import PREVIEW_LEFT_OUT, SEG_LEFT_OUT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from autosam_edge.measurements import OrganStatistics
    from autosam_edge.output_formats import Format
    from autosam_edge.scan_warning import ScanWarning
    from autosam_edge.volume import Segmentation, Source, Volume

# Results of a scan of 512 x 512 x 160 voxels take about 16 MiB; scans may be four times as long.
_NEEDED_BYTES = 64 * 2**20
_NO_PREVIEW = PREVIEW_LEFT_OUT("No preview was drawn: Pillow is not installed.")


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

    A folder that is there already keeps every file that is not ours. All results of an earlier run go, also
    of formats that this run does not write: a folder never mixes two runs. A caller with a long inference
    runs :func:`check_writable` before it. Where the images share no frame of reference, the DICOM SEG is left
    out with a warning in the other results, unless it is asked for.

    Args:
        volume: The scan that was segmented.
        segmentation: Labels on the scan's grid.
        folder: Folder for the files; made when absent, with its parents.
        formats: Formats to write; None for :data:`~autosam_edge.output_formats.DEFAULT_FORMATS`, as far as
            the input allows (DICOM formats need DICOM).
        statistics: Result of :func:`autosam_edge.measurements.organ_statistics`; None computes it.
        timings_s: Dictionary that receives the seconds of the statistics and of each format.
        accept_implausible: Whether to write labels whose verdict is ``implausible``, with the reasons.
        pseudonymize: Whether the DICOM results hold a pseudonym in place of name and ID of the patient, and
            no dates (:func:`~autosam_edge.dicom.patient_study.patient_and_study`). Others never hold any.

    Returns:
        Path of each file written.

    Raises:
        ImplausibleError: The verdict is ``implausible`` and was not accepted (AE-PLAUSIBLE-*).
        OutputError: See :func:`check_writable`; another process blocks the folder (AE-OUTPUT-007); or no
            organ was found, and a DICOM SEG is all that is asked for (-005). Nothing is left behind.
        TypeError: See :func:`~autosam_edge.volume.require_same_grid`.
        ValueError: The segmentation is of another scan or on another grid, holds a value that its table does
            not name, or a format is unknown.

    Example:
        >>> write(volume, segmentation, "out/", formats=("nifti", "preview"))  # doctest: +SKIP
    """
    require_same_grid(volume, segmentation)
    scan, labeled = volume.source.series_hash, segmentation.provenance.input_hash
    if scan and labeled and scan != labeled:
        raise ValueError(
            f"the segmentation is of the scan whose hash begins with {labeled[:8]}, expected {scan[:8]} of "
            "the volume; give the volume that was segmented"
        )
    if not accept_implausible:
        require_plausible(segmentation)
    formats = _named(formats)
    chosen = check_outputs(folder, source=volume.source, formats=formats)
    timings = timings_s if timings_s is not None else {}
    if statistics is None:
        timings["statistics"] = 0.0
        with timed(timings, "statistics"):
            statistics = organ_statistics(volume, segmentation)
    if np.count_nonzero(segmentation.labels) != sum(organ.voxels for organ in statistics):
        _require_names(segmentation)
    warnings = dict.fromkeys((*segmentation.warnings, *warnings_of_outputs(volume.source, formats)))
    warnings.pop(_NO_PREVIEW, None)  # a missing picture says nothing about the labels
    segmentation = replace(segmentation, warnings=tuple(warnings))
    results = Results(volume, segmentation, statistics, pseudonymize=pseudonymize)
    with staged_results(Path(folder), list(FILE_NAMES.values())) as stage:
        written = _write_all(results, stage, chosen, timings)
        if set(written) & set(DICOM_FORMATS):
            from autosam_edge.dicom.source import check_unchanged

            check_unchanged(volume.source)
    return {name: Path(folder) / FILE_NAMES[name] for name in written}


def _require_names(segmentation: Segmentation) -> None:
    """Refuse a label value that the table does not name."""
    values = {int(value) for plane in segmentation.labels for value in np.unique(plane)}
    if unnamed := values - {0, *(label.value for label in segmentation.table)}:
        raise ValueError(
            f"the labels hold {', '.join(map(str, sorted(unnamed)))}, expected 0 and values of the table; "
            "name each value in the table, or set it to 0"
        )


def check_writable(
    folder: str | os.PathLike[str],
    *,
    source: Source | None = None,
    input_path: Path | None = None,
    formats: Sequence[Format] | None = None,
) -> tuple[Format, ...]:
    """Check before the inference that its results can be written; nothing is left on the disk.

    Parameters and result are those of :func:`check_outputs`.

    Raises:
        OutputError: The folder cannot be written (AE-OUTPUT-001), the disk is full (-003), or see
            :func:`check_outputs`.
        ValueError: A format is unknown.
    """
    chosen = check_outputs(folder, source=source, input_path=input_path, formats=formats)
    with explained():
        place = _existing(Path(folder))
        sweep(place.parent)
    require_space(place, _NEEDED_BYTES)
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
        OutputError: The folder cannot be looked at (AE-OUTPUT-001); it is a file, or holds a folder or the
            input under one of our names (-002); it lies inside the input folder (-004); it is an empty text
            (-008); or a DICOM format is asked of input that is not DICOM (-005) or lacks the identifiers that
            it would refer to (-006).
        ValueError: A format is unknown.
    """
    if not os.fspath(folder):
        raise OUTPUT_UNNAMED("the output folder is an empty text, expected a path.")
    target = Path(folder)
    chosen = _choose(source, _named(formats))
    with explained():
        _check_place(target)
        _check_outside(target, source, input_path)
        _check_input_stays(target, source, input_path)
    return chosen


def warnings_of_outputs(source: Source, formats: Sequence[Format] | None = None) -> tuple[ScanWarning, ...]:
    """Warnings about results that cannot be made; they can be given before the inference."""
    found = []
    if formats is None and source.kind == "dicom" and source.frame_of_reference_fault:
        found.append(SEG_LEFT_OUT(f"No DICOM SEG was written: the images {source.frame_of_reference_fault}."))
    if formats is None and not can_draw():
        found.append(_NO_PREVIEW)
    return tuple(found)


def _existing(target: Path) -> Path:
    """The innermost part of a path that is there."""
    return next(parent for parent in (target, *target.absolute().parents) if parent.exists())


def _named(formats: Iterable[Format] | None) -> tuple[Format, ...] | None:
    """The formats as a tuple, as an iterator can be read only once; a text is a sequence of its letters."""
    if isinstance(formats, str):
        raise ValueError(f"`formats` is the text {formats!r}, expected several names, such as [{formats!r}]")
    return None if formats is None else tuple(formats)


def _choose(source: Source | None, formats: Sequence[Format] | None) -> tuple[Format, ...]:
    """The formats that fit the source; one that is asked for and cannot be made is refused."""
    unknown = sorted(map(str, set(formats or ()) - set(FORMATS)))
    if unknown or (formats is not None and not formats):
        raise ValueError(
            f"`formats` are {', '.join(unknown) or 'empty'}, expected some of {', '.join(FORMATS)}"
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


def _check_place(target: Path) -> None:
    """Refuse a path that is no folder and cannot become one, or holds folders under our names."""
    if os.path.lexists(target) and not target.is_dir():
        raise OUTPUT_OCCUPIED(
            "the output path is a file or a link that leads nowhere, expected a folder.",
            remedy="Give a folder, new or existing.",
        )
    if not _existing(target).is_dir():
        raise OUTPUT_OCCUPIED(
            "a parent of the output folder is a file.", remedy="Give a path whose parents are folders."
        )
    if taken := [name for name in FILE_NAMES.values() if (target / name).is_dir()]:
        raise OUTPUT_OCCUPIED(
            f"the output folder holds a folder named {taken[0]}, which is the name of a result."
        )


def _check_outside(target: Path, source: Source | None, input_path: Path | None) -> None:
    """Refuse an output folder inside the input folder: the next run would read its own results."""
    read = source.folder if source is not None else None
    # Where a parent may not be searched, Path.is_dir raises, and what reads the input says so.
    given = input_path if input_path is not None and os.path.isdir(input_path) else None  # noqa: PTH112
    resolved = target.resolve()
    for folder in (read, given):
        if folder is not None and folder.resolve() in (resolved, *resolved.parents):
            raise OUTPUT_IN_INPUT("the output folder lies inside the input folder.")


def _check_input_stays(target: Path, source: Source | None, input_path: Path | None) -> None:
    """Refuse to replace a file of the input, which may lie in the output folder, by a result."""
    files = (*(source.files if source is not None else ()), *([input_path] if input_path is not None else []))
    for result in (path for name in FILE_NAMES.values() if (path := target / name).exists()):
        # By name first: a series has thousands of files, and each look at the disk takes time on a network
        # share.
        if any(
            file.name.casefold() == result.name and file.exists() and file.samefile(result) for file in files
        ):
            raise OUTPUT_OCCUPIED(
                f"{result.name} of the output folder is the input and has the name of a result, which "
                "replaces it."
            )


def _write_all(
    results: Results, stage: Path, chosen: Sequence[Format], timings: dict[str, float]
) -> list[Format]:
    """Make every file in the stage; return the formats that this run yields."""
    todo = [name for name in chosen if results.found or name not in SEG_FORMATS]
    if not todo:
        raise SEG_NOT_POSSIBLE(
            "no organ was found, and DICOM SEG, the only requested format, needs at least one.",
            remedy=f"To see the scan and the warnings, {WITHOUT_DICOM}.",
        )
    timings.update(dict.fromkeys(todo, 0.0))  # in this order, whichever is ready first

    def make(names: Sequence[Format]) -> None:
        for name in names:
            with timed(timings, name):
                results.write(name, stage / FILE_NAMES[name])
                sync(stage / FILE_NAMES[name])

    # pydicom and highdicom hold the interpreter; zlib, NumPy and Pillow do most of their work without it.
    dicom = [name for name in todo if name in DICOM_FORMATS]
    others = [name for name in todo if name not in DICOM_FORMATS]
    ThreadTeam(min(2, available_cores())).run(partial(make, others), partial(make, dicom))
    return todo
