"""The Python side of the web worker, driven by an engine of this machine in the place of JavaScript's."""

from __future__ import annotations

import asyncio
import functools
import json
import shutil

import nibabel as nib
import numpy as np
import pydicom
import pytest
from autosam_edge_test_ct import lenient_writing  # noqa: F401  used by every test

from autosam_edge.browser.answers import organs_for_page
from autosam_edge.browser.view import lay_out_view
from autosam_edge.browser.worker import Worker
from autosam_edge.bundle import default_bundle_path, open_bundle
from autosam_edge.engines.fake_engine import ThresholdEngine
from autosam_edge.formats import nifti
from autosam_edge.geometry import Orientation
from autosam_edge.measurements import organ_statistics
from autosam_edge.phantom import make_phantom
from autosam_edge.phantom.series import write_dicom_series
from autosam_edge.volume import Segmentation, Volume

CENTERS = tuple(np.linspace(-125, 275, 14))


@functools.cache
def phantom():
    return make_phantom(spacing_mm=(6.0, 5.0, 5.0))


class Awaited:
    """An engine as JavaScript offers it: flat arrays, and the logits are filled in."""

    def __init__(self, engine):
        self.engine = engine
        self.description = json.dumps(
            {"name": "onnxruntime-web", "version": "1", "precision": "fp32", "threads": "1", "sha256": "00"}
        )

    async def run(self, tile, logits):
        await asyncio.sleep(0)
        logits[:] = self.engine.run(tile.reshape(96, 96, 96)).reshape(-1)


def go_on(stage, done, total):
    return False


def value(answer):
    """The value of an answer; an error fails the test."""
    found = json.loads(answer)
    assert "error" not in found, found
    return found["value"]


def segment(worker, folder, out, report=go_on, engine=None, **request):
    engine = Awaited(engine or ThresholdEngine(CENTERS))
    return asyncio.run(worker.segment(str(folder), str(out), json.dumps(request), engine, report))


@pytest.fixture(scope="module")
def worker():
    return Worker(str(default_bundle_path()))


@pytest.fixture(scope="module")
def series(tmp_path_factory):
    """A phantom as a DICOM series."""
    folder = tmp_path_factory.mktemp("series")
    write_dicom_series(phantom().volume, folder)
    return folder


def test_a_scan_becomes_files_arrays_and_a_summary(worker, series, tmp_path):
    """Progress goes through all stages, and a viewer gets NIfTI files on the scan's grid."""
    told = []
    answer = segment(
        worker, series, tmp_path / "out", lambda *step: told.append(step), accept_implausible=True
    )
    result = value(answer)
    assert list(dict.fromkeys(stage for stage, _, _ in told)) == [
        "read",
        "network",
        "measure",
        "write",
        "view",
    ]
    assert told[-1] == ("view", 0, 1)
    files = {path.name for path in (tmp_path / "out").iterdir()}
    assert files >= {"segmentation.nii.gz", "segmentation.dcm", "statistics.json", "statistics.csv"}
    assert not result["view"]["reduced"]
    for name, values in (("view_image", np.int16), ("view_labels", np.uint8)):
        file = tmp_path / f"{name}.nii"
        file.write_bytes(worker.arrays[f"{name}_header"].tobytes() + worker.arrays[name].tobytes())
        shown = nib.load(file)
        assert shown.get_data_dtype() == values
        assert np.array_equal(np.asarray(shown.dataobj).T, worker.arrays[name])
        written = nib.load(tmp_path / "out" / "segmentation.nii.gz")
        assert np.array_equal(shown.affine, written.affine)
    worker.clear()
    assert worker.arrays == {}


def test_an_organ_has_a_place_inside_it(worker, series, tmp_path):
    """In the space of the view, so that a tap goes there."""
    result = value(segment(worker, series, tmp_path / "out", accept_implausible=True))
    labels = nib.load(tmp_path / "out" / "segmentation.nii.gz")
    found = [organ for organ in result["organs"] if organ["voxels"]]
    assert len(found) > 3
    for organ in found:
        place = np.linalg.inv(labels.affine) @ (*organ["center_ras_mm"], 1)
        assert labels.dataobj[tuple(np.rint(place[:3]).astype(int))] == organ["label"]
        assert organ["volume_ml"] == organ["ml"]
        assert 0 < organ["expected_dice"] <= 1
    assert all(organ["center_ras_mm"] is None for organ in result["organs"] if not organ["voxels"])


@pytest.mark.parametrize(("share", "steps"), [(0.3, (1, 2, 2)), (0.2, (2, 2, 2)), (0.001, (2, 2, 2))])
def test_a_long_scan_is_shown_by_some_of_its_voxels(worker, series, tmp_path, share, steps):
    """Every second row and column, and slice if need be, on the grid of those; the labels stay whole."""
    voxels = int(share * phantom().labels.size)
    out = tmp_path / "out"
    result = value(segment(worker, series, out, accept_implausible=True, view_voxels=voxels))
    assert result["view"]["reduced"]
    every = tuple(slice(None, None, step) for step in steps)
    assert np.array_equal(worker.arrays["view_labels"], worker.arrays["labels"][every])
    header = nib.Nifti1Header(worker.arrays["view_labels_header"][:348].tobytes())
    scale = np.diag([*steps[::-1], 1])  # NIfTI counts columns first
    assert np.allclose(header.get_best_affine(), nib.load(out / "segmentation.nii.gz").affine @ scale)


@pytest.mark.parametrize("turned", [(0, 1, 2), (0, 2, 1), (2, 0, 1)])
@pytest.mark.parametrize("flips", [(1, 1, 1), (-1, 1, -1)])
def test_a_slice_is_found_however_the_scan_lies(turned, flips):
    """By a first voxel and steps, which stand for any turned or flipped array; places of organs agree."""
    upright = make_phantom(spacing_mm=(30.0, 40.0, 50.0))
    scan, labels, grid = upright.volume, upright.labels, upright.volume.grid
    orientation = Orientation(turned, tuple(flip < 0 for flip in flips))
    lying = Volume(orientation.from_canonical(scan.hu), orientation.input_grid(grid), scan.source)
    segmentation = Segmentation(orientation.from_canonical(labels), lying.grid, open_bundle().manifest.labels)
    organs = organs_for_page(segmentation, organ_statistics(lying, segmentation))
    view, arrays = lay_out_view(lying, segmentation, organs, labels.size)
    assert view["shape"] == list(labels.shape)
    assert np.allclose(view["spacing_mm"], grid.spacing_mm)
    z, y, x = np.indices(labels.shape)
    number = view["first"] + z * view["steps"][0] + y * view["steps"][1] + x * view["steps"][2]
    assert np.array_equal(arrays["view_labels"].reshape(-1)[number], labels)
    assert np.array_equal(arrays["view_image"].reshape(-1)[number], scan.hu)
    assert np.array_equal(arrays["view_3d"], labels)  # its sides are short
    found = [organ for organ in organs if organ["voxels"]]
    assert len(found) > 3
    assert all(labels[tuple(organ["center_zyx"])] == organ["label"] for organ in found)
    assert all(organ["center_zyx"] is None for organ in organs if not organ["voxels"])


@pytest.mark.parametrize("stage", ["read", "network", "view"])
def test_a_cancelled_run_stops_at_its_next_step(worker, series, tmp_path, stage):
    """With the code of a stop on request."""
    answer = segment(worker, series, tmp_path / "out", lambda at, *_: at == stage, accept_implausible=True)
    error = json.loads(answer)["error"]
    assert (error["code"], error["exitCode"]) == ("AE-CANCEL-001", 130)


def test_an_error_has_code_message_and_remedy(worker, tmp_path):
    """Those of the command line; text of a foreign error is not shown, as it may name a patient."""
    (tmp_path / "scan").mkdir()
    (tmp_path / "scan" / "notes.txt").write_text("hello")
    (tmp_path / "scan" / "more.txt").write_text("hello")
    error = json.loads(segment(worker, tmp_path / "scan", tmp_path / "out"))["error"]
    assert error["code"] == "AE-DICOM-001"
    assert error["exitCode"] == 3
    assert error["remedy"]

    class Broken:
        def run(self, tile):
            raise RuntimeError("Doe^Jane")

    scan = tmp_path / "one"
    scan.mkdir()
    nifti_file(phantom().volume, scan / "scan.nii")
    answer = segment(worker, scan, tmp_path / "out", engine=Broken())
    assert json.loads(answer)["error"]["code"] == "AE-ENGINE-004"
    assert "Doe" not in answer
    answer = segment(worker, scan, tmp_path / "out", nonsense=1)
    assert json.loads(answer)["error"]["code"] == "AE-INTERNAL-001"


def nifti_file(volume, path):
    header = nifti.nifti_header(volume.grid, volume.hu.dtype).binaryblock + b"\0" * 4
    path.write_bytes(header + np.ascontiguousarray(volume.hu).tobytes())


def test_one_file_and_a_pair_are_taken_as_what_they_are(worker, tmp_path):
    """A folder of one NIfTI file is that file; its series are none."""
    scan = tmp_path / "scan"
    scan.mkdir()
    nifti_file(phantom().volume, scan / "scan.nii")
    assert value(worker.list_series(str(scan))) == []
    result = value(segment(worker, scan, tmp_path / "out", accept_implausible=True))
    assert not (tmp_path / "out" / "segmentation.dcm").exists()
    pair = tmp_path / "pair"
    pair.mkdir()
    image = nib.load(scan / "scan.nii")
    nib.save(nib.Nifti1Pair(np.asarray(image.dataobj), image.affine), pair / "scan.img")
    assert {path.name for path in pair.iterdir()} == {"scan.img", "scan.hdr"}
    again = value(segment(worker, pair, tmp_path / "out2", accept_implausible=True))
    assert again["organs"] == result["organs"]


def test_series_are_listed_with_the_reason_why_one_is_less_suitable(worker, series, tmp_path):
    """The one that is read without a choice is marked, and its id is taken as `series`."""
    scan = tmp_path / "scan"
    shutil.copytree(series, scan / "whole")
    (scan / "short").mkdir()
    for number in (1, 2):
        image = pydicom.dcmread(sorted(series.iterdir())[number])
        image.SeriesInstanceUID = "1.2.3"
        image.save_as(scan / "short" / f"{number}.dcm")
    listed = value(worker.list_series(str(scan)))
    assert sorted(entry["slices"] for entry in listed)[0] == 2
    preferred = [entry for entry in listed if entry["preferred"]]
    assert [entry["reason"] for entry in preferred] == [""]
    (other,) = [entry for entry in listed if not entry["preferred"]]
    assert other["reason"].startswith("It has only 2 slices")
    value(segment(worker, scan, tmp_path / "out", series=preferred[0]["id"], accept_implausible=True))


def test_a_provider_that_computes_something_else_is_refused_by_name(worker):
    """Wrong logits, and logits that are not numbers."""
    for center in (0.0, float("nan")):
        wrong = Awaited(ThresholdEngine((*CENTERS[:-1], center)))
        error = json.loads(asyncio.run(worker.prove("onnx/fp32", "webgpu", wrong)))["error"]
        assert error["code"] == "AE-ENGINE-007"
        assert error["message"].startswith("onnx/fp32 with webgpu does not give the results of the export")


def test_the_golden_tile_passes_on_an_engine_that_is_right(worker):
    """All checks, and the demonstration scan and times of tiles on the way."""
    from autosam_edge.engines.selection import make_engine

    bundle = open_bundle()
    content = {"": bundle.read("onnx/fp32.onnx")}
    engine = Awaited(make_engine("onnx", content, sha256="00", precision="fp32"))
    checks = value(asyncio.run(worker.verify("onnx/fp32", "wasm", engine)))
    assert {check["verdict"] for check in checks} == {"passed"}
    assert checks[-1]["name"] == "onnx/fp32 with wasm"
    assert len(value(asyncio.run(worker.time_tiles(1, engine)))) == 1
    value(worker.demo())
    assert worker.arrays["view_image"].dtype == np.int16
    assert value(worker.artifact("onnx/fp32"))["path"] == "onnx/fp32.onnx"


def test_a_site_that_was_changed_on_its_way_is_refused(tmp_path):
    """The artifact is compared with the manifest before the network is loaded."""
    folder = tmp_path / "model"
    shutil.copytree(default_bundle_path(), folder)
    artifact = folder / "onnx" / "fp32.onnx"
    content = bytearray(artifact.read_bytes())
    content[1000] ^= 1
    artifact.write_bytes(content)
    assert json.loads(Worker(str(folder)).artifact("onnx/fp32"))["error"]["code"] == "AE-BUNDLE-004"
