"""All results of a run into one folder, or nothing.

Files are made in a temporary folder on the same file system, synced, and moved into place by renames. A run that fails, is cancelled or
killed leaves no result: what may stay after a kill is a hidden folder whose name ends in ``.partial``, which nothing here ever reads.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import time
import uuid
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal, get_args

from autosam_edge.errors import OutputError
from autosam_edge.metrics import organ_statistics

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from autosam_edge.metrics import OrganStatistics
    from autosam_edge.volume import Segmentation, Source, Volume

Format = Literal["nifti", "dicom-seg", "json", "csv", "preview"]
FORMATS: tuple[Format, ...] = get_args(Format)
FILE_NAMES: dict[Format, str] = {
    "nifti": "segmentation.nii.gz",
    "dicom-seg": "segmentation.dcm",
    "json": "statistics.json",
    "csv": "statistics.csv",
    "preview": "preview.png",
}
WITHOUT_SEG = f"leave the DICOM SEG out: --format {','.join(name for name in FORMATS if name != 'dicom-seg')}"
_NEEDED_BYTES = 64 * 2**20  # results of a 512 x 512 x 160 scan take about 16 MiB; room for scans four times as long
_DISK_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


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

    A folder that is there already keeps every file that is not ours. Of ours, those asked for are replaced; one that this run does not
    yield (a DICOM SEG when no organ was found) is removed, so that it cannot be taken for a result of this run.

    Args:
        volume: The scan that was segmented.
        segmentation: Labels on the scan's grid.
        folder: Where the files go; made when absent, with its parents.
        formats: What to write; by default all that fit, which is without DICOM SEG for input that is not DICOM.
        statistics: What :func:`autosam_edge.metrics.organ_statistics` found, when the caller has it already.
        timings_s: Filled with the seconds that the statistics and each format took.

    Returns:
        Path of each file written.

    Raises:
        OutputError: See :func:`check_writable`; also when the DICOM SEG cannot be made (AE-OUTPUT-005, -006), or is all that is asked for
            and no organ was found (AE-OUTPUT-005). Nothing is left behind.
        ValueError: Volume and segmentation do not share a shape, or a format is unknown.

    Example:
        >>> write(volume, segmentation, "out/", formats=("nifti", "preview"))  # doctest: +SKIP
    """
    target = Path(folder)
    chosen = check_writable(target, source=volume.source, formats=formats)
    timings = timings_s if timings_s is not None else {}
    if statistics is None:
        started = time.perf_counter()
        statistics = organ_statistics(volume, segmentation)
        timings["statistics"] = time.perf_counter() - started
    made_parents: list[Path] = []
    stage: Path | None = None
    try:
        made_parents = _make_parents(target)
        stage = _make_stage(target)
        written = _write_all(volume, segmentation, statistics, stage, chosen, timings)
        return _publish(stage, target, written, [FILE_NAMES[name] for name in chosen])
    except OSError as error:
        if isinstance(error, OutputError):
            raise
        raise _explain(error) from error
    finally:
        if stage is not None:
            shutil.rmtree(stage, ignore_errors=True)
        if not target.exists():
            with contextlib.suppress(OSError):  # another process may have put something there; then the folder is no longer ours
                for parent in reversed(made_parents):
                    parent.rmdir()


def write_file(content: bytes, path: Path) -> None:
    """Write one file; see :func:`write_files`."""
    write_files({path: content})


def write_files(contents: Mapping[Path, bytes]) -> None:
    """Write small files: each is whole before any takes its name, and one of that name is replaced.

    Raises:
        OutputError: A folder cannot be written (AE-OUTPUT-001), a folder has a file's name (-002), or the disk is full (-003).
    """
    stages = {path: path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial") for path in contents}
    for path in contents:
        if path.is_dir():
            raise OutputError("AE-OUTPUT-002", f"{path.name} is a folder, expected a file.", remedy="Give the name of a file.")
    try:
        for path, content in contents.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            stages[path].write_bytes(content)
            _sync(stages[path])
        for path, stage in stages.items():
            stage.replace(path)
    except OSError as error:
        raise _explain(error) from error
    finally:
        for stage in stages.values():
            with contextlib.suppress(OSError):  # after the rename it is no longer there
                stage.unlink()


def check_writable(
    folder: str | os.PathLike[str], *, source: Source | None = None, input_path: Path | None = None, formats: Sequence[Format] | None = None
) -> tuple[Format, ...]:
    """Find out before the inference whether its results can be written; touches nothing that stays.

    Args:
        folder: Where the results will go.
        source: Where the scan came from.
        input_path: What the user gave as input; a folder must not contain the output.
        formats: What will be asked for.

    Returns:
        The formats that will be written.

    Raises:
        OutputError: The folder cannot be written (AE-OUTPUT-001), is a file or holds a folder or the input under one of our names (-002),
            the disk is full (-003), lies inside the input folder (-004), or DICOM SEG is asked of input that is not DICOM (-005) or
            lacks the identifiers that it would refer to (-006).
        ValueError: A format is unknown.
    """
    target = Path(folder)
    chosen = _choose(source, formats)
    _check_outside(target, source, input_path)
    if target.exists() and not target.is_dir():
        raise OutputError("AE-OUTPUT-002", "the output path is a file, expected a folder.", remedy="Give a folder, new or existing.")
    taken = [FILE_NAMES[name] for name in chosen if (target / FILE_NAMES[name]).is_dir()]
    if taken:
        raise OutputError(
            "AE-OUTPUT-002",
            f"the output folder holds a folder named {taken[0]}, which is the name of a result.",
            remedy="Give another output folder.",
        )
    _check_input_stays(target, source, input_path, chosen)
    existing = next(parent for parent in (target, *target.absolute().parents) if parent.exists())
    if not existing.is_dir():
        raise OutputError("AE-OUTPUT-002", "a parent of the output folder is a file.", remedy="Give a path whose parents are folders.")
    probe = existing / f".autosam-edge-{uuid.uuid4().hex}.partial"
    try:
        # os.access does not know of read-only mounts, quotas and network shares; making a folder does.
        probe.mkdir()
        probe.rmdir()
        free = shutil.disk_usage(existing).free
    except OSError as error:
        raise _explain(error) from error
    if free < _NEEDED_BYTES:
        raise _disk_full(f"{free / 2**20:.0f} MiB are free, {_NEEDED_BYTES / 2**20:.0f} MiB are needed")
    if "dicom-seg" in chosen and source is not None and source.files[0].is_file():  # one that is gone is told where it is read
        from autosam_edge.io.source_headers import check_can_be_referred_to

        check_can_be_referred_to(source.files[0])
    return chosen


def _choose(source: Source | None, formats: Sequence[Format] | None) -> tuple[Format, ...]:
    """The formats that fit the source; one that is asked for and cannot be made is refused."""
    unknown = set(formats or ()) - set(FORMATS)
    if unknown or (formats is not None and not formats):
        raise ValueError(f"formats are some of {', '.join(FORMATS)}, not {', '.join(sorted(unknown)) or 'none'}")
    dicom = source is None or (source.kind == "dicom" and bool(source.files))
    if formats is None:
        return tuple(name for name in FORMATS if dicom or name != "dicom-seg")
    if "dicom-seg" in formats and not dicom:
        raise OutputError(
            "AE-OUTPUT-005",
            "a DICOM SEG refers to the DICOM series that was segmented, and the input is not DICOM.",
            remedy=f"Give the DICOM series as input, or {WITHOUT_SEG}.",
        )
    return tuple(name for name in FORMATS if name in formats)


def _check_outside(target: Path, source: Source | None, input_path: Path | None) -> None:
    """Refuse an output folder inside the folder that was given as input: the next run would read its own results."""
    read = source.folder if source is not None else None
    given = input_path if input_path is not None and input_path.is_dir() else None
    resolved = target.resolve()
    for folder in (read, given):
        if folder is not None and folder.resolve() in (resolved, *resolved.parents):
            raise OutputError(
                "AE-OUTPUT-004", "the output folder lies inside the input folder.", remedy="Give an output folder outside of the input."
            )


def _check_input_stays(target: Path, source: Source | None, input_path: Path | None, chosen: Sequence[Format]) -> None:
    """Refuse to replace a file of the input by a result: a file that was given as input may lie in the output folder."""
    files = (*(source.files if source is not None else ()), *([input_path] if input_path is not None else []))
    results = [target / FILE_NAMES[name] for name in chosen]
    for result in (path for path in results if path.exists()):
        # By name first: a series has thousands of files, and each look at the disk takes time on a network share.
        if any(file.name.casefold() == result.name and file.exists() and file.samefile(result) for file in files):
            raise OutputError(
                "AE-OUTPUT-002",
                f"{result.name} of the output folder is the input, and the result of that name would replace it.",
                remedy="Give another output folder.",
            )


def _make_parents(target: Path) -> list[Path]:
    """Make the parents of the output folder; return those that were missing, outermost first."""
    missing = [parent for parent in reversed(target.absolute().parents) if not parent.exists()]
    for parent in missing:
        parent.mkdir(exist_ok=True)
    return missing


def _make_stage(target: Path) -> Path:
    """A folder of our own beside the output folder, or inside it when it exists (it may be a mount point), so that renames are atomic."""
    home = target if target.is_dir() else target.absolute().parent
    stage = home / f".autosam-edge-{uuid.uuid4().hex}.partial"
    stage.mkdir()  # not tempfile.mkdtemp: its mode 0700 would stay with the results
    return stage


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
        raise OutputError(
            "AE-OUTPUT-005",
            "no organ was found, and a DICOM SEG, which alone was asked for, needs at least one segment.",
            remedy=f"To see why, {WITHOUT_SEG}.",
        )

    # One after the other: with two threads on two cores the same work took longer, as pydicom holds the interpreter most of the time.
    for name in todo:
        started = time.perf_counter()
        path = stage / FILE_NAMES[name]
        tasks[name](path)
        _sync(path)
        timings[name] = time.perf_counter() - started
    return todo


def _writers(volume: Volume, segmentation: Segmentation, statistics: tuple[OrganStatistics, ...]) -> dict[Format, Callable[[Path], None]]:
    """What makes each file. Leaves are loaded when they are used: highdicom alone takes half a second."""

    def nifti(path: Path) -> None:
        from autosam_edge.io.nifti import write_nifti

        write_nifti(segmentation, path)

    def dicom_seg(path: Path) -> None:
        from autosam_edge.io.dicom_seg import write_dicom_seg

        write_dicom_seg(segmentation, volume.source.files, path)

    def preview(path: Path) -> None:
        from autosam_edge.io.preview import write_preview

        write_preview(volume, segmentation, path, statistics)

    def json(path: Path) -> None:
        from autosam_edge.io.statistics_files import write_statistics_json

        write_statistics_json(segmentation, statistics, path)

    def csv(path: Path) -> None:
        from autosam_edge.io.statistics_files import write_statistics_csv

        write_statistics_csv(segmentation, statistics, path)

    return {"nifti": nifti, "dicom-seg": dicom_seg, "preview": preview, "json": json, "csv": csv}


def _publish(stage: Path, target: Path, written: Sequence[Format], ours: Sequence[str]) -> dict[Format, Path]:
    """Move the finished files into place: the whole folder by one rename, or file by file, undone when one of the renames fails."""
    _sync(stage)
    if stage.parent != target:
        try:
            stage.rename(target)
        except OSError:
            if not target.is_dir():
                raise
            # Another process made the folder meanwhile: its files and ours live side by side, and the last rename of a name wins.
        else:
            _sync(target.absolute().parent)
            return {name: target / FILE_NAMES[name] for name in written}
    undo: list[Callable[[], object]] = []
    try:
        for file in ours:
            final, fresh, kept = target / file, stage / file, stage / f"{file}.before"
            if final.exists():
                if fresh.exists():
                    _keep(final, kept)
                else:
                    final.rename(kept)
                undo.append(partial(kept.replace, final))
            elif fresh.exists():
                undo.append(partial(final.unlink, missing_ok=True))
            if fresh.exists():
                fresh.replace(final)
    except BaseException:  # Ctrl-C too: half of the old files and half of the new ones would be a result that nobody made
        for step in reversed(undo):
            step()
        raise
    _sync(target)
    return {name: target / FILE_NAMES[name] for name in written}


def _keep(file: Path, spare: Path) -> None:
    """Remember a file without taking its name away, so that its replacement is one atomic rename."""
    try:
        os.link(file, spare)
    except OSError:  # file systems such as exFAT have no links
        shutil.copy2(file, spare)


def _sync(path: Path) -> None:
    """Bring a file or folder to the disk, so that a rename never gets there before its content does."""
    if os.name == "nt" and path.is_dir():
        return  # Windows has no handle for folders, and journals renames itself
    handle = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _explain(error: OSError) -> OutputError:
    """Our error for one of the operating system; the path is the caller's own and is not repeated."""
    if error.errno in _DISK_FULL:
        return _disk_full("the disk or the quota is full")
    return OutputError(
        "AE-OUTPUT-001",
        f"the output folder cannot be written ({type(error).__name__}: {os.strerror(error.errno) if error.errno else 'unknown reason'}).",
        remedy="Give a folder that you may write to, on a disk that is not read-only.",
    )


def _disk_full(what: str) -> OutputError:
    """The error for a lack of space."""
    return OutputError("AE-OUTPUT-003", f"{what}.", remedy="Free some space or give an output folder on another disk.")
