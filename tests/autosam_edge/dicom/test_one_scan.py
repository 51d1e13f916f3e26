"""Slices of one series that are not one scan: phases, kernels, acquisitions, stacks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from autosam_edge_test_ct import vary
from autosam_edge_test_hazards import hazard
from autosam_edge_test_support import codes, refusal
from pydicom.dataset import Dataset

from autosam_edge.dicom.read import read_dicom
from autosam_edge.error_codes import POSITION_TWICE, SEVERAL_STACKS
from autosam_edge.warning_codes import COPIES_IGNORED, PARTS_JOINED

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")  # of writing what breaks the standard
AREA = "Choice of the series"


IN_PARTS = (
    ("AcquisitionDateTime", "20260101101500", "20260101101541.5"),
    ("AcquisitionNumber", 1, 2),
    ("AcquisitionTime", "101500.0", "101541.5"),
    ("ContrastBolusAgent", None, "Iomeprol"),
    ("ConvolutionKernel", "B30f", "B70f"),
    ("ImageType", ["ORIGINAL", "PRIMARY", "AXIAL"], ["DERIVED", "PRIMARY", "AXIAL"]),
    ("IrradiationEventUID", "1.2.1", "1.2.2"),
    ("KVP", 80, 140),
    ("NominalPercentageOfCardiacPhase", 0.0, 75.0),
    ("SeriesDescription", "SECRET arterial", "SECRET portal"),
    ("SeriesNumber", 3, 4),
    ("SliceThickness", 1, 5),
    ("TemporalPositionIdentifier", 1, 2),
)


@hazard(
    AREA, "two phases, kernels, energies or acquisitions between each other at half steps", SEVERAL_STACKS
)
@pytest.mark.parametrize(("keyword", "one", "other"), IN_PARTS)
def test_sets_between_each_other(ct: Any, keyword: str, one: Any, other: Any) -> None:
    """Together they are a regular stack; the attribute that differs is named, its values are not."""
    vary(ct, [{keyword: (one, other)[d % 2]} for d in range(5)])
    error = refusal(ct.path)
    assert error.code == "AE-DICOM-024"
    assert f"2 sets of slices that lie between each other and differ in {keyword}" in error.message


@hazard(AREA, "three phases between each other at thirds of a step", SEVERAL_STACKS)
def test_three_sets_between_each_other(ct_folder: Any) -> None:
    """Times that differ within a phase too."""
    ct = ct_folder("three", (9, 6, 8))
    vary(ct, [{"AcquisitionTime": f"10{15 + d % 3}00.{d}"} for d in range(9)])
    error = refusal(ct.path)
    assert error.code == "AE-DICOM-024"
    assert "3 sets" in error.message


def test_sets_that_overlap_in_part(ct_folder: Any) -> None:
    """Uneven steps would be refused too, but with a false cause."""
    ct = ct_folder("part", (9, 6, 8))
    place = [0, 2, 4, 5, 6, 7, 8, 10, 12]
    vary(
        ct,
        [
            {"ConvolutionKernel": f"B{z % 2}", "ImagePositionPatient": [-100, -50, 300 + 1.25 * z]}
            for z in place
        ],
    )
    assert refusal(ct.path).code == "AE-DICOM-024"


@hazard(AREA, "two phases of the same positions in one series", POSITION_TWICE)
def test_phases_of_the_same_positions(ct: Any) -> None:
    """Which one is meant is unknown."""
    for d in range(5):
        ct.save(ct.image(d, AcquisitionNumber=1), f"a{d}")
        ct.save(ct.image(d, AcquisitionNumber=2, PixelData=bytes(96), SOPInstanceUID=f"1.2.{d}"), f"b{d}")
    assert refusal(ct.path).code == "AE-DICOM-015"


@hazard(AREA, "two acquisitions, or parts with another kernel or energy, one after the other", PARTS_JOINED)
@pytest.mark.parametrize(("keyword", "one", "other"), IN_PARTS)
def test_parts_one_after_the_other(ct: Any, keyword: str, one: Any, other: Any) -> None:
    """They are read, with a warning that names the attribute."""
    vary(ct, [{keyword: one if d < 3 else other} for d in range(5)])
    volume = read_dicom(ct.path)
    np.testing.assert_array_equal(volume.hu, ct.hu)
    assert codes(volume) == ["AE-WARN-008"]
    assert f"differ in {keyword};" in volume.warnings[0].message


@hazard(AREA, "the tube current, exposure or content time changes from slice to slice", "read")
def test_harmless_differences(ct: Any) -> None:
    """Modulation of the tube current and the time of each slice tell nothing apart."""
    vary(
        ct,
        [
            {
                "XRayTubeCurrent": 200 + 50 * (d % 2),
                "Exposure": 10 + d % 3,
                "ContentTime": f"10150{d % 2}",
                "AcquisitionTime": f"10150{d}.5",
                "ImageComments": f"SECRET {d % 2}",
            }
            for d in range(5)
        ],
    )
    assert codes(read_dicom(ct.path)) == []


TWO_FORMS = {
    "digits": {"SliceThickness": ("2.5", "2.500001")},
    "zeros": {"SliceThickness": ("2.5", "2.50"), "KVP": ("120", "120.0"), "AcquisitionNumber": ("1", "01")},
    "absent": {"SliceThickness": ("2.5", None), "KVP": ("120", "")},
    "absent text": {"ConvolutionKernel": ("B30f", None), "SeriesDescription": ("SECRET", "")},
    "absent UID": {"IrradiationEventUID": ("1.2.3", None)},
    "character set": {
        "SpecificCharacterSet": ("ISO_IR 100", "ISO_IR 192"),
        "SeriesDescription": ("Oberbauch, venös", "Oberbauch, venös"),
        "PatientName": ("Müller^Hans", "Müller^Hans"),
    },
    "date": {"PatientBirthDate": ("19500101", "1950.01.01")},
    "name": {"PatientName": ("Yamada^Tarou", "Yamada^Tarou=YAMADA^TAROU")},
}


@hazard(
    AREA,
    "one thickness, energy, number, text, name or date in two forms, or absent (but for ContrastBolusAgent) "
    "in some slices",
    "read",
)
@pytest.mark.parametrize("name", TWO_FORMS)
def test_one_value_in_two_forms(ct: Any, name: str) -> None:
    """What is written differently, or is missing, tells no sets apart."""
    forms = TWO_FORMS[name]
    vary(ct, [{keyword: values[d % 2] for keyword, values in forms.items()} for d in range(5)])
    volume = read_dicom(ct.path)
    np.testing.assert_array_equal(volume.hu, ct.hu)
    assert codes(volume) == []


def test_what_is_absent_hides_no_sets(ct_folder: Any) -> None:
    """Slices without a kernel are passed over, and the others are told apart."""
    ct = ct_folder("some", (10, 6, 8))
    vary(ct, [{"ConvolutionKernel": (None, "B30f", "B70f")[d % 3]} for d in range(10)])
    assert refusal(ct.path).code == "AE-DICOM-024"


@hazard(AREA, "exact copies of all slices that differ in a descriptive text", COPIES_IGNORED)
@pytest.mark.parametrize("same_uid", [False, True])
def test_which_copies_are_kept_does_not_depend_on_names(ct: Any, same_uid: bool) -> None:
    """All of one set, whatever the order of the files and of their identifiers."""
    for d in range(5):
        for copy, text in enumerate(("SECRET", "SECRET anonymous")):
            uid = {} if same_uid else {"SOPInstanceUID": f"1.2.{(copy + d) % 2}.{d}"}
            ct.save(ct.image(d, SeriesDescription=text, **uid), f"{(copy + d) % 2}{d}")
    volume = read_dicom(ct.path)
    np.testing.assert_array_equal(volume.hu, ct.hu)
    assert codes(volume) == [COPIES_IGNORED.code]


def test_two_names_in_two_character_sets(ct: Any) -> None:
    """They differ after decoding too."""
    names = [("ISO_IR 100", "Müller^Hans"), ("ISO_IR 192", "Möller^Hans")]
    vary(
        ct, [dict(zip(("SpecificCharacterSet", "PatientName"), names[d % 2], strict=True)) for d in range(5)]
    )
    assert refusal(ct.path).code == "AE-DICOM-014"


def test_scan_that_goes_on_after_midnight(ct: Any) -> None:
    """Its times are 3 s apart."""
    vary(ct, [{"AcquisitionTime": "235958.5" if d < 3 else "000001.5"} for d in range(5)])
    assert codes(read_dicom(ct.path)) == []


@hazard(AREA, "a step-and-shoot scan whose AcquisitionNumber and time change with each step", "read")
def test_step_and_shoot(ct_folder: Any) -> None:
    """More parts than any scan of several acquisitions has."""
    ct = ct_folder("steps", (12, 6, 8))
    vary(ct, [{"AcquisitionNumber": d // 2, "AcquisitionTime": f"10{15 + d // 2}00"} for d in range(12)])
    assert codes(read_dicom(ct.path)) == []


def test_time_that_is_none(ct: Any) -> None:
    """A damaged time tells nothing apart, and is no reason to refuse a scan."""
    vary(ct, [{"AcquisitionTime": ("10:15:00", "SECRET", "", "101500", "1015")[d]} for d in range(5)])
    assert codes(read_dicom(ct.path)) == []


def enhanced(ct: Any, change: Any) -> Dataset:
    """An Enhanced CT object; ``change`` receives the functional groups of each frame and its number."""
    image = ct.enhanced(list(range(5)))
    for index, group in enumerate(image.PerFrameFunctionalGroupsSequence):
        change(group, index)
    return image


def set_number(group: Dataset, index: int) -> None:
    group.FrameContentSequence[0].FrameAcquisitionNumber = index % 2


def set_phase(group: Dataset, index: int) -> None:
    group.FrameContentSequence[0].TemporalPositionIndex = index % 2


def set_time(group: Dataset, index: int) -> None:
    group.FrameContentSequence[0].FrameAcquisitionDateTime = f"202401011015{30 * (index % 2):02}.5+0100"


def set_kernel(group: Dataset, index: int) -> None:
    group.CTReconstructionSequence = [Dataset()]
    group.CTReconstructionSequence[0].ConvolutionKernel = f"B{index % 2}"


@hazard(
    AREA, "frames of several phases or kernels between each other in one Enhanced CT object", SEVERAL_STACKS
)
@pytest.mark.parametrize("change", [set_number, set_phase, set_time, set_kernel])
def test_enhanced_sets_between_each_other(ct: Any, change: Any) -> None:
    """The same by the attributes of the frames."""
    ct.save(enhanced(ct, change), "enhanced")
    assert refusal(ct.path).code == "AE-DICOM-024"


@hazard(AREA, "an Enhanced CT object of two acquisitions one after the other", PARTS_JOINED)
def test_enhanced_parts(ct: Any) -> None:
    """Read, with a warning."""
    ct.save(enhanced(ct, lambda group, index: set_number(group, index // 3)), "enhanced")
    assert codes(read_dicom(ct.path)) == ["AE-WARN-008"]


@hazard(
    AREA,
    "an Enhanced CT object of several stacks, a part of a concatenation, or several multi-frame objects",
    SEVERAL_STACKS,
)
@pytest.mark.parametrize(
    "case", ["stacks", "concatenation", "no total", "all parts", "two objects", "beside classic"]
)
def test_multi_frame_objects_that_are_not_one_stack(ct: Any, case: str) -> None:
    """The sentence says which of them it is."""
    image, remedy = ct.enhanced([0, 1, 2]), "one series of its own"
    if case == "stacks":
        image.PerFrameFunctionalGroupsSequence[2].FrameContentSequence[0].StackID = "2"
        words = "holds 2 stacks"
    elif case == "concatenation":
        image.InConcatenationTotalNumber = 2
        words, remedy = "one part of a concatenation", "as one multi-frame object"
    elif case == "no total":
        image.ConcatenationUID, image.InConcatenationNumber = "1.2.3.4", 1
        words, remedy = "one part of a concatenation", "as one multi-frame object"
    elif case == "all parts":
        image.ConcatenationUID = "1.2.3.4"
        ct.save(ct.enhanced([3, 4], ConcatenationUID="1.2.3.4"), "other")
        words, remedy = "a concatenation of 2 objects", "as one multi-frame object"
    elif case == "two objects":
        ct.save(ct.enhanced([3, 4]), "other")
        words = "2 multi-frame objects, expected one"
    else:
        ct.write()
        words = "single-frame images (5) and multi-frame objects (1)"
        remedy = "remove one of them"
    ct.save(image, "enhanced")
    error = refusal(ct.path)
    assert error.code == "AE-DICOM-024"
    assert words in error.message
    assert remedy in error.remedy


@hazard(AREA, "an Enhanced CT object whose StackID is empty in some frames", "read; the positions count")
def test_stack_id_of_some_frames(ct: Any) -> None:
    """An empty name is no second stack; frames of another one do not fit the grid."""
    image = ct.enhanced([0, 1, 2, 3, 4])
    for group in image.PerFrameFunctionalGroupsSequence[::2]:
        group.FrameContentSequence[0].StackID = ""
    ct.save(image, "enhanced")
    np.testing.assert_array_equal(read_dicom(ct.path).hu, ct.hu)
    image.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence[0].ImagePositionPatient[2] += 0.9
    ct.save(image, "enhanced")
    assert refusal(ct.path).code == "AE-DICOM-017"
