"""Each contract with the files that its caller writes and expects."""

from __future__ import annotations

import json

import nibabel as nib
import numpy as np
import pydicom
import pytest
import SimpleITK as sitk  # noqa: N813  as its own documentation does
from autosam_edge_test_ct import CtFolder, lenient_writing  # noqa: F401

from autosam_edge import phantom
from autosam_edge.batch.contracts import detect, run_contract
from autosam_edge.batch.job import Settings
from autosam_edge.errors import BatchError
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


def test_folders(source, tmp_path):
    CtFolder(source / "dicom").write()
    (source / "settings.json").write_text(
        json.dumps({"formats": ["nifti", "metaimage"], "accept_implausible": True})
    )
    outcome = run_contract("folder", source, tmp_path / "out", SETTINGS)
    assert outcome.failed == 0
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
    with pytest.raises(BatchError) as caught:
        run_contract("folder", source, tmp_path / "out", SETTINGS)
    assert caught.value.code == "AE-BATCH-006"


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
    assert "1 scans were segmented" in result(tmp_path / "out")["__mercure_notification"]["text"]


@pytest.mark.slow
def test_flare(source, tmp_path, abdomen):
    hu, affine = abdomen.volume.hu, np.diag([-1, -1, 1, 1]) @ abdomen.volume.grid.affine[:, [2, 1, 0, 3]]
    nib.Nifti1Image(hu.transpose(2, 1, 0), affine).to_filename(source / "FLARETs_0001_0000.nii.gz")
    assert run_contract("flare", source, tmp_path / "out", SETTINGS).failed == 0
    labels = np.asarray(nib.load(tmp_path / "out" / "FLARETs_0001.nii.gz").dataobj).transpose(2, 1, 0)
    liver = next(label.value for label in BTCV_LABELS if label.name == "liver")
    truth = abdomen.labels == liver
    assert 2 * np.sum((labels == 1) & truth) / (np.sum(labels == 1) + np.sum(truth)) > 0.9


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
