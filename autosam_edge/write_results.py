"""Writer of the results of a run: all files appear in the folder, or none."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

from autosam_edge.atomic_files import require_space, staged_results, sync
from autosam_edge.error_codes import OUTPUT_IN_INPUT, OUTPUT_OCCUPIED, SEG_NOT_POSSIBLE
from autosam_edge.measurements import organ_statistics
from autosam_edge.output_formats import FILE_NAMES, FORMATS, WITHOUT_SEG

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Sequence

    from autosam_edge.measurements import OrganStatistics
    from autosam_edge.output_formats import Format
    from autosam_edge.volume import Segmentation, Source, Volume

# Results of a scan of 512 x 512 x 160 voxels take about 16 MiB; scans may be four times as long.
_NEEDED_BYTES = 64 * 2**20


def write(
    volume: Volume,
    segmentation: Segmentation,
    folder: str | os.PathLike[str],
    *,
    formats: Sequence[Format] | None = None,
    statistics: tuple[OrganStatistics, ...] | None = None,
    timings_s: dict[str, float] | None = None,
) -> dict[Format, Path]:
    """Write results into a folder, all of them or none.

    A folder that is there already keeps every file that is not ours. Of ours, those asked for are replaced;
    one that this run does not yield (a DICOM SEG when no organ was found) is removed, so that it cannot be
    taken for a result of this run. A caller with a long inference runs :func:`check_writable` before it.

    Args:
        volume: The scan that was segmented.
        segmentation: Labels on the scan's grid.
        folder: Folder for the files; made when absent, with its parents.
        formats: Formats to write; None for all that fit the input (DICOM SEG needs DICOM).
        statistics: Result of :func:`autosam_edge.measurements.organ_statistics`; None computes it.
        timings_s: Dictionary that receives the seconds of the statistics and of each format.

    Returns:
        Path of each file written.

    Raises:
        OutputError: The folder cannot be written (AE-OUTPUT-001), the disk is full (-003), or see
            :func:`check_outputs`; also when the DICOM SEG cannot be made (-005, -006), or is all that is
            asked for and no organ was found (-005). Nothing is left behind.
        ValueError: Volume and segmentation do not share a shape, or a format is unknown.

    Example:
        >>> write(volume, segmentation, "out/", formats=("nifti", "preview"))  # doctest: +SKIP
    """
    target = Path(folder)
    chosen = check_outputs(target, source=volume.source, formats=formats)
    timings = timings_s if timings_s is not None else {}
    if statistics is None:
        started = time.perf_counter()
        statistics = organ_statistics(volume, segmentation)
        timings["statistics"] = time.perf_counter() - started
    with staged_results(target, [FILE_NAMES[name] for name in chosen]) as stage:
        written = _write_all(volume, segmentation, statistics, stage, chosen, timings)
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
            (AE-OUTPUT-002), lies inside the input folder (-004), or DICOM SEG is asked of input that is not
            DICOM (-005) or lacks the identifiers that it would refer to (-006).
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
    # A file that has vanished is reported when the headers are read.
    if "dicom-seg" in chosen and source is not None and source.files[0].is_file():
        from autosam_edge.dicom.source import check_can_be_referred_to

        check_can_be_referred_to(source.files[0])
    return chosen


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
    dicom = source is None or (source.kind == "dicom" and bool(source.files))
    if formats is None:
        return tuple(name for name in FORMATS if dicom or name != "dicom-seg")
    if "dicom-seg" in formats and not dicom:
        raise SEG_NOT_POSSIBLE(
            "a DICOM SEG refers to the DICOM series that was segmented, and the input is not DICOM.",
            remedy=f"Give the DICOM series as input, or {WITHOUT_SEG}.",
        )
    return tuple(name for name in FORMATS if name in formats)


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
    volume: Volume,
    segmentation: Segmentation,
    statistics: tuple[OrganStatistics, ...],
    stage: Path,
    chosen: Sequence[Format],
    timings: dict[str, float],
) -> list[Format]:
    """Make every file in the stage; return the formats that this run yields."""
    tasks = _writers(volume, segmentation, statistics)
    nothing_found = not any(organ.voxels for organ in statistics)
    todo = [name for name in chosen if not (name == "dicom-seg" and nothing_found)]
    if not todo:
        raise SEG_NOT_POSSIBLE(
            "no organ was found, and DICOM SEG, the only requested format, needs at least one.",
            remedy=f"To see the scan and the warnings, {WITHOUT_SEG}.",
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


def _writers(
    volume: Volume, segmentation: Segmentation, statistics: tuple[OrganStatistics, ...]
) -> dict[Format, Callable[[Path], None]]:
    """What makes each file. Leaves are loaded when they are used: highdicom alone takes half a second."""

    def nifti(path: Path) -> None:
        from autosam_edge.formats.nifti import write_nifti

        write_nifti(segmentation, path)

    def dicom_seg(path: Path) -> None:
        from autosam_edge.dicom.segmentation import write_dicom_seg

        write_dicom_seg(segmentation, volume.source.files, path)

    def preview(path: Path) -> None:
        from autosam_edge.report.preview import write_preview

        write_preview(volume, segmentation, path, statistics)

    def json(path: Path) -> None:
        from autosam_edge.report.statistics_files import write_statistics_json

        write_statistics_json(segmentation, statistics, path)

    def csv(path: Path) -> None:
        from autosam_edge.report.statistics_files import write_statistics_csv

        write_statistics_csv(segmentation, statistics, path)

    return {"nifti": nifti, "dicom-seg": dicom_seg, "preview": preview, "json": json, "csv": csv}
