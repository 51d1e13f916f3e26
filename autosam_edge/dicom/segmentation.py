"""DICOM Segmentation out (PS3.3 A.51): binary segments on the frames of the series that was segmented.

The Patient and Study modules are copied from the source, because the standard asks for it (the object belongs
to that study): the file holds whatever identity the source held, and nothing more. Everything else that is
written here is free of patient data.

The same labels of the same series by the same model give the same bytes. A UID identifies one object forever,
so a UID that is derived from the content must not belong to two different objects: dates are those of the
source, and there is no instance creation time.
"""

from __future__ import annotations

import hashlib
import json
import logging
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

import highdicom as hd
import numpy as np
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian
from pydicom.valuerep import CUSTOMIZABLE_CHARSET_VR

from autosam_edge.dicom.header import silenced
from autosam_edge.dicom.segmentation_frames import organ_slices, save_with_frames, sketch
from autosam_edge.dicom.source import headers_not_sound, missing_identifiers, read_headers, source_changed
from autosam_edge.error_codes import SEG_NOT_POSSIBLE
from autosam_edge.errors import AutosamEdgeError
from autosam_edge.output_formats import WITHOUT_SEG
from autosam_edge.volume import RESEARCH_USE

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt
    from pydicom.dataelem import DataElement
    from pydicom.tag import BaseTag

    from autosam_edge.geometry import FloatMatrix
    from autosam_edge.volume import Label, Provenance, Segmentation

# The code that dcmqi, 3D Slicer, TotalSegmentator and the Imaging Data Commons write. CID 7150 now also lists
# 91723000 under that meaning.
_CATEGORY = Code("123037004", "SCT", "Anatomical Structure")
_SIDES = {"left": Code("7771000", "SCT", "Left"), "right": Code("24028007", "SCT", "Right")}
_SERIES_NUMBER = 9001  # far from what a scanner counts up to, and equal in every run
_ALGORITHM_PARAMETERS = ("model_sha256", "engine", "engine_version", "precision", "parameters")
_TEXT = CUSTOMIZABLE_CHARSET_VR | {"AS", "CS", "DA", "TM"}
# highdicom refuses a sex of X, a time with colons and a name of one part.
_JUDGED = ("PatientName", "PatientSex", "PatientBirthDate", "StudyDate", "StudyTime")
_NEVER_CREATED = (
    "19700101",
    "000000",
)  # Content Date is type 1, yet a de-identified source may hold no date at all


def write_dicom_seg(segmentation: Segmentation, source_files: Sequence[Path], path: Path) -> None:
    """Write one DICOM SEG with one binary segment for each organ that is present.

    Args:
        segmentation: Labels, (D, H, W); slice d lies where file d lies (or the matching frame of one
            multi-frame file).
        source_files: The DICOM files that were segmented, in slice order; one for an Enhanced multi-frame
            object.
        path: File to write.

    Raises:
        OutputError: No organ is present (AE-OUTPUT-005), or the source files no longer fit the labels
            (AE-OUTPUT-006).
        OSError: The file cannot be written.

    Source:
        DICOM PS3.3 C.8.20 (Segmentation), C.10.10.1 (CIELab values), PS3.16 CID 7150, 7151, 7162, 244.
    """
    with silenced(), _highdicom_silenced():
        sources = read_headers(source_files)
        order = _frame_order(segmentation, sources)
        present = organ_slices(segmentation.labels, order, [label.value for label in segmentation.table])
        found = np.flatnonzero(present.any(axis=1))
        organs = [segmentation.table[index] for index in found]
        if not organs:
            raise SEG_NOT_POSSIBLE(
                "no organ was found, and a DICOM SEG needs at least one segment.",
                remedy=f"Look at preview.png and at the warnings; {WITHOUT_SEG}.",
            )
        identity = _identity(segmentation, sources)
        try:
            for source in sources:  # highdicom wants the matrix of the sketch in them
                source.Rows, source.Columns = 1, len(organs)
            dataset = _build(segmentation, sources, sketch(present[found]), organs, identity)
            _, dataset.Rows, dataset.Columns = segmentation.grid.shape
            _fix_what_varies(dataset, identity)
            with path.open("wb") as stream:
                values = [label.value for label in organs]
                save_with_frames(
                    dataset, sources, segmentation.labels, order, values, present[found], stream=stream
                )
        except AutosamEdgeError:
            raise
        except (AttributeError, LookupError, NotImplementedError, TypeError, ValueError) as error:
            # The reason may quote a tag of the patient, so neither its text nor its chain is passed on.
            raise _not_allowed(sources, error) from None


@contextmanager
def _highdicom_silenced() -> Iterator[None]:
    """Suppress highdicom's log records: they name the instances of the source."""
    log = logging.getLogger("highdicom")
    before = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(before)


def _not_allowed(sources: Sequence[Dataset], error: Exception) -> AutosamEdgeError:
    """The error for headers from which highdicom builds no object; missing identifiers are named."""
    missing = missing_identifiers(sources)
    what = (
        f"lack {missing}, which a DICOM SEG needs"
        if missing
        else f"do not allow a DICOM SEG ({type(error).__name__})"
    )
    return headers_not_sound(what)


def _frame_order(segmentation: Segmentation, sources: Sequence[Dataset]) -> npt.NDArray[np.intp]:
    """For each source frame the slice of the labels that lies there.

    Raises:
        OutputError: A slice that is not filled has no frame or several, or a frame lies elsewhere
            (AE-OUTPUT-006).
    """
    grid = segmentation.grid
    depth, height, width = grid.shape
    if any(
        (int(source.get("Rows", 0)), int(source.get("Columns", 0))) != (height, width) for source in sources
    ):
        raise source_changed("the source files have other rows or columns than the labels")
    try:
        positions = (
            _multi_frame_positions(sources[0])
            if "PerFrameFunctionalGroupsSequence" in sources[0]
            else _positions(sources)
        )
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise source_changed(f"a source file has no usable position ({type(error).__name__})") from None
    shown = np.setdiff1d(np.arange(depth), segmentation.filled)
    if len(positions) != len(shown):
        raise source_changed(f"the source has {len(positions)} frames, expected {len(shown)}")
    voxel = np.linalg.solve(grid.affine, np.column_stack([positions, np.ones(len(positions))]).T)[
        :3
    ]  # (3, frames): d, h, w of each frame's corner
    order: npt.NDArray[np.intp] = np.rint(voxel[0]).astype(np.intp)
    if (
        not np.array_equal(np.sort(order), shown)
        or np.abs(voxel - np.stack([order, 0 * order, 0 * order])).max() > 0.25
    ):
        raise source_changed("the source files lie elsewhere than the slices of the labels")
    return order


def _positions(sources: Sequence[Dataset]) -> FloatMatrix:
    """Image Position (Patient) of single-frame files, (frames, 3), mm."""
    return np.array(
        [[float(value) for value in source.ImagePositionPatient] for source in sources], dtype=np.float64
    )


def _multi_frame_positions(source: Dataset) -> FloatMatrix:
    """Image Position (Patient) of the frames of one Enhanced object (PS3.3 C.7.6.16.2.3), (frames, 3), mm."""
    frames = source.PerFrameFunctionalGroupsSequence
    return np.array(
        [[float(value) for value in frame.PlanePositionSequence[0].ImagePositionPatient] for frame in frames],
        dtype=np.float64,
    )


def _identity(segmentation: Segmentation, sources: Sequence[Dataset]) -> str:
    """SHA-256 of series, instances, provenance, label table and labels, hexadecimal."""
    table = [
        (label.value, label.name, label.snomed_code, label.snomed_meaning, label.laterality, label.color)
        for label in segmentation.table
    ]
    digest = hashlib.sha256()
    series = [
        str(sources[0].get("SeriesInstanceUID", "")),
        [str(source.get("SOPInstanceUID", "")) for source in sources],
    ]
    digest.update(
        json.dumps(
            [series, segmentation.provenance.as_dict(), table, segmentation.grid.affine.tolist()],
            sort_keys=True,
        ).encode()
    )
    for plane in segmentation.labels:
        digest.update(np.ascontiguousarray(plane).data)
    return digest.hexdigest()


def _uid(*parts: str) -> hd.UID:
    """A UID under 2.25 from the SHA-256 of its parts: a UUID of version 8 (RFC 9562, PS3.5 B.2)."""
    value = int.from_bytes(hashlib.sha256("\n".join(parts).encode()).digest()[:16], "big")
    value = value & ~(0xF << 76) | (8 << 76)
    value = value & ~(0x3 << 62) | (2 << 62)
    return hd.UID(f"2.25.{value}")


def _texts_as_stored(source: Dataset) -> dict[BaseTag, DataElement | RawDataElement]:
    """The texts of a source in the bytes of its file.

    The copy has to be literal, and a text that is decoded and encoded again is that only where pydicom knows
    the character set and the text keeps to it.
    """
    texts: dict[BaseTag, DataElement | RawDataElement] = {}
    for tag in source.keys():  # noqa: SIM118 - a data set yields its elements, decoded
        element = source.get_item(tag)
        vr = element.VR or (
            dictionary_VR(tag) if dictionary_has_tag(tag) else "UN"
        )  # Implicit VR has none in the file
        if vr in _TEXT:
            if isinstance(element, RawDataElement):
                value = element.value or b""
                element = element._replace(VR=vr, value=value + b" " * (len(value) % 2))
            texts[tag] = element
    return texts


def _describe(
    label: Label, number: int, algorithm: hd.AlgorithmIdentificationSequence
) -> hd.seg.SegmentDescription:
    """The Segment Sequence item of one organ."""
    item = hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=label.title,
        segmented_property_category=_CATEGORY,
        segmented_property_type=Code(label.snomed_code, "SCT", label.snomed_meaning),
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm,
        display_color=hd.color.CIELabColor.from_rgb(*label.color),
    )
    item.SegmentDescription = label.name
    if label.laterality:
        item.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [
            hd.sr.CodedConcept.from_code(_SIDES[label.laterality])
        ]
    return item


def _algorithm(made_by: Provenance, version: str) -> hd.AlgorithmIdentificationSequence:
    """The Segmentation Algorithm Identification Sequence, the same for every organ."""
    return hd.AlgorithmIdentificationSequence(
        name=f"autosam-edge {made_by.model}".strip()[:64],
        family=codes.cid7162.ArtificialIntelligence,
        version=version[:64],
        source="autosam-edge",
        parameters={
            key: str(value)
            for key, value in made_by.as_dict().items()
            if key in _ALGORITHM_PARAMETERS and value
        },
    )


def _build(
    segmentation: Segmentation,
    sources: Sequence[Dataset],
    frames: npt.NDArray[np.uint8],
    organs: Sequence[Label],
    identity: str,
) -> hd.seg.Segmentation:
    """Build the object with highdicom, segments numbered from 1.

    Args:
        segmentation: Labels and provenance.
        sources: Headers of the series, in the order of the source frames.
        frames: (frames, H, W) uint8 segment numbers.
        organs: Labels of the segments, segment 1 first.
        identity: Hash from which the UIDs are derived.
    """
    made_by = segmentation.provenance
    version = made_by.version or "unknown"
    algorithm = _algorithm(made_by, version)
    first = sources[0]
    texts = _texts_as_stored(first)
    date, time = _content_date(first)
    for keyword in _JUDGED:
        first.add_new(keyword, dictionary_VR(keyword), "")
    dataset = hd.seg.Segmentation(
        source_images=sources,
        pixel_array=frames,
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[
            _describe(label, number, algorithm) for number, label in enumerate(organs, start=1)
        ],
        series_instance_uid=_uid("series", str(first.SeriesInstanceUID), version, made_by.model_sha256),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=_uid("instance", identity),
        instance_number=1,
        manufacturer="autosam-edge",
        manufacturer_model_name=(made_by.model or "autosam-edge")[:64],
        software_versions=version[:64],
        # There is no hardware to number: the weights are what made this, so the serial number is theirs.
        device_serial_number=made_by.model_sha256[:16] or "unknown",
        content_label="ORGANS",
        content_description=RESEARCH_USE.split(";")[0],
        series_description="Abdominal organs (AI) - Research use only",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        omit_empty_frames=True,
        content_date=date,
        content_time=time,
        # highdicom refuses names that it does not know, and the empty first one of Japanese and Korean scans.
        specific_character_set=None,
    )
    for tag, text in texts.items():
        # highdicom copies elements of the patient and study as objects.
        if tag in dataset and dataset.get_item(tag) is first.get_item(tag):
            dataset[tag] = text
    if "SpecificCharacterSet" in first:  # kept as it is: it is the encoding of the copied texts
        dataset["SpecificCharacterSet"] = first["SpecificCharacterSet"]
    return dataset


def _content_date(source: Dataset) -> tuple[str, str]:
    """Content Date and Time of the source, or another date of it; see the module's text for the reason."""
    for prefix in ("Content", "Acquisition", "Series", "Study"):
        date, time = str(source.get(f"{prefix}Date") or ""), str(source.get(f"{prefix}Time") or "")
        if len(date) == 8 and _follows(date, "%Y%m%d"):
            whole, _, fraction = time.partition(".")
            sound = (
                len(whole) == 6
                and _follows(whole, "%H%M%S")
                and len(fraction) <= 6
                and (fraction.isdecimal() or whole == time)
            )
            return date, time if sound else "000000"
    return _NEVER_CREATED


def _follows(text: str, form: str) -> bool:
    """Whether a text is digits that name a date or time there is."""
    try:
        datetime.strptime(text, form)
    except ValueError:
        return False
    return text.isascii() and text.isdecimal()


def _fix_what_varies(dataset: Dataset, identity: str) -> None:
    """Replace what highdicom draws at random or takes from the clock."""
    organization = _uid("dimensions", identity)
    for item in (*dataset.DimensionOrganizationSequence, *dataset.DimensionIndexSequence):
        item.DimensionOrganizationUID = organization
    for keyword in ("InstanceCreationDate", "InstanceCreationTime"):
        if keyword in dataset:
            delattr(dataset, keyword)
    for item in dataset.get("ContributingEquipmentSequence", ()):
        if "ContributionDateTime" in item:
            del item.ContributionDateTime
