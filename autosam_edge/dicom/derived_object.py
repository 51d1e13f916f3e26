"""What the DICOM results share: their UIDs, whose they are, what made them, and the file.

The same content gives the same bytes: dates are those of the source, and the instance UID is made from all
else that is in the object.
"""

from __future__ import annotations

import hashlib
import io
from typing import TYPE_CHECKING

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

from autosam_edge.dicom.patient_study import add_patient_and_study, content_date_and_time, patient_and_study
from autosam_edge.dicom.source import identifier

if TYPE_CHECKING:
    from pathlib import Path

    from autosam_edge.volume import Provenance


def derived_uid(*parts: str) -> UID:
    """A UID under 2.25 from the SHA-256 of its parts, so the same parts always give the same UID.

    Args:
        parts: Texts that say what the UID names; two different objects must not share them.

    Source:
        PS3.5 B.2 (UIDs from a UUID), RFC 9562 (UUID of version 8).
    """
    value = int.from_bytes(hashlib.sha256("\n".join(parts).encode()).digest()[:16], "big")
    value = value & ~(0xF << 76) | (8 << 76)
    value = value & ~(0x3 << 62) | (2 << 62)
    return UID(f"2.25.{value}")


def equipment(made_by: Provenance) -> Dataset:
    """Attributes of the equipment, which is this software with its model (PS3.3 C.7.5.1)."""
    dataset = Dataset()
    dataset.Manufacturer = "autosam-edge"
    model, version = made_by.model or "autosam-edge", made_by.version or "unknown"
    # A backslash would separate two values.
    dataset.ManufacturerModelName = model.replace("\\", "/")[:64]
    dataset.SoftwareVersions = version.replace("\\", "/")[:64]
    # There is no hardware to number: the weights are what made this, so the serial number is theirs.
    dataset.DeviceSerialNumber = made_by.model_sha256[:16] or "unknown"
    return dataset


def new_object(
    sop_class: UID,
    source: Dataset,
    made_by: Provenance,
    *,
    modality: str,
    series_number: int,
    series_description: str,
    pseudonymize: bool,
) -> Dataset:
    """Attributes of series and equipment.

    Args:
        source: Header of one image of the series that was segmented.
        modality: Modality of the new series, such as ``SR``.
        series_description: Description of the new series, at most 64 characters.
        pseudonymize: Whether a pseudonym will stand in the place of the patient, in a series of its own.

    Returns:
        The object without its content; :func:`save` adds the patient, the study and the instance UID.

    Source:
        PS3.3 C.7.3.1 (General Series), C.12.1 (SOP Common).
    """
    dataset = equipment(made_by)
    dataset.SOPClassUID = sop_class
    dataset.Modality = modality
    dataset.SeriesInstanceUID = derived_uid(
        "series",
        sop_class,
        identifier(source, "SeriesInstanceUID"),
        made_by.version or "unknown",
        made_by.model_sha256,
        *(["pseudonym"] if pseudonymize else []),
    )
    dataset.SeriesNumber, dataset.InstanceNumber = series_number, 1
    dataset.SeriesDescription = series_description
    return dataset


def save(dataset: Dataset, source: Dataset, path: Path, *, pseudonymize: bool) -> None:
    """Write the object into the patient's study, under an instance UID that is made from all of its content.

    Args:
        dataset: Result of :func:`new_object`, with its content; its own texts are in ASCII.
        source: Header of one image of the series that was segmented.
        pseudonymize: Whether a pseudonym stands in the place of the patient.

    Raises:
        OSError: The file cannot be written.
    """
    dataset.ContentDate, dataset.ContentTime = content_date_and_time(source, pseudonymize=pseudonymize)
    add_patient_and_study(dataset, patient_and_study(source, pseudonymize=pseudonymize))
    if pseudonymize and dataset.get("BurnedInAnnotation") == "YES":
        # YES would speak for the pixels too (PS3.3 C.7.1.1), and so would the profile's code.
        dataset.PatientIdentityRemoved = "NO"
        del dataset.DeidentificationMethodCodeSequence
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    content = io.BytesIO()
    dataset.save_as(content)
    dataset.SOPInstanceUID = derived_uid("instance", hashlib.sha256(content.getbuffer()).hexdigest())
    dataset.save_as(path, enforce_file_format=True)
