"""DICOM Segmentation out (PS3.3 A.51): binary segments on the frames of the series that was segmented.

highdicom builds the object from stand-ins for the source images: they hold the identifiers of the source and
the geometry of the grid that the labels lie on, and nothing else. So a wrong spacing, a damaged sequence or a
free text of the source cannot reach the object. What the standard wants to know of the patient and the study
is put in afterwards by :mod:`autosam_edge.dicom.patient_study`.

The same labels of the same series by the same model give the same bytes. A UID identifies one object forever,
so a UID that is derived from the content must not belong to two different objects: dates are those of the
source, and there is no instance creation time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import highdicom as hd
import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian

from autosam_edge.dicom.derived_object import derived_uid, equipment
from autosam_edge.dicom.header import silenced
from autosam_edge.dicom.patient_study import add_patient_and_study, content_date_and_time, patient_and_study
from autosam_edge.dicom.segment_texts import algorithm, image_comments, segment_description
from autosam_edge.dicom.segmentation_frames import layout_changed, organ_slices, save_with_frames, sketch
from autosam_edge.dicom.source import identifier, read_headers, referenced_series, source_changed
from autosam_edge.dicom.stand_ins import stand_ins
from autosam_edge.error_codes import SEG_NOT_POSSIBLE
from autosam_edge.labels import are_abdominal
from autosam_edge.output_formats import WITHOUT_DICOM
from autosam_edge.volume import RESEARCH_USE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from autosam_edge.geometry import FloatMatrix
    from autosam_edge.volume import Label, Segmentation

Kind = Literal["BINARY", "LABELMAP"]
# Far from what a scanner counts up to, and equal in every run.
_SERIES_NUMBERS: dict[Kind, int] = {"BINARY": 9001, "LABELMAP": 9002}


@dataclass(frozen=True, eq=False)
class SegContent:
    """What a DICOM SEG is made from.

    Args:
        stand_ins: Stand-ins for the source images, in the order of the source frames.
        order: (frames,) the slice of the labels that each source frame shows.
        present: (organs, frames) bool, whether the organ is on the frame.
        referenced_series: Items of Referenced Series Sequence.
        patient: What is said of patient and study.
        content_date: Date and time of the content, YYYYMMDD and HHMMSS.
        identity: SHA-256 of all that the object is made from, hexadecimal.
    """

    segmentation: Segmentation
    kind: Kind
    stand_ins: list[Dataset]
    order: npt.NDArray[np.intp]
    organs: list[Label]
    present: npt.NDArray[np.bool_]
    referenced_series: list[Dataset]
    patient: Dataset
    content_date: tuple[str, str]
    series_uid: str
    identity: str


def write_dicom_seg(
    segmentation: Segmentation, source_files: Sequence[Path], path: Path, *, pseudonymize: bool = False
) -> None:
    """Write one DICOM SEG with one binary segment for each organ that is present.

    Args:
        segmentation: Labels, (D, H, W); slice d lies where file d lies (or the matching frame of one
            multi-frame file).
        source_files: The DICOM files that were segmented, in slice order; one for an Enhanced multi-frame
            object.
        pseudonymize: Whether a pseudonym stands in place of name and ID of the patient, see
            :func:`~autosam_edge.dicom.patient_study.patient_and_study`.

    Raises:
        OutputError: No organ is present (AE-OUTPUT-005), or the source files no longer fit the labels
            (AE-OUTPUT-006).
        OSError: The file cannot be written.

    Source:
        DICOM PS3.3 C.8.20 (Segmentation).
    """
    with silenced():
        content = seg_content(segmentation, source_files, "BINARY", pseudonymize=pseudonymize)
        numbers = list(range(1, len(content.organs) + 1))
        dataset = build(content, sketch(content.present, numbers), numbers)
        with path.open("wb") as stream:
            save_with_frames(
                dataset,
                content.stand_ins,
                segmentation.labels,
                content.order,
                [label.value for label in content.organs],
                content.present,
                stream=stream,
            )


def seg_content(
    segmentation: Segmentation, source_files: Sequence[Path], kind: Kind, *, pseudonymize: bool
) -> SegContent:
    """Read the source headers again and put together what a DICOM SEG is made from.

    Args:
        pseudonymize: Whether a pseudonym stands in place of name and ID of the patient.

    Raises:
        OutputError: See :func:`write_dicom_seg`.
    """
    sources = read_headers(source_files, placed=True)
    order = _frame_order(segmentation, sources)
    present = organ_slices(segmentation.labels, order, [label.value for label in segmentation.table])
    found = np.flatnonzero(present.any(axis=1))
    if not len(found):
        raise SEG_NOT_POSSIBLE(
            "no organ was found, and a DICOM SEG needs at least one segment.",
            remedy=f"Look at preview.png and at the warnings; {WITHOUT_DICOM}.",
        )
    return SegContent(
        segmentation=segmentation,
        kind=kind,
        stand_ins=stand_ins(sources, segmentation.grid, order),
        order=order,
        organs=[segmentation.table[index] for index in found],
        present=present[found],
        referenced_series=referenced_series(sources),
        patient=patient_and_study(sources[0], pseudonymize=pseudonymize),
        content_date=content_date_and_time(sources[0], pseudonymize=pseudonymize),
        series_uid=derived_uid(
            "series",
            identifier(sources[0], "SeriesInstanceUID"),
            segmentation.provenance.version,
            segmentation.provenance.model_sha256,
            kind,
            "pseudonym" if pseudonymize else "",
        ),
        identity=_identity(segmentation, sources, kind, pseudonymize),
    )


def _frame_order(segmentation: Segmentation, sources: Sequence[Dataset]) -> npt.NDArray[np.intp]:
    """For each source frame the slice of the labels that lies there.

    Raises:
        OutputError: A slice that is not filled has no frame or several, or a frame lies elsewhere
            (AE-OUTPUT-006).
    """
    grid = segmentation.grid
    depth, height, width = grid.shape
    if any(
        (identifier(source, "Rows"), identifier(source, "Columns")) != (str(height), str(width))
        for source in sources
    ):
        raise source_changed("the source files have other rows or columns than the labels")
    try:
        positions = _positions(sources)
    except Exception as error:  # pydicom raises many types for a damaged element; its text may quote a value
        raise source_changed(f"a source file has no usable position ({type(error).__name__})") from None
    shown = np.setdiff1d(np.arange(depth), segmentation.filled)
    if len(positions) != len(shown):
        raise source_changed(f"the source has {len(positions)} frames, expected {len(shown)}")
    corners = np.column_stack([positions, np.ones(len(positions))]).T
    voxel = np.linalg.solve(grid.affine, corners)[:3]  # (3, frames): d, h, w of each frame's corner
    order: npt.NDArray[np.intp] = np.rint(voxel[0]).astype(np.intp)
    if (
        not np.array_equal(np.sort(order), shown)
        or np.abs(voxel - np.stack([order, 0 * order, 0 * order])).max() > 0.25
    ):
        raise source_changed("the source files lie elsewhere than the slices of the labels")
    return order


def _positions(sources: Sequence[Dataset]) -> FloatMatrix:
    """Image Position (Patient) of the files, or of the frames of one Enhanced object, (frames, 3), mm."""
    holders = sources
    if "PerFrameFunctionalGroupsSequence" in sources[0]:  # PS3.3 C.7.6.16.2.3
        frames = sources[0].PerFrameFunctionalGroupsSequence
        holders = [frame.PlanePositionSequence[0] for frame in frames]
    positions = [[float(value) for value in holder.ImagePositionPatient] for holder in holders]
    return np.array(positions, dtype=np.float64)


def _identity(segmentation: Segmentation, sources: Sequence[Dataset], kind: Kind, pseudonymize: bool) -> str:
    """SHA-256 of all that the object is made from, hexadecimal."""
    table = [
        (label.value, label.name, label.snomed_code, label.snomed_meaning, label.laterality, label.color)
        for label in segmentation.table
    ]
    described = [
        [identifier(source, "SeriesInstanceUID") for source in sources],
        [identifier(source, "SOPInstanceUID") for source in sources],
        segmentation.provenance.as_dict(),
        [warning.as_dict() for warning in segmentation.warnings],
        table,
        segmentation.grid.affine.tolist(),
        kind,
        pseudonymize,
    ]
    digest = hashlib.sha256(json.dumps(described, sort_keys=True).encode())
    for plane in segmentation.labels:
        digest.update(np.ascontiguousarray(plane).data)
    return digest.hexdigest()


def build(content: SegContent, frames: npt.NDArray[np.uint8], numbers: Sequence[int]) -> hd.seg.Segmentation:
    """Build the object with highdicom.

    Args:
        frames: (frames, rows, columns) uint8 segment numbers, 0 for none; the matrix may be a sketch.
        numbers: Segment Number of each organ, ascending.

    Raises:
        AutosamEdgeError: The installed highdicom lays the object out differently (AE-INTERNAL-001).
    """
    segmentation = content.segmentation
    device, found_by = equipment(segmentation.provenance), algorithm(segmentation.provenance)
    for stand_in in content.stand_ins:  # highdicom wants the matrix of the frames in them
        stand_in.Rows, stand_in.Columns = frames.shape[1:]
    date, time = content.content_date
    organs = "Abdominal organs" if are_abdominal(segmentation.table) else "Organs"
    dataset = hd.seg.Segmentation(
        source_images=content.stand_ins,
        pixel_array=frames,
        segmentation_type=content.kind,
        segment_descriptions=[
            segment_description(
                label, number, found_by, [it for it in segmentation.warnings if it.organ == label.name]
            )
            for number, label in zip(numbers, content.organs, strict=True)
        ],
        series_instance_uid=content.series_uid,
        series_number=_SERIES_NUMBERS[content.kind],
        sop_instance_uid=derived_uid("instance", content.identity),
        instance_number=1,
        manufacturer=device.Manufacturer,
        manufacturer_model_name=device.ManufacturerModelName,
        software_versions=device.SoftwareVersions,
        device_serial_number=device.DeviceSerialNumber,
        content_label="ORGANS",
        content_description=RESEARCH_USE.split(";")[0],
        series_description=f"{organs} (AI) - Research use only",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        omit_empty_frames=True,
        content_date=date,
        content_time=time,
        specific_character_set=None,
    )
    with contextlib.suppress(AttributeError):  # highdicom's own name for its index of the frames
        dataset._db_con.close()  # Python 3.13 warns of a database that is left open
    if "PerFrameFunctionalGroupsSequence" not in dataset or "PixelData" not in dataset:
        raise layout_changed("the frames")
    dataset.ImageComments = image_comments(RESEARCH_USE, segmentation.warnings)
    dataset.ReferencedSeriesSequence = content.referenced_series
    _, dataset.Rows, dataset.Columns = segmentation.grid.shape
    # dcmjs up to 0.28 takes the items of this sequence for the source images of the frames, one after the
    # other, although only the items of the frames themselves say which image a frame belongs to.
    del dataset.SourceImageSequence
    _fix_what_varies(dataset, content.identity)
    add_patient_and_study(dataset, content.patient)
    return dataset


def _fix_what_varies(dataset: Dataset, identity: str) -> None:
    """Replace what highdicom draws at random or takes from the clock."""
    organization = derived_uid("dimensions", identity)
    for item in (*dataset.DimensionOrganizationSequence, *dataset.DimensionIndexSequence):
        item.DimensionOrganizationUID = organization
    for keyword in ("InstanceCreationDate", "InstanceCreationTime"):
        if keyword in dataset:
            delattr(dataset, keyword)
    for item in dataset.get("ContributingEquipmentSequence", ()):
        if "ContributionDateTime" in item:
            del item.ContributionDateTime
