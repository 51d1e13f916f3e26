"""Each contract with the files that its caller writes and expects."""

from __future__ import annotations

import json
import os

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813  as its own documentation does
from autosam_edge_test_ct import CtFolder, lenient_writing  # noqa: F401
from autosam_edge_test_support import run_command, write_bundle

from autosam_edge import phantom
from autosam_edge.batch.batch import Batch
from autosam_edge.batch.contracts import _targets, detect, run_contract
from autosam_edge.batch.job import Job, Settings
from autosam_edge.errors import BatchError, InputError, OutputError
from autosam_edge.labels import BTCV_LABELS

SETTINGS = Settings(engine="onnx", threads=1)


@pytest.fixture(scope="module")
def abdomen():
    """A phantom with 13 organs that the default model finds."""
    return phantom.make_phantom(seed=3)


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    return folder


def result(out, name="result.json"):
    return json.loads((out / name).read_text())


def write_nifti(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.arange(8 * 6 * 5, dtype=np.int16).reshape(8, 6, 5) - 1000
    nib.Nifti1Image(values, np.diag([0.5, 0.9, 2.5, 1])).to_filename(path)


def choose(source, *formats):
    """Settings of the caller; no formats are the default ones."""
    source.mkdir(parents=True, exist_ok=True)
    (source / "settings.json").write_text(json.dumps({"formats": formats, "accept_implausible": True}))


def names_in(folder):
    return {path.name for path in folder.iterdir()}


def contract_command(*arguments, **variables):
    environment = {key: value for key, value in os.environ.items() if not key.startswith("MERCURE")}
    return run_command("contract", *arguments, env={**environment, **variables})


def test_folders(source, tmp_path):
    CtFolder(source / "dicom").write()
    bolus = CtFolder(source / "bolus")
    bolus.save(bolus.image(0), "0.dcm")  # no scan; the result says so
    choose(source, "nifti", "metaimage")
    outcome = run_contract("folder", source, tmp_path / "out", SETTINGS)
    assert outcome.failed == 0
    assert outcome.in_words.endswith("Series of fewer than three slices passed over: 1.")
    assert result(tmp_path / "out")["passed_over"] == 1
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"segmentation.nii.gz", "segmentation.mha", "statistics.json", "result.json"}
    assert result(tmp_path / "out")["scans"][0]["verdict"] in ("doubtful", "implausible")


def test_a_scan_that_fails_is_in_the_result(source, tmp_path):
    gap = CtFolder(source / "gap")
    for d in (0, 1, 3, 4):
        gap.save(gap.image(d), f"{d}.dcm")
    outcome = run_contract("folder", source, tmp_path / "out", SETTINGS)
    assert (outcome.failed, result(tmp_path / "out")["scans"][0]["code"]) == (1, "AE-DICOM-016")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"result.json"}


@pytest.mark.parametrize("content", ["{", "[]", '{"format": ["nifti"]}', '{"formats": ["stl"]}'])
def test_settings_that_are_not_valid_are_refused(source, tmp_path, content):
    (source / "settings.json").write_text(content)
    with pytest.raises(BatchError, match="AE-BATCH-006"):
        run_contract("folder", source, tmp_path / "out", SETTINGS)


@pytest.mark.parametrize("several", [False, True], ids=["one-module", "several-modules"])
def test_mercure(source, tmp_path, several):
    ct = CtFolder(source)
    for d in range(5):
        image = ct.image(d)
        ct.save(image, f"{ct.series_uid}#{image.SOPInstanceUID}.dcm")
        (source / f"{ct.series_uid}#{image.SOPInstanceUID}.tags").write_text("{}")
    settings = {"formats": ["secondary-capture"], "accept_implausible": True}
    process = {"module_name": "autosam-edge", "settings": settings}
    (source / "task.json").write_text(json.dumps({"process": [process] if several else process}))
    outcome = run_contract("mercure", source, tmp_path / "out", SETTINGS)
    assert outcome.failed == 0
    [file] = (tmp_path / "out").glob("*.dcm")
    written = pydicom.dcmread(file)
    assert file.name == f"{written.SeriesInstanceUID}#{written.SOPInstanceUID}.dcm"
    assert (
        "1 scan was segmented; the labels are" in result(tmp_path / "out")["__mercure_notification"]["text"]
    )


@pytest.mark.slow
def test_flare(source, tmp_path, abdomen):
    hu, affine = abdomen.volume.hu, np.diag([-1, -1, 1, 1]) @ abdomen.volume.grid.affine[:, [2, 1, 0, 3]]
    nib.Nifti1Image(hu.transpose(2, 1, 0), affine).to_filename(source / "FLARETs_0001_0000.nii.gz")
    assert run_contract("flare", source, tmp_path / "out", SETTINGS).failed == 0
    labels = np.asarray(nib.load(tmp_path / "out" / "FLARETs_0001.nii.gz").dataobj).transpose(2, 1, 0)
    liver = next(label.value for label in BTCV_LABELS if label.name == "liver")
    truth = abdomen.labels == liver
    assert 2 * np.sum((labels == 1) & truth) / (np.sum(labels == 1) + np.sum(truth)) > 0.9


@pytest.mark.parametrize(
    ("file", "flare", "grand_challenge"),
    [
        ("c_0000.NII.GZ", "c.nii.gz", "c_0000.mha"),
        ("c_0000.nii", "c.nii.gz", "c_0000.mha"),
        ("0b1c.mha", "0b1c.nii.gz", "0b1c.mha"),
        ("1.2.840.7", "1.2.840.7.nii.gz", "1.2.840.7.mha"),
    ],
)
def test_the_labels_have_the_name_of_the_case(tmp_path, file, flare, grand_challenge):
    job = Job("0", (f"/in/{file}",), dicom=False, newest_s=0, stamp="")
    assert _targets("flare", [job], tmp_path, "") == {"0": tmp_path / flare}
    assert _targets("grand-challenge", [job], tmp_path, "s")["0"].name == grand_challenge


def test_grand_challenge(source, tmp_path):
    image = sitk.GetImageFromArray(np.full((5, 6, 8), -1000, np.int16))
    image.SetSpacing((0.9, 0.5, 2.5))
    image.SetOrigin((-100.0, -50.0, 300.0))
    folder = source / "images" / "ct"
    folder.mkdir(parents=True)
    sitk.WriteImage(image, folder / "0b1c.mha")
    outcome = run_contract("grand-challenge", source / "images", tmp_path / "out", SETTINGS, socket="organs")
    assert outcome.failed == 0
    labels = sitk.ReadImage(tmp_path / "out" / "images" / "organs" / "0b1c.mha")
    assert labels.GetSize() == image.GetSize()
    for key in ("GetSpacing", "GetOrigin", "GetDirection"):
        assert np.allclose(getattr(labels, key)(), getattr(image, key)())
    assert result(tmp_path / "out", "results.json")["failed"] == 0


@pytest.mark.parametrize(
    ("folders", "environment", "name"),
    [
        (("in",), {"MERCURE_IN_DIR": "/m/in", "MERCURE_OUT_DIR": "/m/out"}, "mercure"),
        (("workspace/inputs",), {}, "flare"),
        (("input/images/ct",), {}, "grand-challenge"),
        (("in",), {}, "folder"),
        ((), {}, None),
    ],
)
def test_the_contract_is_found(tmp_path, folders, environment, name):
    for folder in folders:
        (tmp_path / folder).mkdir(parents=True)
    found = detect(environment, tmp_path)
    assert (found and found[0]) == name


def test_a_scan_that_is_not_dicom_gets_the_default_formats_that_it_can_have(source, tmp_path):
    choose(source)
    write_nifti(source / "scan.nii.gz")
    outcome = run_contract("folder", source, tmp_path / "out", SETTINGS)
    assert outcome.failed == 0, outcome
    names = names_in(tmp_path / "out")
    assert {"segmentation.nii.gz", "statistics.json", "result.json"} <= names
    assert "segmentation.dcm" not in names


def test_a_folder_never_mixes_two_runs_and_keeps_what_is_not_ours(tmp_path):
    first, second, third, out = (tmp_path / name for name in ("a", "b", "c", "out"))
    choose(first, "secondary-capture", "json")
    CtFolder(first / "dicom").write()
    assert run_contract("folder", first, out, SETTINGS).failed == 0
    assert names_in(out) == {"preview.dcm", "statistics.json", "result.json"}
    (out / "notes.txt").write_text("mine")
    (out / "0123456789abcdef").mkdir()

    choose(second, "nifti")
    write_nifti(second / "one.nii.gz")
    write_nifti(second / "two.nii.gz")
    scans = {scan["scan"] for scan in run_contract("folder", second, out, SETTINGS).scans}
    others = {"notes.txt", "0123456789abcdef", "result.json"}
    assert names_in(out) == others | scans
    mine = out / min(scans) / "mine.txt"
    mine.write_text("mine")

    choose(third, "nifti")
    (third / "damaged.nii").write_bytes(b"no NIfTI")
    assert run_contract("folder", third, out, SETTINGS).failed == 1
    assert names_in(out) == others | {min(scans)}
    assert names_in(mine.parent) == {"mine.txt"}


def test_results_of_an_earlier_run_do_not_stay_beside_an_error(source, tmp_path):
    choose(source, "nifti")
    write_nifti(source / "scan.nii.gz")
    run_contract("folder", source, tmp_path / "out", SETTINGS)
    (source / "settings.json").write_text("{")
    with pytest.raises(BatchError):
        run_contract("folder", source, tmp_path / "out", SETTINGS)
    assert names_in(tmp_path / "out") == {"result.json"}
    content = result(tmp_path / "out")
    assert (content["failed"], content["scans"], content["error"]["code"]) == (1, [], "AE-BATCH-006")


def test_an_error_that_nobody_foresaw_is_in_the_result_too(source, tmp_path, monkeypatch):
    """Earlier results do not stay beside it, and its message, which may name a patient, is not told."""
    choose(source, "nifti")
    write_nifti(source / "scan.nii.gz")
    run_contract("folder", source, tmp_path / "out", SETTINGS)

    def fail(_):
        raise RuntimeError("Mustermann")

    monkeypatch.setattr("autosam_edge.batch.batch.Batch.update_index", fail)
    with pytest.raises(RuntimeError):
        run_contract("folder", source, tmp_path / "out", SETTINGS)
    assert names_in(tmp_path / "out") == {"result.json"}
    content = result(tmp_path / "out")
    assert (content["failed"], content["error"]["code"]) == (1, "AE-INTERNAL-001")
    assert "Mustermann" not in str(content)


def test_input_in_the_folder_of_a_scan_is_not_taken_for_results(tmp_path):
    source = tmp_path / "0123456789abcdef"
    choose(source, "json")
    write_nifti(source / "segmentation.nii.gz")
    assert run_contract("folder", source, tmp_path, SETTINGS).failed == 0
    assert (source / "segmentation.nii.gz").exists()


def test_a_killed_run_does_not_decide_the_settings_of_the_next(source, tmp_path):
    write_nifti(source / "scan.nii.gz")
    choose(source, "nifti")
    stage = tmp_path / "out" / ".autosam-edge-0123abcd.partial"
    (stage / "new").mkdir(parents=True)
    (stage / "owner").touch()
    (stage / "new" / "settings.json").write_text("{}")
    assert run_contract("folder", source, tmp_path / "out", SETTINGS).failed == 0
    assert not stage.exists()


def test_two_calls_at_a_time_with_one_output_leave_the_work_of_each_other(tmp_path, monkeypatch):
    """The later call runs while the earlier one looks at its input, as in another process."""
    for name in ("one", "two"):
        choose(tmp_path / name, "nifti")
        write_nifti(tmp_path / name / "scan.nii.gz")
    update = Batch.update_index

    def after_another(batch):
        monkeypatch.undo()
        assert run_contract("folder", tmp_path / "two", tmp_path / "out", SETTINGS).failed == 0
        update(batch)

    monkeypatch.setattr(Batch, "update_index", after_another)
    outcome = run_contract("folder", tmp_path / "one", tmp_path / "out", SETTINGS)
    assert names_in(tmp_path / "out") == {"segmentation.nii.gz", "statistics.json", "result.json"}
    assert result(tmp_path / "out")["scans"] == outcome.scans


@pytest.mark.parametrize("content", [None, "notes.txt"], ids=["empty", "no-scan"])
@pytest.mark.parametrize("contract", ["folder", "mercure"])
def test_an_input_without_a_scan_is_an_error(source, tmp_path, contract, content):
    if content is not None:
        (source / content).write_text("no scan")
    with pytest.raises(InputError, match="AE-INPUT-002"):
        run_contract(contract, source, tmp_path / "out", SETTINGS)
    content = result(tmp_path / "out")
    assert (content["failed"], content["error"]["code"]) == (1, "AE-INPUT-002")
    if contract == "mercure":
        assert "AE-INPUT-002" in content["__mercure_notification"]["text"]


def test_an_input_that_cannot_be_read_is_an_error(source, tmp_path, monkeypatch):
    write_nifti(source / "scan.nii.gz")
    access = os.access  # tests may run as root, who can read everything
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.R_OK | os.X_OK and access(path, mode))
    with pytest.raises(InputError, match="AE-INPUT-003"):
        run_contract("folder", source, tmp_path / "out", SETTINGS)
    assert result(tmp_path / "out")["error"]["code"] == "AE-INPUT-003"


def test_a_call_that_cannot_succeed_leaves_nothing(source, tmp_path):
    with pytest.raises(InputError, match="AE-INPUT-001"):
        run_contract("folder", tmp_path / "nonexistent", tmp_path / "out", SETTINGS)
    assert not (tmp_path / "out").exists()
    write_nifti(source / "scan.nii.gz")
    for name in ("file", "file/out", "folder"):
        (tmp_path / "file").write_text("a file")
        (tmp_path / "folder" / "result.json").mkdir(parents=True, exist_ok=True)
        with pytest.raises(OutputError, match="AE-OUTPUT-002"):
            run_contract("folder", source, tmp_path / name, SETTINGS)


@pytest.mark.parametrize("socket", ["../../../esc", "..", "/esc", "a\\b"])
def test_a_socket_that_leaves_the_output_is_refused(source, tmp_path, socket):
    write_nifti(source / "scan.nii.gz")
    with pytest.raises(BatchError, match="AE-BATCH-006"):
        run_contract("grand-challenge", source, tmp_path / "out", SETTINGS, socket=socket)
    assert names_in(tmp_path) == {"in"}


def test_two_files_of_one_case_do_not_share_a_result(source, tmp_path):
    for name in ("CASE1_0000.nii", "CASE1_0000.nii.gz", "CASE2_0000.nii.gz"):
        write_nifti(source / name)
    out = tmp_path / "out"
    out.mkdir()
    for name in ("CASE0.nii.gz", "CASE1.nii.gz"):
        (out / name).write_text("labels of an earlier run")
    outcome = run_contract("flare", source, out, SETTINGS)
    assert [scan["code"] for scan in outcome.scans if "code" in scan] == ["AE-OUTPUT-002"] * 2
    assert names_in(out) == {"CASE0.nii.gz", "CASE2.nii.gz", "result.json"}


def test_a_result_does_not_replace_the_input(tmp_path):
    source = tmp_path / "images" / "organs"
    source.mkdir(parents=True)
    sitk.WriteImage(sitk.GetImageFromArray(np.full((5, 6, 8), -1000, np.int16)), source / "scan.mha")
    before = (source / "scan.mha").read_bytes()
    outcome = run_contract("grand-challenge", source, tmp_path, SETTINGS, socket="organs")
    assert outcome.scans[0]["code"] == "AE-OUTPUT-002"
    assert (source / "scan.mha").read_bytes() == before


@pytest.mark.parametrize("missing", ["MERCURE_IN_DIR", "MERCURE_OUT_DIR"])
def test_one_of_the_two_variables_of_mercure_is_refused(tmp_path, missing):
    variables = {"MERCURE_IN_DIR": "/m/in", "MERCURE_OUT_DIR": "/m/out"}
    del variables[missing]
    with pytest.raises(BatchError, match="AE-BATCH-006"):
        detect(variables, tmp_path)


def test_one_folder_is_wrong_usage_also_for_a_caller_that_is_found(source, tmp_path):
    run = contract_command(source, MERCURE_IN_DIR=str(source), MERCURE_OUT_DIR=str(tmp_path / "out"))
    assert run.returncode == 2
    assert "give both folders, or none" in run.stderr
    assert names_in(tmp_path) == {"in"}


def test_a_model_of_ones_own_is_taken(source, tmp_path):
    write_nifti(source / "scan.nii")
    bundle = write_bundle(tmp_path / "damaged.edge")
    (bundle / "manifest.json").write_text("{")
    run = contract_command(source, tmp_path / "out", "--as", "folder", "--bundle", bundle)
    assert "error AE-BUNDLE-" in run.stderr


def test_the_remedy_of_failed_scans_names_what_there_is(source, tmp_path):
    (source / "damaged.nii").write_bytes(b"no NIfTI")
    run = contract_command(source, tmp_path / "out", "--as", "folder")
    assert run.returncode == 12
    assert "result.json names the code and the remedy of each." in run.stderr
    assert "--retry" not in run.stderr
