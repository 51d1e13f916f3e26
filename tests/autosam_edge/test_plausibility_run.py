"""The plausibility check in a run: what it measures, what is written, what the command line says."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from autosam_edge_test_hazards import hazard
from autosam_edge_test_support import LIMITS, make_model, run_command

import autosam_edge
from autosam_edge.engines.fake_engine import ThresholdEngine
from autosam_edge.errors import ImplausibleError
from autosam_edge.formats.nifti import write_nifti
from autosam_edge.geometry import Grid, Orientation
from autosam_edge.labels import BTCV_LABELS
from autosam_edge.phantom import make_phantom
from autosam_edge.plausibility.evidence import EvidenceCollector
from autosam_edge.plausibility.expected_dice import near_organs
from autosam_edge.session import Session
from autosam_edge.volume import Segmentation, Volume
from autosam_edge.warning_codes import ORGAN_CUT, VALUES_NOT_HU
from autosam_edge.write_results import write

AREA = "Plausibility of the labels"


def two_blocks():
    """Air, and two blocks of 40 and 200 HU with 64 and 8 ml; the second one reaches the upper end."""
    hu = np.full((40, 50, 60), -1000, np.int16)
    hu[4:36, 10:30, 10:40] = 40
    hu[32:40, 35:45, 45:55] = 200
    return hu


@pytest.mark.parametrize(
    "orientation",
    [Orientation((0, 1, 2), (False, False, False)), Orientation((2, 0, 1), (True, False, True))],
)
def test_a_run_measures_its_organs_in_patient_space(orientation):
    """Volume, median HU, center and faces of two blocks, whatever the order of the array."""
    hu, grid = two_blocks(), Grid.axis_aligned((40, 50, 60), (3.0, 2.0, 2.0), origin_mm=(5.0, 6.0, 7.0))
    volume = Volume(np.ascontiguousarray(orientation.from_canonical(hu)), orientation.input_grid(grid))
    limits = dataclasses.replace(LIMITS, abdomen_organs=None)  # these are two organs
    model = dataclasses.replace(make_model(spacing_mm=(3.0, 2.0, 2.0)), plausibility=limits)
    segmentation = Session(model, ThresholdEngine((-125.0, 40.0, 200.0))).segment(volume)
    measured = segmentation.plausibility.measured
    assert segmentation.verdict == "plausible"
    spleen, kidney = measured["organs"]["spleen"], measured["organs"]["kidney_right"]
    assert (spleen["median_hu"], kidney["median_hu"]) == (40.0, 200.0)
    assert spleen["ml"] == pytest.approx(32 * 20 * 30 * 12 / 1000, rel=0.15)
    np.testing.assert_allclose(spleen["center_mm"], (5 + 2 * 24.5, 6 + 2 * 19.5, 7 + 3 * 19.5), atol=1.6)
    assert (spleen["cut_by"], kidney["cut_by"]) == ([], ["upper end"])
    assert measured["confidence"] > 0.99
    assert measured["share_below_fat"] == pytest.approx(float((hu < -100).mean()), abs=0.01)


def test_a_fine_model_without_limits_says_which_organs_the_scan_cuts():
    """As that of the standard tier; the limits, of which it has none, give the verdict alone."""
    models = [make_model(spacing_mm=(spacing, 2.0, 2.0)) for spacing in (6.0, 3.0)]
    engines = [ThresholdEngine((-125.0, 40.0, 200.0)) for _ in models]
    session = Session(models[1], engines[1], coarse=Session(models[0], engines[0]))
    found = session.segment(Volume(two_blocks(), Grid.axis_aligned((40, 50, 60), (3.0, 2.0, 2.0))))
    assert (found.plausibility, found.provenance.parameters["coarse"]["found"]) == (None, "organs")
    cut = [warning.organ for warning in found.warnings if warning.code == ORGAN_CUT.code]
    assert cut == ["kidney_right"]


def test_the_confidence_is_the_mean_over_the_voxels_that_an_organ_wins():
    """Background does not count, nor do decision weights."""
    collector = EvidenceCollector()
    rows = np.zeros((1, 3, 1, 3), np.float32)
    rows[0, :, 0, 0] = (0.1, 0.8, 0.1)
    rows[0, :, 0, 1] = (0.2, 0.2, 0.6)
    rows[0, :, 0, 2] = (0.5, 0.3, 0.2)
    collector.push(near_organs(rows))
    zeros = np.zeros((1, 1, 3))
    evidence = collector.evidence(
        zeros, zeros.astype(np.uint8), Grid.axis_aligned((1, 1, 3), (3.0, 3.0, 3.0)), BTCV_LABELS
    )
    assert evidence.confidence == pytest.approx(0.7)
    assert evidence.organs == {}
    assert evidence.other_organs == pytest.approx(0.15)
    assert evidence.share_below_fat == 0.0


def test_a_model_without_thresholds_checks_nothing():
    """Its segmentation says so."""
    volume = Volume(two_blocks(), Grid.axis_aligned((40, 50, 60), (3.0, 3.0, 3.0)))
    segmentation = Session(make_model(), ThresholdEngine((-125.0, 40.0, 200.0))).segment(volume)
    assert (segmentation.plausibility, segmentation.verdict) == (None, None)


@pytest.fixture(scope="module")
def session():
    """The default bundle with its own thresholds."""
    return autosam_edge.open_session()


@pytest.fixture(scope="module")
def phantom():
    return make_phantom(5, spacing_mm=(4.0, 3.0, 3.0)).volume


def test_a_synthetic_abdomen_is_not_refused(session, phantom):
    """The network knows phantoms a little; the demonstration must pass."""
    assert session.segment(phantom).verdict != "implausible"


@pytest.fixture(scope="module")
def offset(session):
    """A part of a phantom, one tile large, in HU + 1024, as without a rescale intercept."""
    part = make_phantom(5, spacing_mm=(4.0, 3.0, 3.0), shape=(30, 60, 60)).volume
    volume = Volume(part.hu.astype(np.float32) + 1024.0, part.grid)
    return volume, session.segment(volume)


@hazard(AREA, "implausible labels", "nothing written; exit code 11")
def test_implausible_labels_are_not_written_unless_accepted(offset, tmp_path):
    """The folder stays away; accepted, each result names the reason."""
    volume, segmentation = offset
    assert segmentation.verdict == "implausible"
    with pytest.raises(ImplausibleError, match="AE-PLAUSIBLE-002"):
        write(volume, segmentation, tmp_path / "out", formats=("json", "csv"))
    assert not (tmp_path / "out").exists()
    files = write(volume, segmentation, tmp_path / "out", formats=("json", "csv"), accept_implausible=True)
    report = json.loads(files["json"].read_text())
    assert report["plausibility"]["verdict"] == "implausible"
    assert VALUES_NOT_HU.code in report["plausibility"]["reasons"]
    assert [w for w in report["warnings"] if w["code"] == VALUES_NOT_HU.code and w["severity"] == "doubtful"]
    assert ",implausible," in files["csv"].read_text().splitlines()[1]


def test_the_command_line_refuses_with_exit_code_11(offset, tmp_path):
    """One line on stderr that names the option; with the option the files are there."""
    volume, _ = offset
    labels = Segmentation(np.zeros(volume.shape, np.uint8), volume.grid, BTCV_LABELS)
    write_nifti(labels, tmp_path / "scan.nii.gz")
    import nibabel as nib

    image = nib.load(tmp_path / "scan.nii.gz")
    nib.save(nib.Nifti1Image(volume.hu.T, image.affine), tmp_path / "scan.nii.gz")
    command = ["segment", tmp_path / "scan.nii.gz", "-o", tmp_path / "out"]
    result = run_command(*command)
    assert result.returncode == 11, result.stderr
    assert "AE-PLAUSIBLE-002" in result.stderr
    assert "--accept-implausible" in result.stderr
    assert not (tmp_path / "out").exists()
    accepted = run_command(*command, "--accept-implausible", "--format", "json", "--json")
    assert accepted.returncode == 0, accepted.stderr
    assert json.loads(accepted.stdout)["plausibility"]["verdict"] == "implausible"


@hazard(AREA, "a phantom with its header mirrored", "refused or doubtful")
def test_a_mirrored_phantom_is_caught(session, phantom):
    """Left and right exchanged in the array, the header as before."""
    mirrored = Volume(np.ascontiguousarray(phantom.hu[:, :, ::-1]), phantom.grid)
    assert session.segment(mirrored).verdict in ("doubtful", "implausible")
