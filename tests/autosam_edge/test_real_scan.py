"""The main job on a real abdomen.

Other tools read the files alike, organs have human sizes, streaming changed no label.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import autosam_edge
from autosam_edge.output_formats import DICOM_FORMATS, FILE_NAMES, FORMATS

pytestmark = pytest.mark.slow
COMMAND = [sys.executable, "-m", "autosam_edge"]


@pytest.fixture(scope="module")
def result(tcga_series, tmp_path_factory):
    out = tmp_path_factory.mktemp("real") / "out"
    finished = subprocess.run(
        [*COMMAND, "segment", tcga_series, "-o", out, "--format", ",".join(FORMATS), "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stderr
    return out, json.loads(finished.stdout)


def test_the_large_organs_have_human_volumes(result):
    """This patient has a large pelvic mass and ascites, so the ranges are wide."""
    ml = {organ["name"]: organ["ml"] for organ in result[1]["organs"]}
    ranges = {
        "liver": (700, 3500),
        "spleen": (80, 600),
        "kidney_left": (60, 350),
        "kidney_right": (60, 350),
        "aorta": (40, 300),
    }
    assert {organ: ml[organ] for organ, (low, high) in ranges.items() if not low <= ml[organ] <= high} == {}


def test_simpleitk_finds_the_same_grid_in_the_nifti_and_the_series(result, tcga_series):
    """Origin, spacing and direction to 1e-4, and the same number of voxels."""
    sitk = pytest.importorskip("SimpleITK")
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tcga_series)))
    source = reader.Execute()
    nifti = sitk.ReadImage(str(result[0] / "segmentation.nii.gz"))
    assert nifti.GetSize() == source.GetSize()
    for what in ("GetOrigin", "GetSpacing", "GetDirection"):
        np.testing.assert_allclose(getattr(nifti, what)(), getattr(source, what)(), atol=1e-4, err_msg=what)


def test_highdicom_reads_the_labels_of_the_nifti_from_the_seg(result, tcga_series):
    """Every voxel of every segment, placed by its position in the patient."""
    hd = pytest.importorskip("highdicom")
    from autosam_edge.formats.nifti import read_array

    labels, _ = read_array(result[0] / "segmentation.nii.gz")
    volume = autosam_edge.read(tcga_series)
    seg = hd.seg.segread(result[0] / "segmentation.dcm")
    names = {organ["name"].lower().replace(" ", "_"): organ["label"] for organ in result[1]["organs"]}
    uids = [autosam_edge_uid(path) for path in volume.source.files]
    found = np.zeros(labels.shape, dtype=np.uint8)
    for number in range(1, seg.number_of_segments + 1):
        pixels = seg.get_pixels_by_source_instance(
            uids, segment_numbers=[number], assert_missing_frames_are_empty=True
        )[..., 0]
        label = seg.get_segment_description(number).segment_label
        found[pixels > 0] = (
            names[label.lower().replace(" ", "_")]
            if label.lower().replace(" ", "_") in names
            else _by_title(label)
        )
    np.testing.assert_array_equal(found, labels)


def autosam_edge_uid(path):
    import pydicom

    return str(
        pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SOPInstanceUID"]).SOPInstanceUID
    )


def _by_title(title):
    return {label.title: label.value for label in autosam_edge.open_bundle().manifest.labels}[title]


@pytest.mark.parametrize("name", sorted(set(DICOM_FORMATS) - {"dicom-seg-labelmap"}))
def test_dciodvfy_has_no_error(result, name):
    """Debian's dicom3tools on each DICOM file that its release of 2022 knows."""
    tool = shutil.which("dciodvfy")
    if tool is None:
        pytest.skip("dciodvfy (Debian package dicom3tools) is not installed")
    finished = subprocess.run(
        [tool, str(result[0] / FILE_NAMES[name])], capture_output=True, text=True, check=False
    )
    assert [
        line for line in (finished.stdout + finished.stderr).splitlines() if line.startswith("Error")
    ] == []


def test_the_sizes_of_the_page_of_results_are_those_of_this_scan(result):
    """docs/results.md says each within a tenth, as far as its digits allow."""
    page = (Path(__file__).parents[2] / "docs" / "results.md").read_text()
    told = {row[0]: row[1] for row in re.findall(r"\| `([\w.]+)` \| ([\d.]+) \|", page)}
    assert set(told) == set(FILE_NAMES.values())
    for name, size in told.items():
        last_digit = 10.0 ** -len(size.partition(".")[2])
        actual = (result[0] / name).stat().st_size / 1e6
        assert actual == pytest.approx(float(size), abs=0.1 * actual + 0.5 * last_digit), name


def test_the_report_has_the_numbers_of_the_statistics(result):
    """Volume of each organ that was found, by its title."""
    hd = pytest.importorskip("highdicom")
    report = hd.sr.srread(result[0] / "measurements.dcm")
    volumes = {
        group.tracking_identifier: group.get_measurements(hd.sr.CodedConcept("118565006", "SCT", "Volume"))[
            0
        ].value
        for group in report.content.get_volumetric_roi_measurement_groups()
    }
    organs = json.loads((result[0] / "statistics.json").read_text())["organs"]
    assert volumes == {organ["title"]: round(organ["ml"], 4) for organ in organs if organ["voxels"]}


def test_streaming_equals_monai(tcga_series):
    """At least 99.9 % of the voxels have the label of MONAI's sliding window on the torch student."""
    pytest.importorskip("monai")
    from autosam_edge_benchmarks.studies.streaming_parity import measure_streaming_parity

    report = measure_streaming_parity(autosam_edge.open_bundle(), autosam_edge.read(tcga_series))
    assert report["agreement"] >= 0.999
    assert report["agreement_in_organs"] >= 0.999
