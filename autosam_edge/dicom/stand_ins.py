"""Stand-ins for the source images, from which highdicom builds a DICOM SEG."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from pydicom.dataset import Dataset

from autosam_edge.dicom.patient_study import TYPE_2
from autosam_edge.dicom.source import copy_lossy_compression, identifier

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import numpy.typing as npt

    from autosam_edge.geometry import Grid

_DIGITS = 9  # decimals of positions, spacings (mm) and cosines: the noise of floating point ends before


def stand_ins(sources: Sequence[Dataset], grid: Grid, order: npt.NDArray[np.intp]) -> list[Dataset]:
    """Stand-ins for the source images: identifiers of the source, geometry of the grid.

    Args:
        order: (frames,) the slice of the labels that each source frame shows.
    """
    positions = (grid.affine[:3, :1] * order + grid.affine[:3, 3:]).T
    measures, plane = Dataset(), Dataset()
    measures.PixelSpacing = _rounded(grid.spacing_mm[1:])
    normal = np.cross(grid.direction[:, 2], grid.direction[:, 1])
    # Along the normal, also where the slices are not stacked along it.
    (measures.SliceThickness,) = _rounded([abs(float(grid.affine[:3, 0] @ normal))])
    measures.SpacingBetweenSlices = measures.SliceThickness
    plane.ImageOrientationPatient = _rounded([*grid.direction[:, 2], *grid.direction[:, 1]])
    result = [_identified(source, sources[0]) for source in sources]
    copy_lossy_compression(sources, result[0])
    if len(sources) == 1 and "PerFrameFunctionalGroupsSequence" in sources[0]:
        shared, frames = Dataset(), [Dataset() for _ in order]
        shared.PixelMeasuresSequence, shared.PlaneOrientationSequence = [measures], [plane]
        for frame, position in zip(frames, positions, strict=True):
            frame.PlanePositionSequence = [Dataset()]
            frame.PlanePositionSequence[0].ImagePositionPatient = _rounded(position)
        result[0].NumberOfFrames = len(order)
        result[0].SharedFunctionalGroupsSequence = [shared]
        result[0].PerFrameFunctionalGroupsSequence = frames
        return result
    for stand_in, position in zip(result, positions, strict=True):
        stand_in.ImagePositionPatient = _rounded(position)
        stand_in.update(measures)
        stand_in.update(plane)
    return result


def _identified(source: Dataset, first: Dataset) -> Dataset:
    """The identifiers of one source image.

    Study, series and frame of reference are those of the first image: highdicom wants one series, and where
    each image has its own, Referenced Series Sequence names them. Highdicom asks the first image for the
    patient and the study too.
    """
    stand_in = Dataset()
    for keyword in ("SOPClassUID", "SOPInstanceUID"):
        setattr(stand_in, keyword, identifier(source, keyword))
    for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID"):
        setattr(stand_in, keyword, identifier(first, keyword))
    if source is first:
        for keyword in TYPE_2:
            setattr(stand_in, keyword, "")
    return stand_in


def _rounded(values: Iterable[float]) -> list[float]:
    return [round(float(value), _DIGITS) + 0.0 for value in values]  # + 0.0 makes 0 of -0
