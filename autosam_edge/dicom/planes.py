"""One CT image plane, from a file of its own or from a frame of an Enhanced CT object."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from autosam_edge.dicom.header import Header, items_of, missing, numbers, raw_of, text_of
from autosam_edge.dicom.image_kinds import kind_of_type
from autosam_edge.dicom.pixel_format import PixelFormat, pixel_format
from autosam_edge.error_codes import (
    ATTRIBUTE_INVALID,
    DICOM_TOO_LARGE,
    NOT_HU,
    PIXEL_FORMAT_INVALID,
    RESCALE_MISSING,
    SEVERAL_STACKS,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from pydicom.dataset import Dataset

    from autosam_edge.errors import AutosamEdgeError

_MAX_SIDE = 8192  # large-matrix CT has 2048
UNUSUAL_TYPES = ("HU_MOD", "US")
"""Types of rescale whose values may be HU, and are if they look so: modified HU, and not specified."""
TRAITS = (
    "AcquisitionDateTime",
    "AcquisitionNumber",
    "AcquisitionTime",
    "ContrastBolusAgent",
    "ConvolutionKernel",
    "ImageType",
    "IrradiationEventUID",
    "KVP",
    "NominalPercentageOfCardiacPhase",
    "SeriesDescription",
    "SeriesNumber",
    "SliceThickness",
    "TemporalPositionIdentifier",
)
"""Attributes that tell passes of the scanner and reconstructions apart."""
_FRAME_TRAITS = {
    "FrameAcquisitionNumber": "FrameContentSequence",
    "TemporalPositionIndex": "FrameContentSequence",
    "FrameAcquisitionDateTime": "FrameContentSequence",
    "FrameType": "CTImageFrameTypeSequence",
    "IrradiationEventUID": "IrradiationEventIdentificationSequence",
    "NominalPercentageOfCardiacPhase": "CardiacSynchronizationSequence",
    "ConvolutionKernel": "CTReconstructionSequence",
    "SliceThickness": "PixelMeasuresSequence",
}  # the same of an Enhanced CT object, with the macro that holds it
_RE_EXPORT = "Export the series again with all attributes of the CT image; nothing is assumed in their place."
_ONE_OBJECT = "Export the concatenation as one multi-frame object."


@dataclass(frozen=True)
class Rescale:
    """The linear way from stored values to HU.

    Args:
        slope: RescaleSlope, 1 where it is missing.
        intercept: RescaleIntercept, HU; 0 where it is missing.
        kind: RescaleType in capitals: HU, HU_MOD or US.
        assumed: Whether slope or intercept is missing, so that the values must tell whether they are HU.
    """

    slope: float
    intercept: float
    kind: str = "HU"
    assumed: bool = False


@dataclass(frozen=True, eq=False)
class ImagePlane:
    """One plane of pixels with its place in the patient and its way to HU.

    Args:
        index: Number of the frame in that file, from 0.
        position: ImagePositionPatient: center of the first pixel, LPS mm.
        orientation: ImageOrientationPatient: unit vectors along a row and down a column.
        spacing_mm: PixelSpacing: between rows, between columns, in mm.
        shape: (H, W): Rows, Columns.
        format: How a pixel is stored.
        rescale: Its way to HU.
        traits: Attributes that tell passes of the scanner and reconstructions apart, as text by keyword; to
            be compared and not to be shown.
    """

    header: Header
    index: int
    position: tuple[float, ...]
    orientation: tuple[float, ...]
    spacing_mm: tuple[float, ...]
    shape: tuple[int, int]
    format: PixelFormat
    rescale: Rescale
    traits: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """How messages call the plane: by its file, or by its frame of a multi-frame object."""
        name = self.header.name
        return f"frame {self.index + 1} of {name}" if self.header.is_enhanced else name


def planes_of(headers: list[Header], *, assume_hu: bool = False) -> list[ImagePlane]:
    """The image planes of one series, in the order of the headers.

    Args:
        assume_hu: Whether a missing rescale is left to be found from the values.

    Raises:
        InputError: An attribute is missing or malformed (AE-DICOM-006, -007), values are not HU
            (AE-DICOM-008), the pixels are not those of a CT image (AE-DICOM-009), or several stacks share the
            series (AE-DICOM-024).
    """
    enhanced = [header for header in headers if header.is_enhanced]
    if enhanced and len(headers) > 1:
        raise _several_objects(len(headers) - len(enhanced), enhanced)
    if enhanced:
        return _enhanced_planes(enhanced[0], assume_hu)
    return [_classic_plane(header, assume_hu) for header in headers]


def _several_objects(classic: int, enhanced: list[Header]) -> AutosamEdgeError:
    """The error for a series that is more than one multi-frame object."""
    count = len(enhanced)
    if classic:
        return SEVERAL_STACKS(
            f"the series holds single-frame images ({classic}) and multi-frame objects ({count}), "
            "expected one of the two.",
            remedy="If one is a copy of the other, remove one of them; otherwise export each as one series.",
        )
    concatenations = {header.text("ConcatenationUID") for header in enhanced}
    if len(concatenations) == 1 and "" not in concatenations:
        return SEVERAL_STACKS(
            f"the series is a concatenation of {count} objects, expected one object.", remedy=_ONE_OBJECT
        )
    return SEVERAL_STACKS(f"the series holds {count} multi-frame objects, expected one.")


def _classic_plane(header: Header, assume_hu: bool) -> ImagePlane:
    """The plane of a CT Image, whose data set holds all attributes itself."""
    form = pixel_format(header)
    if header.frames != 1:
        raise PIXEL_FORMAT_INVALID(
            f"{header.name} is a CT Image with {header.frames} frames, expected 1.", remedy=_RE_EXPORT
        )
    traits = {keyword: header.raw(keyword) for keyword in TRAITS}
    return _plane(header, 0, form, lambda _: [header.dataset], traits, assume_hu)


def _enhanced_planes(header: Header, assume_hu: bool) -> list[ImagePlane]:
    """Planes of an Enhanced CT object; each macro is stored per frame or shared (PS3.3 C.7.6.16.1.1)."""
    dataset, name, form = header.dataset, header.name, pixel_format(header)
    in_parts = header.text("ConcatenationUID") or header.integer("InConcatenationNumber") is not None
    if (header.integer("InConcatenationTotalNumber") or (2 if in_parts else 1)) > 1:
        # The number of parts is optional (PS3.3 C.7.6.16.1.1); without it others may be missing.
        raise SEVERAL_STACKS(
            f"{name} is one part of a concatenation, expected the whole object.", remedy=_ONE_OBJECT
        )
    per_frame = items_of(dataset, "PerFrameFunctionalGroupsSequence", name)
    shared = items_of(dataset, "SharedFunctionalGroupsSequence", name)
    count = header.integer("NumberOfFrames")
    if not per_frame or count != len(per_frame):
        raise missing("PerFrameFunctionalGroupsSequence with one item per frame", name)

    def macro(group: Dataset, keyword: str) -> list[Dataset]:
        return [item for scope in [group, *shared] for item in items_of(scope, keyword, name)][:1]

    stacks = {
        text_of(item, "StackID", name) for group in per_frame for item in macro(group, "FrameContentSequence")
    } - {""}  # empty in some frames; whether these belong to the stack is seen from their positions
    if len(stacks) > 1:
        raise SEVERAL_STACKS(f"{name} holds {len(stacks)} stacks, expected 1.")
    types = {
        raw_of(item, "FrameType") for group in per_frame for item in macro(group, _FRAME_TRAITS["FrameType"])
    }
    for kind in filter(None, map(kind_of_type, types)):
        raise NOT_HU(f"a frame of {name} is a {kind}.", remedy="Give the series of conventional CT images.")
    return [
        _plane(
            header,
            index,
            form,
            partial(macro, group),
            {
                keyword: raw_of(item, keyword)
                for keyword, sequence in _FRAME_TRAITS.items()
                for item in macro(group, sequence)
            },
            assume_hu,
        )
        for index, group in enumerate(per_frame)
    ]


def _plane(
    header: Header,
    index: int,
    form: PixelFormat,
    macro: Callable[[str], list[Dataset]],
    traits: dict[str, str],
    assume_hu: bool,
) -> ImagePlane:
    """Build a plane.

    Args:
        macro: Function that gives the data set that holds a macro, by the keyword of the macro's sequence; an
            empty list means that it is absent.
    """
    position, orientation, measures = map(
        macro, ("PlanePositionSequence", "PlaneOrientationSequence", "PixelMeasuresSequence")
    )
    rescale = _rescale(header, macro("PixelValueTransformationSequence"), assume_hu)

    def required(where: list[Dataset], keyword: str, count: int) -> tuple[float, ...]:
        values = numbers(where[0], keyword, count, header.name) if where else None
        if values is None:
            raise missing(keyword, header.name)
        return values

    for keyword in ("SOPInstanceUID", "SeriesInstanceUID", "StudyInstanceUID"):
        if not header.text(keyword):
            raise missing(keyword, header.name)
    rows, columns = (int(required([header.dataset], keyword, 1)[0]) for keyword in ("Rows", "Columns"))
    if not (0 < rows <= _MAX_SIDE and 0 < columns <= _MAX_SIDE):
        raise DICOM_TOO_LARGE(
            f"{header.name} has {rows} x {columns} pixels, expected at most {_MAX_SIDE} a side."
        )
    return ImagePlane(
        header,
        index,
        required(position, "ImagePositionPatient", 3),
        required(orientation, "ImageOrientationPatient", 6),
        required(measures, "PixelSpacing", 2),
        (rows, columns),
        form,
        rescale,
        traits,
    )


def _rescale(header: Header, transformation: list[Dataset], assume_hu: bool) -> Rescale:
    """Slope and intercept to HU (PS3.3 C.8.2.1.1.5 and C.11.1)."""
    where = transformation[0] if transformation else header.dataset
    slope = numbers(where, "RescaleSlope", 1, header.name)
    intercept = numbers(where, "RescaleIntercept", 1, header.name)
    if items_of(header.dataset, "ModalityLUTSequence", header.name):
        raise NOT_HU(f"{header.name} has a Modality LUT, expected a linear rescale to HU.")
    if (slope is None or intercept is None) and not assume_hu:
        raise RESCALE_MISSING(
            f"{header.name} has no RescaleSlope or RescaleIntercept, so its values are not known to be HU."
        )
    if slope is not None and slope[0] == 0:
        raise ATTRIBUTE_INVALID(f"RescaleSlope of {header.name} is 0, expected another number.")
    # For CT an absent type means HU (PS3.3 C.11.1.1.2).
    kind = (text_of(where, "RescaleType", header.name) or "HU").upper()
    kind = "HU" if kind.startswith("HOUNSFIELD") else kind
    if kind not in ("HU", *UNUSUAL_TYPES):
        raise NOT_HU(
            f"RescaleType of {header.name} is not HU: it may be a spectral map such as density.",
            remedy="Give the series of conventional CT images in Hounsfield units.",
        )
    return Rescale(
        1.0 if slope is None else slope[0],
        0.0 if intercept is None else intercept[0],
        kind,
        assumed=slope is None or intercept is None,
    )
