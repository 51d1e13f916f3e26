"""The preview as a DICOM Secondary Capture (PS3.3 A.8.1), for a PACS that shows no segmentation."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import SecondaryCaptureImageStorage

from autosam_edge.dicom.derived_object import new_object, save
from autosam_edge.dicom.header import silenced
from autosam_edge.dicom.patient_study import code_item
from autosam_edge.dicom.source import burned_in_annotation, copy_lossy_compression, identifier, read_headers
from autosam_edge.volume import RESEARCH_USE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    import numpy.typing as npt

    from autosam_edge.volume import Provenance

_CODE_STRING = re.compile("[A-Z0-9_ ]{1,16}")  # CS, PS3.5 6.2
_SERIES_NUMBER = 9004  # far from what a scanner counts up to, and equal in every run
_SEGMENTATION = ("113076", "DCM", "Segmentation")
_SOURCE_IMAGE = ("121322", "DCM", "Source image for image processing operation")


def write_secondary_capture(
    pixels: npt.NDArray[np.uint8],
    made_by: Provenance,
    source_files: Sequence[Path],
    path: Path,
    *,
    abdominal: bool = True,
    pseudonymize: bool = False,
) -> None:
    """Write a picture as one uncompressed color image, which every PACS can show.

    Args:
        pixels: (H, W, 3) uint8, RGB. Nothing that was drawn into it identifies the patient; pixels of the
            source may, where a source says so.
        abdominal: Whether the organs are those of the abdomen, see
            :func:`autosam_edge.labels.are_abdominal`.
        pseudonymize: Whether a pseudonym stands in the place of the patient.

    Raises:
        OutputError: The source files can no longer be read, or lack identifiers (AE-OUTPUT-006).
        OSError: The file cannot be written.

    Source:
        DICOM PS3.3 A.8.1 (Secondary Capture Image), C.8.6 (SC Equipment), C.7.6.1 (General Image), C.7.6.3
        (Image Pixel).
    """
    with silenced():
        sources = read_headers(source_files, placed=False)
        dataset = new_object(
            SecondaryCaptureImageStorage,
            sources[0],
            made_by,
            modality="OT",
            series_number=_SERIES_NUMBER,
            series_description="autosam-edge preview - Research use only",
            pseudonymize=pseudonymize,
        )
        dataset.ConversionType = "WSD"
        dataset.ImageType = ["DERIVED", "SECONDARY"]
        body_part = "" if pseudonymize else identifier(sources[0], "BodyPartExamined")  # a text of the source
        if _CODE_STRING.fullmatch(body_part):
            dataset.BodyPartExamined = body_part
        elif abdominal:
            dataset.BodyPartExamined = "ABDOMEN"
        dataset.PatientOrientation = ""  # several sections, each with its own letters
        # The picture shows pixels of the source, with all that is burned into them.
        dataset.BurnedInAnnotation = "YES" if any(map(burned_in_annotation, sources)) else "NO"
        dataset.RecognizableVisualFeatures = "NO"
        dataset.LossyImageCompression = "00"
        copy_lossy_compression(sources, dataset)
        dataset.ImageComments = RESEARCH_USE
        dataset.DerivationDescription = "Sections of the source series with the outlines of the organs found"
        dataset.DerivationCodeSequence = [code_item(*_SEGMENTATION)]
        dataset.SourceImageSequence = [_source_image(source) for source in sources]
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 3, "RGB"
        dataset.PlanarConfiguration = 0
        dataset.Rows, dataset.Columns = pixels.shape[:2]
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 8, 8, 7
        dataset.PixelRepresentation = 0
        dataset.add_new("PixelData", "OB", pixels.tobytes() + b"\0" * (pixels.size % 2))
        save(dataset, sources[0], path, pseudonymize=pseudonymize)


def _source_image(source: Dataset) -> Dataset:
    """Reference to one image of the series (PS3.3 table 10-3)."""
    item = Dataset()
    item.ReferencedSOPClassUID = identifier(source, "SOPClassUID")
    item.ReferencedSOPInstanceUID = identifier(source, "SOPInstanceUID")
    item.PurposeOfReferenceCodeSequence = [code_item(*_SOURCE_IMAGE)]
    return item
