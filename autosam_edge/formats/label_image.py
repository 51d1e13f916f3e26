"""Label images: those of any tool on the grid of their scan, or an error; and those of this package."""

from __future__ import annotations

import io
import json
from contextlib import contextmanager
from typing import TYPE_CHECKING

import nibabel as nib
import numpy as np

from autosam_edge.error_codes import DATA_LABELS_DIFFER, GRIDS_DIFFER, LABEL_VALUE_INVALID
from autosam_edge.errors import InputError
from autosam_edge.formats.file_kind import ENOUGH_BYTES, is_nifti
from autosam_edge.formats.nifti import LABEL_INTENT, read_array
from autosam_edge.formats.voxels import read_start
from autosam_edge.labels import total_segmentator_name
from autosam_edge.volume import RESEARCH_USE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import numpy.typing as npt

    from autosam_edge.geometry import Grid

# Tools write the same grid in slightly different ways (quaternion or matrix, both float32); a voxel is fifty
# times as large.
_GRID_TOLERANCE_MM = 0.01
_MAX_HEADER_BYTES = 1 << 20  # with the label table and the provenance of 255 organs, 60 kB
_END_OF_OWN_METAIMAGE = f"\nComment = {RESEARCH_USE}\nElementType = MET_UCHAR\n".encode()


def is_own_result(path: Path) -> bool:
    """Whether a file is labels that this package wrote as NIfTI or MetaImage, by its start."""
    try:
        start, _ = read_start(path, ENOUGH_BYTES)
    except InputError:  # its reader tells why
        return False
    intent, description = start[68:70], start[148:228]  # nifti1.h
    is_labels = LABEL_INTENT in (int.from_bytes(intent, "little"), int.from_bytes(intent, "big"))
    of_nifti = is_nifti(start) and is_labels and description.startswith(b"autosam-edge")
    return of_nifti or _END_OF_OWN_METAIMAGE in start


def read_labels(path: Path, grid: Grid, classes: int, what: str) -> npt.NDArray[np.uint8]:
    """Read a NIfTI label image that belongs to a scan.

    The same voxels, stored along the axes in another order or direction, are brought into the scan's.

    Args:
        what: Names of the two images for the message, such as ``image and label of case 0001``.

    Returns:
        (D, H, W) uint8.

    Raises:
        InputError: See :func:`~autosam_edge.formats.nifti.read_array`; the image lies on another grid
            (AE-NIFTI-005) or holds a value that is no class (AE-DATA-003).
    """
    values, own = read_array(path)
    if grid.canonical.same_as(own.canonical, tolerance_mm=_GRID_TOLERANCE_MM):
        values = grid.orientation.from_canonical(own.orientation.to_canonical(values))
    else:
        require_same_grid(grid, own, what)
    return as_labels(values, classes)


def read_named_labels(
    path: Path, grid: Grid, names: Mapping[int, str], what: str, remedy: str
) -> npt.NDArray[np.uint8]:
    """Read labels, unless the file is one of this package whose own label table gives a value another organ.

    A file without such a table, as other tools write it, is accepted.

    Args:
        path, grid, what: As for :func:`read_labels`.
        names: The organs that are expected, by value.
        remedy: What helps if the file has others.

    Returns:
        See :func:`read_labels`.

    Raises:
        InputError: The label table is another one (AE-DATA-009), or as for :func:`read_labels`.
    """
    for value, name in _stored_names(path).items():
        expected = names.get(value)
        if expected is None or total_segmentator_name(expected) != total_segmentator_name(name):
            raise DATA_LABELS_DIFFER(
                f"the file says that its label {value} is {name}, expected {expected or 'no organ'}.",
                remedy=f"{remedy} If you have changed its numbers, save it without its header extension.",
            )
    return read_labels(path, grid, max(names) + 1, what)


@contextmanager
def naming_labels(subject: str, remedy: str) -> Iterator[None]:
    """Let the errors of a block name the labels, with a remedy for labels in place of that for a scan.

    The remedy stays where a file cannot be read at all or is of another model: it may be the right one.

    Args:
        subject: The labels, such as ``the prediction 0035.nii.gz``.
        remedy: What helps if the labels do not belong to the scan.
    """
    try:
        yield
    except InputError as error:
        is_kept = "-INPUT-" in error.code or error.code == DATA_LABELS_DIFFER.code
        message = f"{subject}: {error.message}"
        raise type(error)(error.code, message, remedy=error.remedy if is_kept else remedy) from error


def _stored_names(path: Path) -> dict[int, str]:
    """Organs by value in the JSON of a header, see :func:`~autosam_edge.formats.nifti.write_nifti`."""
    start, _ = read_start(path, _MAX_HEADER_BYTES)
    try:
        header = nib.Nifti1Header.from_fileobj(io.BytesIO(start), check=False)
        labels = json.loads(header.extensions[0].get_content())["labels"]
        return {int(label["value"]): str(label["name"]) for label in labels}
    except Exception:  # no extension, one of another tool, or a file that its reader refuses
        return {}


def as_labels(values: npt.NDArray[np.generic], classes: int) -> npt.NDArray[np.uint8]:
    """Label values as uint8.

    Args:
        values: (D, H, W) of any real type.

    Raises:
        InputError: A value is not a whole number from 0 to ``classes - 1`` (AE-DATA-003).
    """
    remedy = None
    if values.dtype.kind not in "biuf":
        found = "values that are no real numbers"
    elif values.dtype.kind == "f" and not (
        np.isfinite(values).all() and np.array_equal(values, np.rint(values))
    ):
        example = values[~np.isfinite(values) | (values != np.rint(values))][0]
        found = f"values that are not whole numbers, such as {example}"
        remedy = "Save the labels as integers, without a scale factor."
    elif (low := int(values.min())) < 0 or (high := int(values.max())) >= classes:
        found = f"the value {low if low < 0 else high}"
    else:
        return values.astype(np.uint8)
    raise LABEL_VALUE_INVALID(
        f"the labels hold {found}, expected whole numbers from 0 to {classes - 1}.", remedy=remedy
    )


def require_same_grid(first: Grid, second: Grid, what: str) -> None:
    """Refuse two images whose voxels do not lie at the same positions.

    Args:
        what: Names of the two images for the message, such as ``image and label of case 0001``.

    Raises:
        InputError: AE-NIFTI-005.
    """
    if not first.same_as(second, tolerance_mm=_GRID_TOLERANCE_MM):
        raise GRIDS_DIFFER(f"{what} lie on different grids, expected the same.")
