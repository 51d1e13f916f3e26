"""Volumes, HU and warnings as a DICOM structured report (PS3.3 A.35.13, PS3.16 TID 1500).

A report needs no viewer that knows segmentations: a PACS shows it as text, and research tools read the
numbers by their codes. Like every DICOM result it belongs to the patient's study.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, TypeAlias

import highdicom as hd
import numpy as np
import pydicom
from highdicom.sr import RelationshipTypeValues
from pydicom.dataset import Dataset
from pydicom.sr.coding import Code
from pydicom.uid import Comprehensive3DSRStorage

from autosam_edge.dicom.derived_object import derived_uid, new_object, save
from autosam_edge.dicom.header import silenced
from autosam_edge.dicom.segment_texts import CATEGORY, SIDES
from autosam_edge.dicom.segmentation_frames import organ_slices
from autosam_edge.dicom.source import identifier, read_headers, referenced_series
from autosam_edge.scan_warning import most_severe_first
from autosam_edge.volume import RESEARCH_USE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    import numpy.typing as npt

    from autosam_edge.measurements import OrganStatistics
    from autosam_edge.scan_warning import ScanWarning
    from autosam_edge.volume import Label, Provenance, Segmentation

    Reference: TypeAlias = hd.sr.ReferencedSegment | list[hd.sr.SourceImageForMeasurementGroup]

_SERIES_NUMBER = 9003  # far from what a scanner counts up to, and equal in every run
_LANGUAGE = Code("en-US", "RFC5646", "English (United States)")
_TITLE = Code("126000", "DCM", "Imaging Measurement Report")
_PROCEDURE = Code("25045-6", "LN", "CT unspecified body region")
_PROCEDURE_REPORTED = Code("121058", "DCM", "Procedure reported")
_MEASUREMENTS = Code("126010", "DCM", "Imaging Measurements")
_EVALUATIONS = Code("C0034375", "UMLS", "Qualitative Evaluations")
_COMMENT = Code("121106", "DCM", "Comment")
_DEVICE = Code("121007", "DCM", "Device")
_ARTIFICIAL_INTELLIGENCE = Code("123109", "DCM", "Artificial Intelligence")
_VOLUME = Code("118565006", "SCT", "Volume")
_MILLILITER = Code("mL", "UCUM", "milliliter")
_ATTENUATION = Code("112031", "DCM", "Attenuation Coefficient")
_HU = Code("[hnsf'U]", "UCUM", "Hounsfield unit")
_MEAN = Code("373098007", "SCT", "Mean")
_STANDARD_DEVIATION = Code("386136009", "SCT", "Standard Deviation")
_OF_A_SEG = ["SOPClassUID", "SOPInstanceUID", "SeriesInstanceUID", "SegmentSequence"]
_CUT = "The organ reaches the edge of the scan and may be cut off: its volume is a lower bound."


def write_dicom_sr(
    segmentation: Segmentation,
    statistics: Sequence[OrganStatistics],
    source_files: Sequence[Path],
    path: Path,
    *,
    seg: Path | None = None,
    pseudonymize: bool = False,
) -> None:
    """Write one Comprehensive 3D SR with a measurement group for each organ that is present.

    Args:
        statistics: One entry per organ of the table.
        source_files: The DICOM files that were segmented, in slice order; one for an Enhanced multi-frame
            object.
        seg: DICOM SEG of the same labels; each group refers to its segment. If None, it refers to the source
            images that show the organ.
        pseudonymize: Whether a pseudonym stands in the place of the patient.

    Raises:
        OutputError: The source files can no longer be read, or lack identifiers (AE-OUTPUT-006).
        OSError: The file cannot be written.

    Source:
        DICOM PS3.3 A.35.13 (Comprehensive 3D SR), C.17.2 (SR Document General), PS3.16 TID 1500, 1411, 1501,
        4019.
    """
    with silenced():
        sources = read_headers(source_files, placed=False)
        evidence = _evidence(sources)
        shown = _shown(segmentation)
        if seg is None:
            references = _source_images(shown, sources)
        else:
            header = pydicom.dcmread(seg, specific_tags=_OF_A_SEG)  # the frames are passed over
            references = _segments(shown, sources, header)
            evidence += _evidence([header])
        dataset = new_object(
            Comprehensive3DSRStorage,
            sources[0],
            segmentation.provenance,
            modality="SR",
            series_number=_SERIES_NUMBER,
            series_description="autosam-edge measurements - Research use only",
            pseudonymize=pseudonymize,
        )
        dataset.ReferencedPerformedProcedureStepSequence = []
        dataset.PerformedProcedureCodeSequence = []
        dataset.CompletionFlag, dataset.VerificationFlag = "COMPLETE", "UNVERIFIED"
        dataset.PreliminaryFlag = "PRELIMINARY"
        study = Dataset()
        study.StudyInstanceUID = identifier(sources[0], "StudyInstanceUID")
        study.ReferencedSeriesSequence = evidence
        dataset.CurrentRequestedProcedureEvidenceSequence = [study]
        for element in _report(
            segmentation, statistics, identifier(sources[0], "SeriesInstanceUID"), references
        ):
            dataset[element.tag] = element
        save(dataset, sources[0], path, pseudonymize=pseudonymize)


def _evidence(instances: Sequence[Dataset]) -> list[Dataset]:
    """References to instances, by their series (PS3.3 table C.17-3)."""
    items = referenced_series(instances)
    for item in items:
        item.ReferencedSOPSequence = item.ReferencedInstanceSequence
        del item.ReferencedInstanceSequence
    return items


def _shown(segmentation: Segmentation) -> dict[int, npt.NDArray[np.bool_]]:
    """On which images each organ is, by its label; a slice that was filled in has no image."""
    values = [label.value for label in segmentation.table]
    order = np.setdiff1d(np.arange(len(segmentation.labels)), segmentation.filled)
    return dict(zip(values, organ_slices(segmentation.labels, order, values), strict=True))


def _segments(
    shown: dict[int, npt.NDArray[np.bool_]], sources: Sequence[Dataset], header: Dataset
) -> dict[int, Reference]:
    """The segment of each organ of a SEG, which has one for each organ that is on an image."""
    found = [value for value, images in shown.items() if images.any()]
    segments = [item for item in header.SegmentSequence if item.SegmentNumber]  # 0 is a background
    return {
        value: hd.sr.ReferencedSegment(
            sop_class_uid=header.SOPClassUID,
            sop_instance_uid=header.SOPInstanceUID,
            segment_number=item.SegmentNumber,
            source_series=hd.sr.SourceSeriesForSegmentation(identifier(sources[0], "SeriesInstanceUID")),
        )
        for value, item in zip(found, segments, strict=True)
    }


def _source_images(
    shown: dict[int, npt.NDArray[np.bool_]], sources: Sequence[Dataset]
) -> dict[int, Reference]:
    """The images that show each organ; one file of many frames stands for all."""
    return {
        value: [
            hd.sr.SourceImageForMeasurementGroup(
                identifier(source, "SOPClassUID"), identifier(source, "SOPInstanceUID")
            )
            for index, source in enumerate(sources)
            if len(sources) == 1 or images[index]
        ]
        for value, images in shown.items()
    }


def _report(
    segmentation: Segmentation,
    statistics: Sequence[OrganStatistics],
    series_uid: str,
    references: dict[int, Reference],
) -> Dataset:
    """The root item: who made the report, a group for each organ, and what a reader must know."""
    root = hd.sr.ContainerContentItem(_TITLE, is_content_continuous=False, template_id="1500")
    root.ContentSequence = hd.sr.ContentSequence(
        [
            *hd.sr.LanguageOfContentItemAndDescendants(_LANGUAGE),
            *_observer(segmentation.provenance),
            hd.sr.CodeContentItem(_PROCEDURE_REPORTED, _PROCEDURE, RelationshipTypeValues.HAS_CONCEPT_MOD),
        ]
    )
    labels = {label.value: label for label in segmentation.table}
    groups = [
        item
        for organ in statistics
        if organ.voxels
        # An organ that is on filled slices alone has no segment.
        for item in _group(
            organ, labels[organ.label], segmentation, series_uid, references.get(organ.label, [])
        )
    ]
    if groups:
        root.ContentSequence.append(_container(_MEASUREMENTS, groups))
    remarks = [_text(remark) for remark in _remarks(segmentation, statistics)]
    root.ContentSequence.append(_container(_EVALUATIONS, remarks))
    return root


def _container(name: Code, items: Sequence[hd.sr.ContentItem]) -> hd.sr.ContainerContentItem:
    """A heading with the items below it."""
    container = hd.sr.ContainerContentItem(
        name, is_content_continuous=False, relationship_type=RelationshipTypeValues.CONTAINS
    )
    container.ContentSequence = hd.sr.ContentSequence(items)
    return container


def _text(remark: str) -> hd.sr.TextContentItem:
    """A sentence. It is in ASCII, as the character set of the object is that of the patient's name."""
    plain = remark.encode("ascii", "backslashreplace").decode("ascii")
    return hd.sr.TextContentItem(_COMMENT, plain, RelationshipTypeValues.CONTAINS)


def _observer(made_by: Provenance) -> hd.sr.ObservationContext:
    """The software and the model, as the device that observed (PS3.16 TID 1004)."""
    device = hd.sr.DeviceObserverIdentifyingAttributes(
        uid=derived_uid("device", made_by.version, made_by.model_sha256),
        name="autosam-edge",
        manufacturer_name="autosam-edge",
        model_name=made_by.model or "autosam-edge",
        serial_number=made_by.model_sha256[:16] or "unknown",
    )
    return hd.sr.ObservationContext(
        observer_device_context=hd.sr.ObserverContext(hd.sr.CodedConcept.from_code(_DEVICE), device)
    )


def _group(
    organ: OrganStatistics, label: Label, segmentation: Segmentation, series_uid: str, reference: Reference
) -> hd.sr.Template:
    """Measurements and warnings of one organ."""
    code = Code(label.snomed_code, "SCT", label.snomed_meaning)
    made_by = segmentation.provenance
    make: Callable[..., hd.sr.Template] = (
        partial(hd.sr.MeasurementsAndQualitativeEvaluations, source_images=reference)
        if isinstance(reference, list)
        else partial(hd.sr.VolumetricROIMeasurementsAndQualitativeEvaluations, referenced_segment=reference)
    )
    group = make(
        tracking_identifier=hd.sr.TrackingIdentifier(
            uid=derived_uid("organ", series_uid, label.name), identifier=label.title
        ),
        finding_category=CATEGORY,
        finding_type=code,
        finding_sites=[hd.sr.FindingSite(code, SIDES.get(label.laterality))],
        algorithm_id=hd.sr.AlgorithmIdentification(
            name=f"autosam-edge {made_by.model}".strip(),
            version=made_by.version or "unknown",
            family=_ARTIFICIAL_INTELLIGENCE,
            parameters=[
                f"model_sha256={made_by.model_sha256}",
                f"engine={made_by.engine} {made_by.precision}",
            ],
        ),
        measurements=list(_measurements(organ)),
    )
    group[0].ContinuityOfContent = "SEPARATE"  # else what shows it as text leaves the names of the values out
    remarks = [_CUT] if organ.touches_border else []
    remarks += [_sentence(w) for w in most_severe_first(segmentation.warnings) if w.organ == organ.name]
    group[0].ContentSequence.extend(_text(remark) for remark in remarks)
    return group


def _measurements(organ: OrganStatistics) -> Iterator[hd.sr.Measurement]:
    """Volume, and mean and SD of the HU, rounded as in the table of statistics."""
    yield hd.sr.Measurement(_VOLUME, round(organ.ml, 4), _MILLILITER)
    for derivation, value in ((_MEAN, organ.mean_hu), (_STANDARD_DEVIATION, organ.sd_hu)):
        if value is not None:
            yield hd.sr.Measurement(_ATTENUATION, round(value, 3), _HU, derivation=derivation)


def _remarks(segmentation: Segmentation, statistics: Sequence[OrganStatistics]) -> list[str]:
    """Intended use, warnings of the whole scan and of organs that are absent, and which organs are absent."""
    absent = {organ.name: organ.title for organ in statistics if not organ.voxels}
    of_the_scan = [
        _sentence(warning)
        for warning in most_severe_first(segmentation.warnings)
        if warning.organ is None or warning.organ in absent
    ]
    return [RESEARCH_USE, *of_the_scan, *([f"Not found: {', '.join(absent.values())}."] if absent else [])]


def _sentence(warning: ScanWarning) -> str:
    return f"{warning.severity} {warning.code}: {warning.message}"
