"""Nothing that leaves the program names a patient: no message, log, file of plain results, or file name."""

from __future__ import annotations

import gzip
import logging
import warnings
import zipfile
from pathlib import Path

import pytest
from autosam_edge_test_ct import CtFolder, lenient_writing  # noqa: F401  used by every test
from autosam_edge_test_support import run_command

from autosam_edge.cli.shown_paths import paths_shown
from autosam_edge.error_codes import DICOM_DAMAGED
from autosam_edge.errors import AutosamEdgeError, InputError
from autosam_edge.phantom import make_phantom
from autosam_edge.phantom.series import write_dicom_series
from autosam_edge.read_scan import read

STAND_IN = "autosam_edge_benchmarks.stand_in"  # a formula in the place of the network
MARKERS = ("MARKER", "19460309", "99887766", "1.2.826.0.1.5550")
PATIENT = {
    "PatientName": "MARKERNAME^ANNA",
    "PatientID": "MARKER99887766",
    "PatientBirthDate": "19460309",
    "StudyDate": "19460309",
    "StudyInstanceUID": "1.2.826.0.1.5550.1",
    "SeriesInstanceUID": "1.2.826.0.1.5550.2",
    "FrameOfReferenceUID": "1.2.826.0.1.5550.3",
    "SeriesDescription": "MARKER DESCRIPTION",
}


def marked(text: str) -> list[str]:
    return [marker for marker in MARKERS if marker.lower() in text.lower()]


@pytest.fixture
def series(tmp_path: Path) -> CtFolder:
    """A series whose names, IDs, dates, UIDs, folder and file names hold markers."""
    folder = tmp_path / "MARKERFOLDER_ANNA" / "MARKERSTUDY"
    folder.mkdir(parents=True)
    series = CtFolder(folder)
    for d in range(5):
        series.save(
            series.image(d, **PATIENT, SOPInstanceUID=f"1.2.826.0.1.5550.4.{d}"), f"MARKERFILE{d}.dcm"
        )
    return series


def change(number: int = 2, **changes: object):
    """A series in which one file has other attributes; None removes one."""

    def make(series: CtFolder) -> Path:
        uid = f"1.2.826.0.1.5550.4.{number}"
        ds = series.image(number, **{**PATIENT, "SOPInstanceUID": uid, **changes})
        series.save(ds, f"MARKERFILE{number}.dcm")
        return series.path

    return make


def cut(series: CtFolder) -> Path:
    file = series.path / "MARKERFILE2.dcm"
    file.write_bytes(file.read_bytes()[:-30])
    return series.path


def cut_header(series: CtFolder) -> Path:
    file = series.path / "MARKERFILE2.dcm"
    file.write_bytes(file.read_bytes()[:300])
    return series.path


def zip_of(series: CtFolder, damage: bool = False) -> Path:
    path = series.path.parent / "MARKERZIP.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for file in series.path.iterdir():
            archive.write(file, f"MARKERFOLDER/{file.name}")
    if damage:
        path.write_bytes(path.read_bytes().replace(b"DICM", b"DIXM"))
    return path


def packed(series: CtFolder) -> Path:
    file = series.path / "MARKERFILE2.dcm"
    (series.path / "MARKERFILE2.gz").write_bytes(gzip.compress(file.read_bytes()))
    file.unlink()
    return series.path


def link(series: CtFolder) -> Path:
    (series.path / "MARKERLINK.dcm").symlink_to("/MARKER/nowhere")
    return series.path


def text(name: str, content: bytes):
    def make(series: CtFolder) -> Path:
        path = series.path.parent / name
        path.write_bytes(content)
        return path

    return make


INPUTS = {
    "sound": lambda series: series.path,
    "sound zip": zip_of,
    "damaged zip": lambda series: zip_of(series, damage=True),
    "cut": cut,
    "cut in the header": cut_header,
    "in gzip": packed,
    "link": link,
    "absent": lambda series: series.path / "MARKERABSENT",
    "one file": lambda series: series.path / "MARKERFILE1.dcm",
    "text": text("MARKER.txt", b"MARKERNAME"),
    "empty": text("MARKER.nii", b""),
    "bad NRRD": text("MARKER.nrrd", b"NRRD0004\nMARKER: 99887766\ntype: MARKER\n\n"),
    "bad MetaImage": text(
        "MARKER.mhd", b"ObjectType = Image\nNDims = MARKER\nElementDataFile = MARKER.raw\n"
    ),
    "no voxels": text("MARKER2.mhd", b"ObjectType = Image\nNDims = 3\nElementDataFile = MARKER.raw\n"),
    "no position": change(ImagePositionPatient=None),
    "no rescale": change(RescaleSlope=None),
    "another patient": change(PatientName="MARKEROTHER"),
    "another study": change(StudyInstanceUID="1.2.826.0.1.5550.9"),
    "another frame of reference": change(FrameOfReferenceUID="1.2.826.0.1.5550.9"),
    "another series": change(SeriesInstanceUID="1.2.826.0.1.5550.9"),
    "a UID with letters": change(SeriesInstanceUID="1.2.826.0.1.5550.MARKER"),
    "a SOP class with letters": change(SOPClassUID="1.2.826.0.1.5550.MARKER"),
    "a modality": change(Modality="MARKER"),
    "a spacing with letters": change(PixelSpacing=[0.5, 0.7], SeriesNumber=99887766),
    "a rescale type": change(RescaleType="MARKER"),
    "an image type": change(ImageType=["MARKER", "99887766"]),
    "a photometric interpretation": change(PhotometricInterpretation="MARKER"),
    "twice": lambda series: change(3, ImagePositionPatient=[10, 20, 35])(series),
}


@pytest.mark.parametrize("name", INPUTS)
def test_no_message_of_the_reader_names_a_patient(name, series, capfd, caplog):
    """Errors, warnings, logs, and what is printed, for inputs that work and that fail."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source = INPUTS[name](series)
    caplog.clear()
    capfd.readouterr()
    caplog.set_level(logging.DEBUG)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            volume = read(source)
            told = [str(warning) for warning in volume.warnings] + [repr(volume.source)]
        except AutosamEdgeError as error:
            told = [str(error)]
    told += [str(warning.message) for warning in caught] + list(capfd.readouterr())
    told += [record.getMessage() for record in caplog.records]
    assert [line for line in told if marked(line)] == []


@pytest.mark.parametrize("as_zip", [False, True])
def test_no_plain_result_names_a_patient(as_zip, tmp_path):
    """NIfTI, JSON, CSV, PNG, their names, and both streams of a whole run of the command line."""
    import pydicom

    folder = tmp_path / "MARKERFOLDER"
    write_dicom_series(make_phantom(5, spacing_mm=(8.0, 6.0, 6.0)).volume, folder, seed=5)
    for number, file in enumerate(sorted(folder.iterdir())):
        ds = pydicom.dcmread(file)
        for keyword, value in PATIENT.items():
            setattr(ds, keyword, value)
        ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = f"1.2.826.0.1.5550.4.{number}"
        ds.save_as(folder / f"MARKERFILE{number}.dcm")
        file.unlink()
    source = folder
    if as_zip:
        source = tmp_path / "MARKER.zip"
        with zipfile.ZipFile(source, "w") as archive:
            for file in folder.iterdir():
                archive.write(file, f"MARKERFOLDER/{file.name}")
    options = ["-o", "out", "--format", "nifti,json,csv,preview", "--json"]
    done = run_command("segment", source, *options, module=STAND_IN, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    found = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert len(found) == 4
    found["nifti"] = gzip.decompress(found["segmentation.nii.gz"])
    for name, content in found.items():
        assert not marked(name + content.decode("latin-1")), name
    assert not marked(done.stdout + done.stderr)


def test_a_person_at_the_desk_sees_the_path_behind_a_number(series, tmp_path):
    """With --show-paths, and only then; the error itself stays as it is."""
    cut(series)
    plain, shown = (
        run_command("segment", series.path, "-o", "out", *more, module=STAND_IN, cwd=tmp_path)
        for more in ([], ["--show-paths"])
    )
    assert "file 3 of 5" in plain.stderr
    assert not marked(plain.stderr)
    path = series.path / "MARKERFILE2.dcm"
    assert shown.stderr == f"file 3 of 5 is {path}\n{plain.stderr}"
    assert (plain.returncode, shown.returncode) == (3, 3)


def test_files_that_are_gone_do_not_hide_the_error(tmp_path):
    """The folder vanished after the error: the error is shown, without a path."""
    with pytest.raises(InputError, match="AE-DICOM-005"), paths_shown(tmp_path / "gone", wanted=True):
        raise DICOM_DAMAGED("file 3 of 5 is damaged.")


def test_the_order_of_the_numbers_in_a_zip(series, tmp_path):
    """They are those of the listing by name."""
    from autosam_edge.read_scan import numbered_files

    names = [file.name for file in numbered_files(zip_of(series))]
    assert names == [f"MARKERFILE{d}.dcm" for d in range(5)]
