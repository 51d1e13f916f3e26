"""Which images make the volume: those of one patient, one scan and one reconstruction, in HU."""

from __future__ import annotations

import shutil
from typing import Any

import numpy as np
import pytest
from autosam_edge_test_ct import vary
from autosam_edge_test_hazards import hazard
from autosam_edge_test_support import codes, refusal
from pydicom.dataset import Dataset
from pydicom.uid import MRImageStorage, SecondaryCaptureImageStorage, generate_uid

from autosam_edge.dicom.image_kinds import MAP
from autosam_edge.dicom.read import read_dicom
from autosam_edge.error_codes import (
    ATTRIBUTE_INVALID,
    IDENTITIES_DIFFER,
    NO_CT,
    NOT_HU,
    SERIES_NOT_FOUND,
    SEVERAL_SERIES,
)
from autosam_edge.read_choices import ReadChoices
from autosam_edge.warning_codes import (
    ANIMAL,
    FILES_PASSED_OVER,
    FRAME_OF_REFERENCE_MISSING,
    FRAMES_OF_REFERENCE_IGNORED,
    SERIES_CHOSEN,
    SERIES_DERIVED,
    SERIES_JOINED,
    SPECTRAL_IMAGES,
)
from autosam_edge.wording import with_options

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:pydicom")  # of writing what breaks the standard
AREA = "Choice of the series"
IGNORE = ReadChoices(ignore_frame_of_reference=True)


@hazard(AREA, "several CT series of a scan's length", SEVERAL_SERIES)
@hazard(AREA, "a series that is named but is not there", SERIES_NOT_FOUND)
def test_several_series_are_listed_and_each_can_be_named(ct_folder: Any) -> None:
    """By number in the list, by SeriesNumber, by UID and by hash; never by a guess."""
    one, two = ct_folder("one"), ct_folder("two", (4, 6, 8))
    one.write(SeriesNumber=31)
    two.write(SeriesNumber=32)
    root = one.path.parent
    error = refusal(root)
    assert error.code == "AE-DICOM-003"
    assert "[1] 5 slices of 2.5 mm, SeriesNumber 31" in error.message
    assert "[2] 4 slices of 2.5 mm, SeriesNumber 32" in error.message
    assert one.series_uid not in error.message
    hash_two = read_dicom(two.path).source.series_hash
    for name in ("2", "32", two.series_uid, hash_two[:8], hash_two):
        assert read_dicom(root, series=name).shape == (4, 6, 8)
    for name in ("3", "", hash_two[:4], "1.2.3"):
        error = refusal(root, series=name)
        assert error.code == "AE-DICOM-004"
        assert "[1] 5 slices" in error.message


@hazard(AREA, "a name that fits several series", SERIES_NOT_FOUND)
def test_series_number_that_is_also_a_list_number_is_ambiguous(ct_folder: Any) -> None:
    """SeriesNumber 2 stands first in the list, so "2" could mean either."""
    one, two = ct_folder("one"), ct_folder("two")
    one.write(SeriesNumber=2)
    two.write(SeriesNumber=5)
    assert refusal(one.path.parent, series="2").code == "AE-DICOM-004"
    assert refusal(one.path, series="9").code == "AE-DICOM-004"


def test_an_empty_text_names_no_series(ct_folder: Any) -> None:
    """Not even the one whose SeriesNumber is absent."""
    ct_folder("one").write(SeriesNumber=1)
    ct_folder("two").write(SeriesNumber=None)
    for wanted in ("", " "):
        assert refusal(ct_folder("one").path.parent, series=wanted).code == SERIES_NOT_FOUND.code


@hazard(AREA, "bolus tracking, scout and a reformat beside the series", SERIES_CHOSEN)
@pytest.mark.parametrize(("count", "told"), [(1, "[2] 1 slice,"), (2, "[2] 2 slices of 2.5 mm,")])
def test_series_of_a_study(ct_folder: Any, count: int, told: str) -> None:
    """The one original series of a scan's length is read, and the others can be named."""
    one, bolus, reformat = ct_folder("one"), ct_folder("bolus"), ct_folder("reformat", (4, 6, 8))
    one.write(SeriesNumber=1)
    bolus.write(count, SeriesNumber=2)
    reformat.write(SeriesNumber=3, ImageType=["DERIVED", "SECONDARY", "MPR"])
    one.save(one.image(0, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], SeriesInstanceUID="1.2"), "scout")
    volume = read_dicom(one.path.parent)
    np.testing.assert_array_equal(volume.hu, one.hu)
    assert codes(volume) == ["AE-WARN-001", "AE-WARN-002"]
    assert "of 3 CT series" in volume.warnings[1].message
    assert told in volume.warnings[1].message
    derived = read_dicom(one.path.parent, series="3")
    assert derived.shape == (4, 6, 8)
    assert SERIES_DERIVED.code in codes(derived)


def original_beside(ct_folder: Any, slices: int, step_mm: float, derived: int) -> Any:
    original = ct_folder("original", (slices, 6, 8))
    original.write(step_mm=step_mm)
    ct_folder("derived", (derived, 6, 8)).write(ImageType=["DERIVED", "SECONDARY", "AXIAL"])
    return original


@hazard(AREA, "an original of a few slices beside a derivation of more than twice as many", SEVERAL_SERIES)
def test_a_small_original_beside_a_derived_scan(ct_folder: Any) -> None:
    """Four slices may be a part that was taken for another purpose; a person chooses."""
    assert refusal(original_beside(ct_folder, 4, 2.5, 9).path.parent).code == SEVERAL_SERIES.code


@pytest.mark.parametrize(("slices", "step_mm", "derived"), [(4, 2.5, 8), (6, 10.0, 13)])
def test_an_original_of_some_length_is_better(
    ct_folder: Any, slices: int, step_mm: float, derived: int
) -> None:
    """It has half as many slices as the derived series, or covers 60 mm."""
    original = original_beside(ct_folder, slices, step_mm, derived)
    np.testing.assert_array_equal(read_dicom(original.path.parent).hu, original.hu)


@hazard(AREA, "nothing but a secondary derivation, such as a reformat", SERIES_DERIVED)
def test_reformat_alone(ct: Any) -> None:
    """It is read, with a warning."""
    ct.write(ImageType=["DERIVED", "SECONDARY", "REFORMATTED"])
    assert codes(read_dicom(ct.path)) == ["AE-WARN-003"]


@hazard(AREA, "nothing but localizers, projections, screenshots or dose reports of the CT Image class", NO_CT)
@pytest.mark.parametrize(
    ("image_type", "kind"),
    [
        (["ORIGINAL", "PRIMARY", "LOCALIZER"], "localizer"),
        (["DERIVED", "SECONDARY", "MIP"], "projection or rendering"),
        (["DERIVED", "SECONDARY", "PROJECTION IMAGE"], "projection or rendering"),
        (["DERIVED", "SECONDARY", "SCREEN SAVE"], "screenshot or report"),
        (["DERIVED", "SECONDARY", "AXIAL", "Screenshot"], "screenshot or report"),
        (["ORIGINAL", "SECONDARY", "OTHER", "CT_SOM5 PROT"], "screenshot or report"),
    ],
)
def test_images_that_are_no_sections(ct: Any, image_type: list[str], kind: str) -> None:
    """ImageType tells; beside a series they are passed over."""
    ct.write(ImageType=image_type)
    error = refusal(ct.path)
    assert error.code == "AE-DICOM-002"
    assert f"5 x {kind}" in error.message


@hazard(AREA, "MR, PET, secondary captures, private objects, or a CT Image of another modality", NO_CT)
@pytest.mark.parametrize(
    "changes",
    [
        {"SOPClassUID": MRImageStorage, "Modality": "MR"},
        {"SOPClassUID": SecondaryCaptureImageStorage},
        {"SOPClassUID": "1.2.826.0.1.3680043.2.1"},
        {"Modality": "PT"},
        {"Modality": "XA"},
        {"Modality": None},
        {"Modality": ""},
    ],
)
def test_other_modalities(ct: Any, changes: dict[str, Any]) -> None:
    """The model knows CT alone."""
    ct.write(**changes)
    error = refusal(ct.path)
    assert error.code == "AE-DICOM-002"
    assert ("Modality is missing" in error.message) == (not changes.get("Modality", "OT"))


@hazard(AREA, "one image of a series names another modality than the others", ATTRIBUTE_INVALID)
def test_one_image_of_another_modality(ct: Any) -> None:
    """The last slice would be passed over, and no gap would show it."""
    vary(ct, [{}] * 4 + [{"Modality": "CU"}])
    error = refusal(ct.path)
    assert error.code == "AE-DICOM-006"
    assert "Modality of file 5 of 5" in error.message


MAPS = [
    "IODINE", "IODINE_NO_WATER", "DE_IODINE", "WATER(IODINE)", "Z_EFFECTIVE", "ZEFF", "EFF_ATOMIC_NUM",
    "ELECTRON_DENSITY", "RHO", "MAT_SPECIFIC", "MAT_FRACTIONAL", "MAT_VALUE_BASED", "URIC_ACID",
    "PERFUSION", "CBF", "RCBF", "RCBV", "MTT", "SUBTRACTION", "ADDITION", "T_TEST", "Z_SCORE",
    "STD_DEVIATION", "MATERIAL_DENSITY",
]  # fmt: skip


@hazard(
    AREA, "maps of iodine, effective atomic number, density or perfusion, told by ImageType alone", NOT_HU
)
@pytest.mark.parametrize("value", MAPS)
def test_maps_are_refused(ct: Any, value: str) -> None:
    """Their numbers are not HU, whatever the rescale says."""
    ct.write(ImageType=["DERIVED", "PRIMARY", "AXIAL", value])
    assert refusal(ct.path).code == "AE-DICOM-008"


@hazard(AREA, "an acquisition for perfusion (ORIGINAL, with PERFUSION as third value)", "read")
def test_acquisition_for_perfusion(ct: Any) -> None:
    """The value is that of the image flavor; a map of perfusion is derived."""
    ct.write(ImageType=["ORIGINAL", "PRIMARY", "PERFUSION", "NONE"])
    assert codes(read_dicom(ct.path)) == []


@hazard(AREA, "a maximum or minimum of several images, told by value 4 of ImageType", NO_CT)
@pytest.mark.parametrize("value", ["MAXIMUM", "MINIMUM"])
def test_extremes_of_images(ct: Any, value: str) -> None:
    """Elsewhere the word may have another meaning."""
    ct.write(ImageType=["ORIGINAL", "PRIMARY", "AXIAL", "NONE", value])
    assert codes(read_dicom(ct.path)) == []
    ct.write(ImageType=["DERIVED", "PRIMARY", "AXIAL", value])
    assert refusal(ct.path).code == "AE-DICOM-002"


RENDERED = [
    {"VolumeBasedCalculationTechnique": "MAX_IP"},
    {"VolumeBasedCalculationTechnique": "VOLUME_RENDER"},
    {"VolumeBasedCalculationTechnique": "CURVED_MPR", "VolumetricProperties": "DISTORTED"},
]


@hazard(AREA, "an Enhanced CT object whose frames are projections, renderings or curved", NO_CT)
@pytest.mark.parametrize("changes", RENDERED)
def test_enhanced_object_that_is_no_stack_of_sections(ct: Any, changes: dict[str, str]) -> None:
    """Its own attributes tell, where ImageType does not."""
    ct.save(ct.enhanced(list(range(5)), **changes), "enhanced")
    error = refusal(ct.path)
    assert error.code == "AE-DICOM-002"
    assert "1 x projection or rendering" in error.message


@hazard(AREA, "an Enhanced CT object with frames that are maps, told by FrameType alone", NOT_HU)
def test_frames_that_are_maps(ct: Any) -> None:
    """ImageType of the whole object says MIXED."""
    image = ct.enhanced(list(range(5)), ImageType=["DERIVED", "PRIMARY", "VOLUME", "MIXED"])
    for group in image.PerFrameFunctionalGroupsSequence:
        group.CTImageFrameTypeSequence = [Dataset()]
        group.CTImageFrameTypeSequence[0].FrameType = ["DERIVED", "PRIMARY", "VOLUME", "EFF_ATOMIC_NUM"]
    ct.save(image, "enhanced")
    assert refusal(ct.path).code == "AE-DICOM-008"


@hazard(AREA, "maps that are not in HU beside or within the conventional series", FILES_PASSED_OVER)
@pytest.mark.parametrize("same_series", [True, False])
def test_maps_beside_the_series(ct: Any, same_series: bool) -> None:
    """The conventional images are read, and the others counted."""
    ct.write()
    changes = {} if same_series else {"SeriesInstanceUID": "1.2.3"}
    for d in range(5):
        ct.save(
            ct.image(
                d,
                ImageType=["DERIVED", "PRIMARY", "AXIAL", "IODINE"],
                SOPInstanceUID=f"1.2.{d}",
                PixelData=bytes(96),
                **changes,
            ),
            f"map{d}",
        )
    volume = read_dicom(ct.path)
    np.testing.assert_array_equal(volume.hu, ct.hu)
    assert volume.warnings[0].message == f"Passed over: 5 x {MAP}."


@hazard(AREA, "virtual monoenergetic or virtual non-contrast images, which are in HU", SPECTRAL_IMAGES)
@pytest.mark.parametrize(
    "value",
    [
        "VMI",
        "MONO_E",
        "GSI MONO",
        "70KEV",
        "VNC",
        "VIRTUAL_NON_CONTRAST",
        "VUE",
        "MAT_REMOVED",
        "IODINE REMOVED",
    ],
)
def test_spectral_images_in_hu(ct: Any, value: str) -> None:
    """They are read, with a warning."""
    ct.write(ImageType=["DERIVED", "PRIMARY", "AXIAL", value])
    assert codes(read_dicom(ct.path)) == ["AE-WARN-009"]


@pytest.mark.parametrize(
    "value", ["CT_SOM5 SPI", "HELIX", "VOLUME", "AVERAGE", "M_SE", "DE_MIXED", "TABLE REMOVED", "MPR", ""]
)
def test_other_values_of_image_type_mean_nothing(ct: Any, value: str) -> None:
    """What ordinary scanners write."""
    ct.write(ImageType=["ORIGINAL", "PRIMARY", "AXIAL", value])
    assert codes(read_dicom(ct.path)) == []


@hazard(AREA, "two patients or studies in one series", IDENTITIES_DIFFER)
@pytest.mark.parametrize(
    "changes", [{"PatientID": "SECRET-2"}, {"PatientID": ""}, {"StudyInstanceUID": "1.2.3"}]
)
def test_two_patients(ct: Any, changes: dict[str, str]) -> None:
    """They are never merged."""
    vary(ct, [{}] * 4 + [changes])
    assert refusal(ct.path).code == "AE-DICOM-014"


@hazard(
    AREA,
    "two patient names, dates of birth or sexes under one PatientID, such as an empty one",
    IDENTITIES_DIFFER,
)
@pytest.mark.parametrize("patient_id", ["", "ANONYMOUS"])
@pytest.mark.parametrize(
    ("keyword", "one", "other"),
    [
        ("PatientName", "Mustermann^Erika", "SECRET^Max"),
        ("PatientBirthDate", "19610203", "19610204"),
        ("PatientSex", "F", "M"),
    ],
)
def test_two_names_under_one_id(ct: Any, patient_id: str, keyword: str, one: str, other: str) -> None:
    """The attribute is named, its values are not."""
    vary(ct, [{"PatientID": patient_id, keyword: value} for value in (one, one, one, other)])
    error = refusal(ct.path)
    assert error.code == "AE-DICOM-014"
    assert keyword in error.message


def test_one_name_written_in_several_ways(ct: Any) -> None:
    """Case, empty parts, spaces, or a name that some slices lack."""
    names = ("Mustermann^Erika", "MUSTERMANN^ERIKA", "Mustermann^Erika^^^ ", "", None)
    vary(ct, [{"PatientName": name} for name in names])
    assert codes(read_dicom(ct.path)) == []


def frames_of_reference(ct: Any) -> None:
    """Each slice with a frame of reference of its own."""
    vary(ct, [{"FrameOfReferenceUID": generate_uid()} for _ in range(5)])


@hazard(AREA, "slices of several frames of reference", IDENTITIES_DIFFER)
@pytest.mark.parametrize("others", [["1.2.3"], [None], ["1.2.3", "1.2.4", "1.2.5", "1.2.6"]])
def test_several_frames_of_reference(ct: Any, others: list[str | None]) -> None:
    """The remedy names the switch, also if some slices name none."""
    vary(ct, [{}] * (5 - len(others)) + [{"FrameOfReferenceUID": uid} for uid in others])
    error = refusal(ct.path)
    assert error.code == "AE-DICOM-014"
    assert "`ignore_frame_of_reference`" in error.remedy
    assert "--ignore-frame-of-reference." in with_options(error.remedy)


def test_one_image_without_a_frame_of_reference(ct: Any) -> None:
    """The number of such images, in good grammar."""
    vary(ct, [{}] * 4 + [{"FrameOfReferenceUID": None}])
    assert "1 image of the series names no frame of reference" in refusal(ct.path).message


@hazard(
    AREA, "an image of the series without position and frame of reference, such as a page", ATTRIBUTE_INVALID
)
@pytest.mark.parametrize("choices", [ReadChoices(), IGNORE])
def test_page_within_the_series(ct: Any, choices: ReadChoices) -> None:
    """It is no slice, and no switch makes it one."""
    ct.write()
    ct.save(ct.image(0, FrameOfReferenceUID=None, ImagePositionPatient=None), "page")
    error = refusal(ct.path, choices=choices)
    assert error.code == "AE-DICOM-006"
    assert "file 6 of 6 has neither ImagePositionPatient nor" in error.message
    assert "leave it out of the folder" in error.remedy


@hazard(
    AREA,
    "slices of several frames of reference, with `--ignore-frame-of-reference`",
    FRAMES_OF_REFERENCE_IGNORED,
)
def test_several_frames_of_reference_are_ignored(ct: Any) -> None:
    """One volume, with a warning."""
    frames_of_reference(ct)
    volume = read_dicom(ct.path, choices=IGNORE)
    np.testing.assert_array_equal(volume.hu, ct.hu)
    assert codes(volume) == ["AE-WARN-006"]


@hazard(AREA, "no slice names a frame of reference", FRAME_OF_REFERENCE_MISSING)
def test_no_frame_of_reference(ct: Any) -> None:
    """Positions alone make the volume."""
    ct.write(FrameOfReferenceUID=None)
    assert codes(read_dicom(ct.path)) == ["AE-WARN-005"]


def test_switch_does_not_merge_patients(ct: Any) -> None:
    """It is about frames of reference alone."""
    vary(ct, [{"FrameOfReferenceUID": f"1.2.{d}", "PatientID": f"SECRET-{d // 3}"} for d in range(5)])
    assert refusal(ct.path, choices=IGNORE).code == "AE-DICOM-014"


def species(code: str) -> list[Dataset]:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code, "SCT", "SECRET"
    return [item]


@hazard(AREA, "images of an animal, as their species or AnatomicalOrientationType says", ANIMAL)
@pytest.mark.parametrize(
    "change",
    [
        {"AnatomicalOrientationType": "QUADRUPED"},
        {"PatientSpeciesDescription": "Canis lupus familiaris"},
        {"PatientSpeciesCodeSequence": species("448771007")},
    ],
)
def test_animal(ct: Any, change: dict[str, Any]) -> None:
    """Read, as the grid is that of any CT; a person is told."""
    ct.write(**change)
    volume = read_dicom(ct.path)
    np.testing.assert_array_equal(volume.hu, ct.hu)
    (warning,) = volume.warnings
    assert (warning.code, warning.severity) == (ANIMAL.code, "caution")


@pytest.mark.parametrize(
    "change",
    [
        {"AnatomicalOrientationType": "BIPED", "PatientSpeciesDescription": "Homo sapiens"},
        {"PatientSpeciesDescription": "", "PatientSpeciesCodeSequence": []},
        {"PatientSpeciesDescription": "UNKNOWN"},
        {"PatientSpeciesDescription": "hombre", "PatientSpeciesCodeSequence": species("337915000")},
    ],
)
def test_no_animal(ct: Any, change: dict[str, Any]) -> None:
    """A code counts before a text, which may be in any language."""
    ct.write(**change)
    assert codes(read_dicom(ct.path)) == []


def series_per_slice(ct: Any, **changes: Any) -> None:
    vary(ct, [{"SeriesInstanceUID": f"1.2.3.{d}", **changes} for d in range(5)])


@hazard(AREA, "every slice with a SeriesInstanceUID of its own", SEVERAL_SERIES)
def test_series_per_slice(ct: Any) -> None:
    """The message says exactly this, and the remedy names the way."""
    series_per_slice(ct)
    error = refusal(ct.path)
    assert "5 CT series of one image each" in error.message
    assert '`series="all"`' in error.remedy
    assert "--series all." in with_options(error.remedy)


@hazard(AREA, "every slice with a SeriesInstanceUID of its own, with `--series all`", SERIES_JOINED)
def test_series_per_slice_are_joined(ct: Any) -> None:
    """One volume, with a warning; the hash is that of all of them, in any order."""
    series_per_slice(ct)
    volume = read_dicom(ct.path, series="all")
    np.testing.assert_array_equal(volume.hu, ct.hu)
    assert codes(volume) == ["AE-WARN-007"]
    again = ct.path.parent / "again"
    again.mkdir()
    for number, path in enumerate(sorted(ct.path.iterdir(), reverse=True)):
        shutil.copy(path, again / str(number))
    assert read_dicom(again, series="all").source.series_hash == volume.source.series_hash


def test_no_series_is_left_out_in_silence(ct: Any) -> None:
    """A slice that is there twice changes nothing; a series of two images is left out with a word."""
    series_per_slice(ct)
    last = min(ct.path.iterdir())  # names run against the slices
    shutil.copy(last, ct.path / "copy")
    volume = read_dicom(ct.path, series="all")
    np.testing.assert_array_equal(volume.hu, ct.hu)
    assert codes(volume) == ["AE-WARN-007", "AE-WARN-004"]
    vary(ct, [{"SeriesInstanceUID": f"1.2.3.{max(d, 1)}"} for d in range(5)])
    (ct.path / "copy").unlink()
    (warning, *_) = read_dicom(ct.path, series="all").warnings
    assert (
        warning.message == "Read 3 series of one image each as one series, and left out 1 of two images each."
    )


def test_series_per_slice_are_checked_like_one(ct: Any) -> None:
    """Several patients, frames of reference or positions are refused as in any series."""
    vary(ct, [{"SeriesInstanceUID": f"1.2.3.{d}", "FrameOfReferenceUID": f"1.2.4.{d}"} for d in range(5)])
    assert refusal(ct.path, series="all").code == "AE-DICOM-014"
    assert codes(read_dicom(ct.path, series="all", choices=IGNORE)) == ["AE-WARN-007", "AE-WARN-006"]
    vary(ct, [{"SeriesInstanceUID": f"1.2.3.{d}", "PatientID": f"SECRET{d}"} for d in range(5)])
    assert refusal(ct.path, series="all").code == "AE-DICOM-014"


@hazard(AREA, "`--series all` for series of several images", SERIES_NOT_FOUND)
def test_all_joins_no_series_of_several_images(ct_folder: Any) -> None:
    """Two scans are never one."""
    one, two = ct_folder("one"), ct_folder("two")
    one.write()
    series_per_slice(two)
    assert refusal(one.path.parent, series="all").code == "AE-DICOM-004"
    assert refusal(one.path, series="all").code == "AE-DICOM-004"
