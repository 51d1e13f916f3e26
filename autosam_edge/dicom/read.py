"""A CT series in DICOM as a volume: read headers, select the series, order its planes, decode to HU."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from autosam_edge.dicom.compressed import check_decodable
from autosam_edge.dicom.decoder import FrameDecoder
from autosam_edge.dicom.find import find_dicom_files, walk
from autosam_edge.dicom.header import silenced, stamp_of
from autosam_edge.dicom.hounsfield import read_hu, reading_mb, same_pixels
from autosam_edge.dicom.planes import planes_of
from autosam_edge.dicom.series import select_series
from autosam_edge.dicom.source import (
    LOSS_RATIO,
    burned_in_annotation,
    frame_of_reference_fault,
    identifier_fault,
    loss_of,
    shows_animal,
)
from autosam_edge.dicom.stack import stack
from autosam_edge.error_codes import FILE_CHANGED
from autosam_edge.read_choices import ReadChoices
from autosam_edge.system.memory import require_room
from autosam_edge.volume import Source, Volume
from autosam_edge.warning_codes import ANIMAL, BURNED_IN_ANNOTATION, LOSSY_COMPRESSION, PHOTOMETRIC_UNUSUAL

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy.typing as npt

    from autosam_edge.dicom.find import DicomFiles
    from autosam_edge.dicom.header import Header
    from autosam_edge.dicom.series import Series
    from autosam_edge.dicom.stack import Stack
    from autosam_edge.scan_warning import ScanWarning


def read_dicom(
    root: Path | Sequence[Path],
    *,
    series: str | None = None,
    choices: ReadChoices | None = None,
    max_memory_mb: float | None = None,
) -> Volume:
    """Read the one CT series below a folder or among given files, or an Enhanced CT file.

    Args:
        root: Folder, searched with its subfolders, or file, or the paths of the files of one series.
        series: Series to read, where there are several: its number in the list that the error shows, its
            SeriesNumber, its SeriesInstanceUID or the start of its hash (8 letters or more); ``all`` joins
            series of one image each.
        choices: Decisions of a person; None leaves every doubtful case refused.
        max_memory_mb: Limit for the resident memory of the process, MB; None sets no limit.

    Returns:
        (D, H, W) HU in the order of the slices along their normal, on the scanner's own grid, LPS mm.

    Raises:
        InputError: The input is not one regular CT stack in HU; each reason has its own code (AE-DICOM-001 to
            -024).
        BudgetError: The volume alone does not fit under the limit (AE-MEMORY-001).

    Source:
        PS3.3 C.7.6.2.1.1 (position and orientation), C.8.2.1 (CT image), C.8.15 (Enhanced CT image), C.11.1
        (rescale).
    """
    choices = choices or ReadChoices()
    if isinstance(root, Path):
        root = root.absolute()  # the volume keeps it, and the working directory may change
    folder = root if isinstance(root, Path) and root.is_dir() else None
    with silenced(), FrameDecoder() as decoder:
        found = find_dicom_files(root, max_memory_mb, decoder.prepare)
        chosen, notes = select_series(found, series, choices)
        planes = planes_of(chosen.headers, assume_hu=choices.assume_hu)
        for header in {header.transfer_syntax: header for header in reversed(chosen.headers)}.values():
            check_decodable(header)
        require_room(reading_mb(planes[:2], 2), max_memory_mb)  # two planes at one place are compared
        stacked = stack(planes, partial(same_pixels, decoder), allow_gap=choices.allow_gap)
        require_room(reading_mb(stacked.planes, stacked.grid.shape[0]), max_memory_mb)
        hu, pixel_notes = read_hu(stacked.planes, decoder, max_memory_mb)
        hu = fill_gaps(hu, stacked.numbers)
        _check_unchanged(folder, found, chosen.headers)
        notes += [*stacked.warnings, *_header_notes(chosen.headers), *pixel_notes]
        source = _source(chosen, folder, stacked)
    return Volume(hu, stacked.grid, source, tuple(notes))


def fill_gaps(hu: npt.NDArray[Any], numbers: Sequence[int]) -> npt.NDArray[Any]:
    """Give every slice its place in the grid, and interpolate those that are missing linearly in HU.

    Args:
        hu: (slices, H, W) values of the slices that are there, HU.
        numbers: Slice of the grid that each one shows, increasing from 0.

    Returns:
        (D, H, W) of the same type; ``hu`` itself if no slice is missing.
    """
    depth = numbers[-1] + 1
    if depth == len(numbers):
        return hu
    filled = np.empty((depth, *hu.shape[1:]), dtype=hu.dtype)
    filled[list(numbers)] = hu
    for below, above in pairwise(numbers):
        for place in range(below + 1, above):
            share = (place - below) / (above - below)
            between = filled[below] * np.float64(1.0 - share) + filled[above] * np.float64(share)
            filled[place] = np.rint(between) if hu.dtype.kind == "i" else between
    return filled


def _source(chosen: Series, folder: Path | None, stacked: Stack) -> Source:
    """The files of a volume, in slice order, each once."""
    # Copies that were ignored are no part of the volume.
    headers = {plane.header.path: plane.header for plane in stacked.planes}
    datasets = [header.dataset for header in headers.values()]
    fault = identifier_fault(datasets)
    if len(headers) == 1 and len(stacked.planes) < stacked.planes[0].header.frames:
        fault = fault or "name a slice in two frames"
    return Source(
        "dicom",
        chosen.hash,
        tuple(headers),
        folder,
        tuple(header.stamp for header in headers.values()),
        fault,
        frame_of_reference_fault(datasets),
        filled=tuple(sorted(set(range(stacked.grid.shape[0])) - set(stacked.numbers))),
    )


def _header_notes(headers: list[Header]) -> Iterator[ScanWarning]:
    """Warnings about what the headers say of the pixels and the patient."""
    if any(header.text("PhotometricInterpretation") == "MONOCHROME1" for header in headers):
        yield PHOTOMETRIC_UNUSUAL(
            "PhotometricInterpretation is MONOCHROME1, unusual for CT; HU were not inverted."
        )
    lossy = [header for header in headers if header.text("LossyImageCompression") == "01"]
    if lossy:
        ratios = [ratio for header in lossy for ratio in loss_of(header.dataset)[LOSS_RATIO]]
        ratio = f", ratio {ratios[0]}" if ratios else ""
        yield LOSSY_COMPRESSION(
            f"{len(lossy)} images were compressed with loss{ratio}; labels may differ from the original's."
        )
    if burned_in := sum(burned_in_annotation(header.dataset) for header in headers):
        yield BURNED_IN_ANNOTATION(
            f"{burned_in} of {len(headers)} images say that text is burned into their pixels; pictures "
            "of the scan may show a name, also under a pseudonym."
        )
    if animals := sum(shows_animal(header.dataset) for header in headers):
        yield ANIMAL(
            f"{animals} of {len(headers)} images say that the patient is an animal; the model was trained on "
            "scans of people."
        )


def _check_unchanged(folder: Path | None, found: DicomFiles, used: list[Header]) -> None:
    """Refuse a series that was still arriving, or being rewritten, while it was read."""
    for header in used:
        try:
            now = stamp_of(header.path.stat())
        except FileNotFoundError:
            raise FILE_CHANGED(f"{header.name} vanished while the series was read.") from None
        if now != header.stamp:
            raise FILE_CHANGED(f"{header.name} changed while the series was read.")
    if folder and not {entry.path for entry in walk(folder)} <= found.paths:
        raise FILE_CHANGED("further files arrived while the series was read.")
