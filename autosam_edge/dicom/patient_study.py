"""What a DICOM object that is made from a series says about the patient and the study.

Every DICOM writer takes it from here. Only what the standard requires is copied: the attributes of type 1
and 2 of the modules Patient, General Study, Clinical Trial Subject and Clinical Trial Study, the issuer of
the patient ID, and what says that the source was de-identified. Comments, histories, addresses, other names,
ages and descriptions stay out.

A copied text keeps the bytes that it has in the source file: decoding and encoding it again would change a
text whose character set pydicom does not know, or that does not keep to its character set.
"""

from __future__ import annotations

import hashlib
from datetime import datetime
from typing import TYPE_CHECKING

from pydicom.charset import convert_encodings
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset
from pydicom.filewriter import correct_ambiguous_vr
from pydicom.sequence import Sequence
from pydicom.tag import Tag
from pydicom.valuerep import CUSTOMIZABLE_CHARSET_VR

if TYPE_CHECKING:
    from pydicom.tag import BaseTag

TYPE_2 = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
    "StudyID",
    "AccessionNumber",
)
"""Attributes of type 2 of patient and study: every object has them, if only empty."""
_TYPE_3 = ("IssuerOfPatientID",)
# Type 1 of the two modules of clinical trials; the subject's own number or its reading number is enough.
_TRIAL_TYPE_1 = ("ClinicalTrialSponsorName", "ClinicalTrialProtocolID")
_TRIAL_SUBJECT = ("ClinicalTrialSubjectID", "ClinicalTrialSubjectReadingID")
_TRIAL_TYPE_2 = (
    "ClinicalTrialProtocolName",
    "ClinicalTrialSiteID",
    "ClinicalTrialSiteName",
    "ClinicalTrialTimePointID",
)
_CODE = ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")
# PS3.15 Annex E; PS3.16 CID 7050.
_DEIDENTIFIED_BY = (
    ("113100", "DCM", "Basic Application Confidentiality Profile"),
    ("113110", "DCM", "Retain UIDs Option"),
)
_DEIDENTIFICATION_METHOD = "autosam-edge: names, IDs, dates and texts removed; UIDs kept"
_TEXT = CUSTOMIZABLE_CHARSET_VR | {"AS", "CS", "DA", "TM", "UN"}
# Content Date is type 1, yet a de-identified source may hold no date at all.
_NO_DATE = ("19700101", "000000")


def patient_and_study(source: Dataset, *, pseudonymize: bool = False) -> Dataset:
    """What an object that is made from a series says about the patient and the study.

    Args:
        source: Header of one image of the series, as pydicom read it.
        pseudonymize: Whether name and patient ID are replaced by a pseudonym, and every other attribute is
            left empty where the standard allows it. The pseudonym is made from the study UID: the same study
            gives the same pseudonym, and nobody can find the patient ID by trying all possible ones. UIDs are
            kept, so the object belongs to the same study.

    Returns:
        Attributes of type 1 and 2, and those named in the module's text. Texts are in the bytes of the
        source; :func:`add_patient_and_study` puts them into an object.

    Source:
        PS3.3 C.7.1.1 (Patient), C.7.2.1 (General Study), C.7.1.3 and C.7.2.3 (Clinical Trial), PS3.15 Annex E
        (de-identification).
    """
    result = Dataset()
    result.StudyInstanceUID = str(source.get("StudyInstanceUID") or "")
    if pseudonymize:
        for keyword in TYPE_2:
            setattr(result, keyword, "")
        pseudonym = "AE-" + hashlib.sha256(result.StudyInstanceUID.encode()).hexdigest()[:16]
        result.PatientName = result.PatientID = pseudonym
        result.PatientIdentityRemoved = "YES"
        result.DeidentificationMethod = _DEIDENTIFICATION_METHOD
        result.DeidentificationMethodCodeSequence = [code_item(*code) for code in _DEIDENTIFIED_BY]
        result.LongitudinalTemporalInformationModified = "REMOVED"
        return result
    for keyword in ("SpecificCharacterSet", *TYPE_2, *_TYPE_3):
        _copy(source, keyword, result, required=keyword in TYPE_2)
    _copy_trial(source, result)
    _copy_deidentification(source, result)
    return result


def add_patient_and_study(dataset: Dataset, patient: Dataset) -> None:
    """Put the attributes of patient and study into an object, in place of those that it has.

    This is the last step before the object is saved. Texts of the object itself must be in ASCII, as the
    character set becomes the source's.

    Args:
        dataset: The new, finished object, to be saved in Explicit VR Little Endian.
        patient: Result of :func:`patient_and_study`.
    """
    for keyword in ("SpecificCharacterSet", *TYPE_2):
        if keyword in dataset:
            delattr(dataset, keyword)
    for tag in patient.keys():  # noqa: SIM118 - a data set yields its elements, decoded
        dataset[tag] = patient.get_item(tag)
    # With the original encoding set, pydicom writes the texts of the source as the bytes that they are;
    # otherwise it decodes and encodes them again. It then no longer chooses between OB and OW.
    correct_ambiguous_vr(dataset, True)
    dataset.set_original_encoding(False, True, convert_encodings(dataset.get("SpecificCharacterSet")))


def content_date_and_time(source: Dataset, *, pseudonymize: bool = False) -> tuple[str, str]:
    """Content Date and Content Time of an object that is made from a series.

    The same labels give the same bytes, so they are those of the source and not the clock's.

    Args:
        pseudonymize: Whether the dates of the source are withheld.

    Returns:
        YYYYMMDD and HHMMSS of the content, acquisition, series or study, whichever is sound first;
        1970-01-01 if none is, or if they are withheld.
    """
    for prefix in () if pseudonymize else ("Content", "Acquisition", "Series", "Study"):
        date, time = _text(source, f"{prefix}Date"), _text(source, f"{prefix}Time")
        if len(date) == 8 and _follows(date, "%Y%m%d"):
            whole, _, fraction = time.partition(".")
            sound = (
                len(whole) == 6
                and _follows(whole, "%H%M%S")
                and len(fraction) <= 6
                and (fraction.isdecimal() or whole == time)
            )
            return date, time if sound else "000000"
    return _NO_DATE


def _copy(source: Dataset, keyword: str, target: Dataset, *, required: bool = False) -> None:
    """Copy a text in its bytes; if it is absent or no text, and is required, it becomes empty."""
    tag = Tag(keyword)
    element = _text_element(source, tag)
    if element is not None:
        target[tag] = element
    elif required:
        setattr(target, keyword, "")


def _text_element(source: Dataset, tag: BaseTag) -> DataElement | RawDataElement | None:
    """A text of a source in the bytes of its file; None if it is absent or written as something else."""
    if tag not in source:
        return None
    element = source.get_item(tag)
    vr = dictionary_VR(tag)
    # An element of Implicit VR has no type in the file.
    if (element.VR or vr) not in _TEXT:
        return None
    if not isinstance(element, RawDataElement):
        return element
    value = element.value or b""
    return element._replace(VR=vr, value=value + b" " * (len(value) % 2), is_implicit_VR=False)


def _text(source: Dataset, keyword: str) -> str:
    """A text of a source as it can be compared, empty when it is absent or cannot be decoded."""
    if _text_element(source, Tag(keyword)) is None:
        return ""
    try:
        return str(source.get(keyword) or "").strip()
    except Exception:  # pydicom raises many types for a damaged element
        return ""


def _copy_trial(source: Dataset, target: Dataset) -> None:
    """Copy what identifies the subject of a clinical trial, if all that is required is there."""
    subject = [keyword for keyword in _TRIAL_SUBJECT if _text(source, keyword)]
    if subject and all(_text(source, keyword) for keyword in _TRIAL_TYPE_1):
        for keyword in (*_TRIAL_TYPE_1, *subject):
            _copy(source, keyword, target)
        for keyword in _TRIAL_TYPE_2:
            _copy(source, keyword, target, required=True)


def _copy_deidentification(source: Dataset, target: Dataset) -> None:
    """Copy that, and how, the source was de-identified; codes that are no sequence are left out."""
    removed = _text(source, "PatientIdentityRemoved")
    if removed not in ("YES", "NO"):
        return
    _copy(source, "DeidentificationMethod", target)
    if codes := _method_codes(source):
        target.DeidentificationMethodCodeSequence = codes
    if removed == "NO" or codes or _text(source, "DeidentificationMethod"):
        target.PatientIdentityRemoved = removed


def _method_codes(source: Dataset) -> list[Dataset]:
    """The codes of the methods; none if the sequence is absent, is not a sequence, or an item is no code."""
    try:
        value = source.get("DeidentificationMethodCodeSequence", ())
        if not isinstance(value, Sequence):
            return []
        items = [tuple(str(item[name].value) for name in _CODE) for item in value]
    except Exception:  # pydicom raises many types for what is no sequence
        return []
    return [code_item(*item) for item in items if all(item)]


def code_item(*values: str) -> Dataset:
    """An item of a code sequence: value, scheme and meaning."""
    item = Dataset()
    for keyword, value in zip(_CODE, values, strict=True):
        setattr(item, keyword, value)
    return item


def _follows(text: str, form: str) -> bool:
    """Whether a text is digits that name a date or time there is."""
    try:
        datetime.strptime(text, form)
    except ValueError:
        return False
    return text.isascii() and text.isdecimal()
