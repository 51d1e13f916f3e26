"""Each student has the time of its bundle and the scores of its own weights."""

from __future__ import annotations

import hashlib
import json

import pytest

pytest.importorskip("psutil")
pytest.importorskip("matplotlib")
pytest.importorskip("torch")
from autosam_edge.bundle import default_bundle_path
from autosam_edge.errors import BundleError
from autosam_edge.phantom import make_phantom
from autosam_edge.phantom.series import write_dicom_series
from autosam_edge_benchmarks.students import draw_students, measure_students

WEIGHTS = hashlib.sha256((default_bundle_path() / "student.safetensors").read_bytes()).hexdigest()
FACTS = {
    "method": "student",
    "network": "pocketnet",
    "dataset": "btcv",
    "lambda": None,
    "seed": 0,
    "steps": 7,
    "smoke": False,
}
FACTS |= {"trainable_parameters": 3, "total_parameters": 3_000_000, "weights_sha256": WEIGHTS}
FACTS |= dict.fromkeys(("reduction", "apg", "spacing_mm", "machine", "commit", "data_sha256"))


def write_scored(folder, **facts):
    """One case with one organ, Dice 0.8."""
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({**FACTS, **facts}))
    columns = "method,dataset,case,organ,dice,nsd_1,nsd_2,nsd_3,gt_voxels,pred_voxels,spacing"
    (folder / "cases.csv").write_text(f"{columns}\nstudent,btcv,1,liver,0.8,0.5,0.6,0.7,10,10,1x1x1\n")
    (folder / "summary.json").write_text('{"mean_dice": 0.8}')


def test_seconds_and_dice_are_of_the_same_weights(tmp_path):
    """The run is found by the hash of the bundle's weights among others; the picture is a PNG."""
    write_scored(tmp_path / "runs" / "mine")
    write_scored(tmp_path / "runs" / "other", weights_sha256="0" * 64, seed=1)
    (tmp_path / "scan").mkdir()
    write_dicom_series(make_phantom(3, spacing_mm=(6.0, 4.0, 4.0)).volume, tmp_path / "scan", seed=3)
    report = measure_students([default_bundle_path()], tmp_path / "runs", tmp_path / "scan", repeats=1)
    (entry,) = report["students"]
    assert (entry["run"], entry["network"], entry["dice"], entry["nsd_1"], entry["steps"]) == (
        "mine",
        "pocketnet",
        0.8,
        0.5,
        7,
    )
    assert 0 < entry["network_s"] < entry["wall_s"] < 300
    draw_students(report, tmp_path / "s.png")
    assert (tmp_path / "s.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("scored", [[], ["a", "b"]])
def test_a_student_without_its_scores_is_refused(scored, tmp_path):
    """None, or two that would have to be chosen from: AE-BUNDLE-006, before anything is timed."""
    for seed, name in enumerate(scored):
        write_scored(tmp_path / "runs" / name, seed=seed)
    with pytest.raises(BundleError, match=f"AE-BUNDLE-006: {len(scored)} scored runs"):
        measure_students([default_bundle_path()], tmp_path / "runs", tmp_path / "none")
