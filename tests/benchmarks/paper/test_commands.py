"""``reproduce`` and ``baseline`` on the command line."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("monai")
import typer
from typer.testing import CliRunner

from autosam_edge.cli import app
from autosam_edge.cli.options import named_paths
from autosam_edge.errors import InputError, TrainingError
from autosam_edge.formats.nifti import read_array, read_nifti, write_nifti
from autosam_edge.labels import label_table
from autosam_edge.volume import Segmentation
from autosam_edge_benchmarks.paper.figures import read_montage
from autosam_edge_training.data import Manifest, prepare_phantoms


def run(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def phantoms(tmp_path_factory):
    folder = tmp_path_factory.mktemp("commands") / "data"
    return prepare_phantoms(
        folder, validation=0, test=1, scan_spacing_mm=(8.0, 6.0, 6.0), spacing_mm=(8.0, 6.0, 6.0)
    )


@pytest.fixture
def predictions(phantoms, tmp_path):
    """The truth of the test case, as if a method had found it."""
    manifest = Manifest.read(phantoms / "manifest.json")
    (entry,) = manifest.entries("test")
    labels, grid = read_array(entry.label)
    (tmp_path / "found").mkdir()
    write_nifti(
        Segmentation(labels.copy(), grid, label_table(manifest.labels)),
        tmp_path / "found" / f"{entry.name}.nii.gz",
    )
    return tmp_path / "found"


def test_a_table_is_shown_and_written(write_run, tmp_path):
    """JSON on stdout is the JSON in the file; Markdown, CSV and the bars of figure 4 are written too."""
    write_run("a", {("1", "liver"): 0.8}, mean=0.8)
    result = run("reproduce", "figure4", "--results", write_run.results, "--json", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    result_json = json.loads(result.stdout)
    assert result_json == json.loads((tmp_path / "out" / "figure4.json").read_text())
    assert {path.suffix for path in (tmp_path / "out").iterdir()} == {".md", ".csv", ".json", ".png"}
    by_row = {row["row"]: row["values"]["dice"]["ours"] for row in result_json["rows"]}
    assert by_row["small-distilled"] == pytest.approx(80)
    assert by_row["tiny-alone"] is None


def test_a_broken_run_ends_the_command(write_run):
    """The error of the run, which the command line turns into its one line, and no table."""
    (write_run("a", {("1", "liver"): 0.8}, mean=0.8) / "run.json").write_text("{}")
    result = run("reproduce", "table4", "--results", write_run.results)
    assert result.exception.code == "AE-TRAIN-020"
    assert result.stdout == ""


@pytest.mark.parametrize(
    "arguments",
    [("table5",), ("table1", "--dataset", "flare"), ("figure3",), ("table4", "--results", "absent")],
)
def test_wrong_usage_is_exit_code_2(arguments):
    """An unknown exhibit, an unknown data set, a picture without a folder, a folder that is not there."""
    assert run("reproduce", *arguments).exit_code == 2


def test_without_the_stored_runs_a_table_says_so(tmp_path, monkeypatch):
    """Outside of a checkout the default folder of results is missing."""
    monkeypatch.chdir(tmp_path)
    result = run("reproduce", "table4")
    assert result.exit_code == 0
    assert "is not here" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("table2", "--predictions", "nonsense=/nowhere"), "--predictions"),
        (("figure4", "--cases", "x"), "--cases"),
        (("figure3", "--results", "."), "--results"),
        (("figure3", "--smoke", "--cases", "x"), "--cases"),
        (("table2", "--smoke", "--dataset", "btcv"), "--dataset"),
        (("figure1", "--out", "x"), "--out"),
    ],
)
def test_an_option_without_effect_is_refused(arguments, named):
    """Not passed over in silence."""
    result = run("reproduce", *arguments)
    assert result.exit_code == 2
    assert named in result.output
    assert "has no effect" in result.output


def test_a_seed_without_random_points_is_refused(tmp_path):
    """The points of the rule do not depend on it."""
    (tmp_path / "sam.pth").touch()
    given = ["--data", tmp_path, "--sam", tmp_path / "sam.pth", "-o", tmp_path / "out", "--seed", "3"]
    result = run("baseline", "sam-point", *given)
    assert result.exit_code == 2
    assert "--seed" in result.output


def test_a_place_must_be_named():
    """An empty one is not the current folder."""
    with pytest.raises(typer.BadParameter, match="NAME=FOLDER"):
        named_paths("--predictions", ["ours="], folders=True)


def test_figure_1_says_why_it_is_absent():
    """n/a with a reason, also as JSON."""
    result_json = json.loads(run("reproduce", "figure1", "--json").stdout)
    assert result_json["ours"] is None
    assert "t-SNE" in result_json["reason"]


def test_figure_3_shows_what_is_there(phantoms, predictions, tmp_path):
    """A method with a prediction is shown, one without is n/a."""
    (tmp_path / "none").mkdir()
    named = ["--predictions", f"ours={predictions}", "--predictions", f"nnU-Net={tmp_path / 'none'}"]
    (entry,) = Manifest.read(phantoms / "manifest.json").entries("test")
    named += ["--cases", f" {entry.name}, {entry.name}"]
    result = run("reproduce", "figure3", "--data", phantoms, *named, "--json", "-o", tmp_path / "out")
    assert result.exit_code == 0, result.output
    (shown,) = json.loads(result.stdout)["cases"].values()
    assert shown == {"ours": True, "nnU-Net": False}
    assert (tmp_path / "out" / "figure3.png").stat().st_size > 10_000


def test_figure_3_refuses_what_does_not_belong(phantoms, predictions):
    """A case that is not in the test split; a prediction on another grid than its scan."""
    manifest = Manifest.read(phantoms / "manifest.json")
    with pytest.raises(TrainingError) as caught:
        read_montage(manifest, ["0099"], {})
    assert caught.value.code == "AE-TRAIN-023"
    (entry,) = manifest.entries("test")
    scan = read_nifti(entry.image)
    moved = scan.grid.affine.copy()
    moved[:3, 3] += 5.0
    labels = np.zeros(scan.shape, np.uint8)
    write_nifti(
        Segmentation(labels, type(scan.grid)(scan.shape, moved), label_table(manifest.labels)),
        predictions / f"{entry.name}.nii.gz",
    )
    with pytest.raises(InputError) as caught:
        read_montage(manifest, None, {"m": predictions})
    assert caught.value.code == "AE-NIFTI-005"


def test_a_baseline_is_written_scored_and_recorded(phantoms, predictions, tmp_path):
    """Predictions are scored and recorded; phantoms are no data set of the paper, so no table shows them."""
    raw = run("baseline", "nnunet", "--data", phantoms, "-o", tmp_path / "raw", "--id", "9")
    assert raw.exit_code == 0, raw.output
    assert "nnUNetv2_train 9 3d_fullres all" in raw.stdout
    scored = tmp_path / "runs" / "nnunet"
    given = ["--predictions", predictions, "--method", "nnunet", "--data", phantoms]
    assert run("evaluate", *given, "-o", scored).exit_code == 0
    described = ["--network", "nnunet-3d-fullres", "--data", phantoms, "--tuned-parameters", "31000000"]
    recorded = run("baseline", "record", scored, *described)
    assert recorded.exit_code == 0, recorded.output
    facts = json.loads((scored / "run.json").read_text())
    assert facts["data_sha256"] == Manifest.read(phantoms / "manifest.json").sha256
    assert facts["smoke"] is True  # phantoms are no data set of the paper
    real = json.loads(run("reproduce", "table1", "--results", tmp_path / "runs", "--json").stdout)
    assert {row["values"]["dice"]["ours"] for row in real["rows"]} == {None}
