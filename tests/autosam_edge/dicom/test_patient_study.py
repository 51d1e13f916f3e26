"""What is said of patient and study: no more than the standard asks for, or a pseudonym."""

from __future__ import annotations

import io

import pydicom
import pytest
from autosam_edge_test_hazards import hazard
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from autosam_edge.dicom.patient_study import add_patient_and_study, content_date_and_time, patient_and_study

NAME = "Doe^Jane"
FREE_TEXTS = {
    "PatientComments": "SECRET",
    "AdditionalPatientHistory": "SECRET",
    "OtherPatientNames": "SECRET^Jane",
    "OtherPatientIDs": "SECRET",
    "PatientAddress": "SECRET street 1",
    "PatientTelephoneNumbers": "SECRET 555",
    "PatientMotherBirthName": "SECRET^Ann",
    "EthnicGroup": "SECRET",
    "Occupation": "SECRET",
    "PatientAge": "030Y",
    "MedicalAlerts": "SECRET",
    "StudyDescription": "SECRET",
    "InstitutionName": "SECRET hospital",
    "InstitutionAddress": "SECRET street 2",
    "PhysiciansOfRecord": "SECRET^Bob",
    "NameOfPhysiciansReadingStudy": "SECRET^Bob",
    "PerformingPhysicianName": "SECRET^Bob",
    "OperatorsName": "SECRET^Bob",
    "StationName": "SECRET",
    "ClinicalTrialProtocolEthicsCommitteeName": "SECRET",
}


def source() -> Dataset:
    """Patient and study of a series, with every free text."""
    ds = Dataset()
    ds.StudyInstanceUID = "2.25.11"
    ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex = NAME, "4711", "19700102", "F"
    ds.StudyDate, ds.StudyTime, ds.ContentDate, ds.ContentTime = "20240102", "101112", "20240103", "101530.25"
    ds.StudyID, ds.AccessionNumber, ds.ReferringPhysicianName = "1", "A77", "Roe^Richard"
    ds.IssuerOfPatientID = "Clinic"
    for keyword, value in FREE_TEXTS.items():
        setattr(ds, keyword, value)
    return ds


def in_a_file(dataset: Dataset, *, implicit: bool = False) -> Dataset:
    """The data set as pydicom reads it from a file."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    dataset.file_meta.MediaStorageSOPClassUID = dataset.file_meta.MediaStorageSOPInstanceUID = "1.2"
    stream = io.BytesIO()
    dataset.save_as(stream, implicit_vr=implicit, little_endian=True, enforce_file_format=True)
    stream.seek(0)
    return pydicom.dcmread(stream)


def written(ds: Dataset, *, pseudonymize: bool = False) -> tuple[Dataset, bytes]:
    """The object that a writer saves, as read back, and its bytes."""
    result = Dataset()
    add_patient_and_study(result, patient_and_study(ds, pseudonymize=pseudonymize))
    stream = io.BytesIO()
    result.file_meta = FileMetaDataset()
    result.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    result.save_as(stream)
    stream.seek(0)
    return pydicom.dcmread(stream, force=True), stream.getvalue()


@hazard("Results", "free texts of the patient, the physicians or the institution in the source", "left out")
@pytest.mark.parametrize("implicit", [False, True])
def test_free_texts_stay_out(implicit: bool) -> None:
    """Only what the standard requires, and the issuer of the patient ID."""
    ds, content = written(in_a_file(source(), implicit=implicit))
    assert b"SECRET" not in content
    assert (ds.PatientName, ds.PatientID, ds.PatientBirthDate, ds.PatientSex) == (
        NAME,
        "4711",
        "19700102",
        "F",
    )
    assert (ds.StudyInstanceUID, ds.StudyID, ds.AccessionNumber, ds.StudyDate) == (
        "2.25.11",
        "1",
        "A77",
        "20240102",
    )
    assert (ds.ReferringPhysicianName, ds.IssuerOfPatientID) == ("Roe^Richard", "Clinic")
    assert not set(FREE_TEXTS) & {element.keyword for element in ds}


@hazard("Results", "`pseudonymize` is given", "name and IDs are a pseudonym, dates and texts are empty")
def test_a_pseudonym_holds_nothing_of_the_patient() -> None:
    """One pseudonym for name and ID; the study UID stays, and the object says that it is de-identified."""
    ds, content = written(in_a_file(source()), pseudonymize=True)
    for text in (b"SECRET", b"Doe", b"4711", b"1970", b"2024", b"A77", b"Roe", b"Clinic", b"101112"):
        assert text not in content
    assert ds.StudyInstanceUID == "2.25.11"
    assert ds.PatientID == str(ds.PatientName)
    assert ds.PatientID.startswith("AE-")
    for keyword in ("PatientBirthDate", "PatientSex", "AccessionNumber", "StudyDate", "StudyID"):
        assert not ds[keyword].value, keyword
    assert (ds.PatientIdentityRemoved, ds.LongitudinalTemporalInformationModified) == ("YES", "REMOVED")
    assert len(ds.DeidentificationMethod) <= 64
    assert [item.CodeValue for item in ds.DeidentificationMethodCodeSequence] == ["113100", "113110"]
    assert content_date_and_time(source(), pseudonymize=True) == ("19700101", "000000")


def test_the_pseudonym_is_that_of_the_study_and_not_a_hash_of_the_patient_id() -> None:
    """The same study gives the same pseudonym; a hash of a patient ID could be found by trying all IDs."""
    one, other, another = source(), source(), source()
    other.PatientID = "4712"
    another.StudyInstanceUID = "2.25.12"
    names = [patient_and_study(ds, pseudonymize=True).PatientID for ds in (one, other, another)]
    assert names[0] == names[1] != names[2]


def test_what_is_absent_is_written_empty() -> None:
    """Attributes of type 2 that a de-identifier removed."""
    ds = Dataset()
    ds.StudyInstanceUID = "2.25.11"
    result, _ = written(in_a_file(ds))
    assert str(result.PatientName) == ""
    assert not result.StudyDate
    assert "PatientIdentityRemoved" not in result
    assert "ClinicalTrialSponsorName" not in result


@pytest.mark.parametrize("complete", [True, False])
def test_a_clinical_trial_is_copied_whole_or_not_at_all(complete: bool) -> None:
    """The module has attributes of type 1: without one of them it is not valid."""
    ds = source()
    ds.ClinicalTrialSponsorName, ds.ClinicalTrialProtocolID = "Sponsor", "P1"
    if complete:
        ds.ClinicalTrialSubjectID = "S9"
    result, _ = written(in_a_file(ds))
    assert ("ClinicalTrialSponsorName" in result) is complete
    assert ("ClinicalTrialSiteName" in result) is complete
    if complete:
        assert (result.ClinicalTrialSubjectID, result.ClinicalTrialSiteID) == ("S9", "")


@hazard("Results", "a sequence of the source's patient module is written as text", "left out")
@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize(
    "text", [b"Header Anonymizer text", b"\xfe\xff\x00\xe0\x08\x00\x00\x00abcdefgh", b"ab"]
)
def test_a_sequence_that_is_text_is_left_out(implicit: bool, text: bytes) -> None:
    """Neither an error nor an invented item."""
    ds = source()
    ds.PatientIdentityRemoved, ds.DeidentificationMethod = "YES", "by hand"
    read = in_a_file(ds, implicit=implicit)
    tag = Tag("DeidentificationMethodCodeSequence")
    read[tag] = RawDataElement(tag, None if implicit else "LO", len(text), text, 0, implicit, True)
    result, _ = written(read)
    assert "DeidentificationMethodCodeSequence" not in result
    assert (result.PatientIdentityRemoved, result.DeidentificationMethod) == ("YES", "by hand")


def test_a_deidentified_source_stays_so() -> None:
    """The codes of the method are copied, without what else an item holds."""
    ds = source()
    ds.PatientIdentityRemoved = "YES"
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = "113100", "DCM", "Basic"
    item.PatientComments = "SECRET"
    ds.DeidentificationMethodCodeSequence = [item]
    result, content = written(in_a_file(ds))
    assert [code.CodeMeaning for code in result.DeidentificationMethodCodeSequence] == ["Basic"]
    assert b"SECRET" not in content


def test_a_name_that_is_a_sequence_is_written_empty() -> None:
    """An attribute that is required is there, also if the source holds something else under its tag."""
    ds = in_a_file(source())
    tag = Tag("PatientName")
    ds[tag] = RawDataElement(tag, "SQ", 4, b"abcd", 0, False, True)
    result, _ = written(ds)
    assert str(result.PatientName) == ""


def test_texts_keep_their_bytes_and_character_set() -> None:
    """A character set that nobody knows is no reason to change a name."""
    ds = in_a_file(source())
    for keyword, value in {"SpecificCharacterSet": b"ISO_IR 999", "PatientName": b"M\xfcller^Erika"}.items():
        tag = Tag(keyword)
        ds[tag] = RawDataElement(tag, dictionary_VR(tag), len(value), value, 0, False, True)
    with pytest.warns(UserWarning, match="encoding"):
        result, _ = written(ds)
    assert result.get_item("PatientName").value == b"M\xfcller^Erika"
