"""A finished run is scored through the runtime's pipeline, where its network sees the training's input."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("monai")
from autosam_edge_test_recipes import HU, NAMES, prepare_boxes, recipe
from torch import nn

from autosam_edge.errors import InputError, OutputError, TrainingError
from autosam_edge.formats.nifti import read_array, read_nifti
from autosam_edge_training.data import AMOS_INTENSITY, BTCV_INTENSITY, Prepared
from autosam_edge_training.evaluate import score_run as score
from autosam_edge_training.evaluate import seen_cases
from autosam_edge_training.evaluate.evaluator import split_entries
from autosam_edge_training.evaluate.score_run import network_session, score_run
from autosam_edge_training.evaluate.scored_runs import read_run
from autosam_edge_training.evaluate.scores import read_csv
from autosam_edge_training.networks.checkpoint import read_metadata
from autosam_edge_training.networks.input_spec import NetworkInput
from autosam_edge_training.recipe_parts.run_folder import read_run_record

pytestmark = pytest.mark.usefixtures("one_thread")


class Oracle(nn.Module):
    """Knows each class by its HU, and notes what it is shown."""

    def __init__(self, intensity):
        super().__init__()
        values = (torch.tensor(HU, dtype=torch.float32) - intensity.offset) / intensity.scale
        self.values, self.sharpness = values.reshape(1, -1, 1, 1, 1), (intensity.scale / 10.0) ** 2
        self.tiles = []

    def forward(self, image):
        self.tiles.append(image.clone())
        return -self.sharpness * (image - self.values) ** 2


@pytest.fixture(scope="module")
def run(cubes, tmp_path_factory):
    """A finished run of a student, some steps long."""
    one = recipe("student", None)
    return one.train(one.config, cubes, tmp_path_factory.mktemp("scored") / "run").parent


@pytest.fixture
def knowing(monkeypatch, run):
    """Whatever file is opened, the oracle is in it."""
    metadata = read_metadata(run / "student.safetensors")

    def of(prepared):
        oracle = Oracle(prepared.intensity)
        monkeypatch.setattr(
            score,
            "open_network",
            lambda path, *, sam: (oracle.eval(), replace(metadata, input=NetworkInput.of(prepared))),
        )
        return oracle

    return of


def test_a_network_that_knows_is_right(run, cubes, knowing, tmp_path):
    """Through tiles, blending and restoration, on the scan's own grid: Dice and surface of both organs."""
    oracle = knowing(Prepared.read(cubes))
    score_run(run, cubes, tmp_path / "scored")
    means = read_run(tmp_path / "scored").means
    assert means["dice"] > 0.98
    assert means["nsd_1"] > 0.98
    assert len(oracle.tiles) == 27  # of 16^3, half over each other


@pytest.mark.parametrize(("spacing_mm", "at_least"), [((2.0, 2.0, 2.0), 0.9), ((3.0, 4.0, 4.0), 0.75)])
def test_it_is_right_on_another_grid_too(spacing_mm, at_least, run, knowing, tmp_path):
    """Finer and coarser than the scan: what is lost is lost at the organs' rims."""
    data = prepare_boxes(tmp_path, spacing_mm=spacing_mm)
    knowing(Prepared.read(data))
    score_run(run, data, tmp_path / "scored")
    dice = {score.organ: score.dice for score in read_csv(tmp_path / "scored" / "cases.csv")}
    assert dice.keys() == {"liver", "spleen"}
    assert min(dice.values()) > at_least


@pytest.mark.parametrize("intensity", [BTCV_INTENSITY, AMOS_INTENSITY], ids=["btcv", "amos"])
def test_the_network_sees_what_it_saw_in_training(intensity, tmp_path):
    """BTCV's [0, 1] and AMOS's (x - 50) / 141: the one tile of a scan is the prepared case, normalized."""
    prepared = Prepared.read(prepare_boxes(tmp_path, intensity=intensity, noise_hu=400.0))
    oracle = Oracle(intensity)
    (entry,) = split_entries(prepared, "test")
    session = network_session(oracle, prepared, name="oracle", patch=(32, 32, 32), overlap=0.5)
    found = session.segment(read_nifti(entry.image))
    (tile,) = oracle.tiles
    case = prepared.case("test0")
    trained_on = case.image_in(case.whole)
    assert tile.dtype == torch.float32
    assert np.abs(tile[0, 0].numpy() - trained_on).max() < 1e-5
    low, high = ((hu - intensity.offset) / intensity.scale for hu in intensity.window_hu)
    assert (tile.min().item(), tile.max().item()) == pytest.approx((low, high), abs=1e-5)
    assert [label.name for label in found.table] == list(NAMES[1:])


def test_the_three_files_are_of_one_run(run, cubes, tmp_path):
    """``reproduce`` reads them: what was run, every case and organ, the means."""
    told = []
    assert score_run(run, cubes, tmp_path / "scored", log=told.append) == tmp_path / "scored"
    written = {path.name for path in (tmp_path / "scored").iterdir()}
    assert {"run.json", "cases.csv", "summary.json"} <= written
    facts = read_run(tmp_path / "scored").facts
    record = read_run_record(run)
    assert (facts.method, facts.network, facts.dataset) == ("student", "monai:UNet", "btcv")
    assert (facts.weight, facts.reduction, facts.apg) == (None, None, None)
    assert (facts.seed, facts.steps, facts.smoke) == (0, 5, False)
    assert facts.trainable_parameters == facts.total_parameters > 100
    assert facts.spacing_mm == (3.0, 3.0, 3.0)
    assert (facts.machine, facts.commit) == (record.machine, record.commit)
    assert facts.data_sha256 == Prepared.read(cubes).manifest_sha256
    scores = read_csv(tmp_path / "scored" / "cases.csv")
    assert [(score.case, score.organ) for score in scores] == [("test0", "liver"), ("test0", "spleen")]
    assert len(told) == 1
    assert "test0" in told[0]


def test_a_distilled_run_tells_its_lambda_and_a_teacher_its_prompts(cubes, taught, autosam_teacher, tmp_path):
    """And a teacher how many of its weights trained."""
    one = recipe("distill", taught)
    distilled = one.train(one.config, cubes, tmp_path / "run").parent
    facts = read_run(score_run(distilled, cubes, tmp_path / "a")).facts
    assert (facts.method, facts.network) == ("distill", "monai:UNet")
    assert (facts.weight, facts.reduction, facts.apg) == (0.5, "voxel", None)
    facts = read_run(score_run(autosam_teacher.parent, cubes, tmp_path / "b", overlap=0.25)).facts
    assert (facts.method, facts.network) == ("teacher", "autosam-vit-tiny")
    assert (facts.weight, facts.apg, facts.smoke) == (None, True, True)
    assert 0 < facts.trainable_parameters < facts.total_parameters
    assert json.loads((tmp_path / "b" / "summary.json").read_text())["overlap"] == 0.25


def test_another_split_can_be_scored(run, cubes, tmp_path):
    """The validation case is another one, and the summary says which split it is."""
    score_run(run, cubes, tmp_path / "v", split="validation")
    assert {s.case for s in read_csv(tmp_path / "v" / "cases.csv")} == {"validation0"}
    assert json.loads((tmp_path / "v" / "summary.json").read_text())["data"] == "btcv validation"


def test_a_data_set_of_any_name_is_scored(tmp_path):
    """A Decathlon data set has the name of its ``dataset.json``: it stands in all three files."""
    data = prepare_boxes(tmp_path, dataset="MSD-Task09_Spleen")
    one = recipe("student", None)
    run = one.train(one.config, data, tmp_path / "run").parent
    scored = read_run(score_run(run, data, tmp_path / "scored"))
    assert scored.facts.dataset == "MSD-Task09_Spleen"
    assert json.loads((tmp_path / "scored" / "summary.json").read_text())["data"] == "MSD-Task09_Spleen test"


def test_predictions_lie_on_the_scans_grid(run, cubes, knowing, tmp_path):
    """A NIfTI file per case, with the labels that the scores are of."""
    knowing(Prepared.read(cubes))
    score_run(run, cubes, tmp_path / "scored", labels=tmp_path / "found")
    assert [path.name for path in (tmp_path / "found").iterdir()] == ["test0.nii.gz"]
    labels, grid = read_array(tmp_path / "found" / "test0.nii.gz")
    (entry,) = split_entries(Prepared.read(cubes), "test")
    truth, expected = read_array(entry.label)
    assert grid.shape == expected.shape
    assert np.allclose(grid.affine, expected.affine)
    assert (labels == truth).mean() > 0.99
    assert set(np.unique(labels)) == {0, 1, 2}


def test_an_unfinished_run_is_refused(run, cubes, tmp_path):
    """A folder without weights, and one that is no run; nothing is made."""
    (tmp_path / "run").mkdir()
    with pytest.raises(TrainingError, match="AE-TRAIN-003"):
        score_run(tmp_path / "run", cubes, tmp_path / "scored")
    (tmp_path / "run" / "config.json").write_bytes((run / "config.json").read_bytes())
    with pytest.raises(TrainingError, match="AE-TRAIN-007"):
        score_run(tmp_path / "run", cubes, tmp_path / "scored")
    assert not (tmp_path / "scored").exists()


def test_other_data_than_those_of_the_run_are_refused(run, tmp_path):
    """Other labels on the same grid: AE-TRAIN-008."""
    data = prepare_boxes(tmp_path, names=("background", "spleen", "liver"))
    with pytest.raises(TrainingError, match="AE-TRAIN-008.*other labels"):
        score_run(run, data, tmp_path / "scored")
    assert not (tmp_path / "scored").exists()


@pytest.mark.parametrize("name", ["student", "teacher", "distill"])
def test_a_network_is_not_scored_on_what_it_has_seen(name, cubes, taught, tmp_path):
    """AE-TRAIN-028 with the cases' names; what was held out is scored."""
    one = recipe(name, taught)
    run = one.train(one.config, cubes, tmp_path / "run").parent
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seen_cases, "split_entries", lambda prepared, _: split_entries(prepared, "training"))
        with pytest.raises(TrainingError, match="AE-TRAIN-028.*training0, training1 of the test split"):
            score_run(run, cubes, tmp_path / "scored")
    assert not (tmp_path / "scored").exists()
    score_run(run, cubes, tmp_path / "scored")


def test_a_case_of_the_same_name_in_another_data_set_is_told(run, knowing, tmp_path, monkeypatch):
    """Whether it is another scan is not known here: the data set is named, and what to do if it is."""
    data = prepare_boxes(tmp_path)
    knowing(Prepared.read(data))
    network, metadata = score.open_network(run, sam=None)
    datasets = {**metadata.datasets, "partial": ("test0",)}
    monkeypatch.setattr(
        score, "open_network", lambda path, *, sam: (network, replace(metadata, datasets=datasets))
    )
    with pytest.raises(TrainingError, match="AE-TRAIN-028.*test0 of the data set partial.*other scans"):
        score_run(run, data, tmp_path / "scored")


def test_an_occupied_folder_is_refused_before_the_work(run, cubes, knowing, tmp_path):
    """What is there stays, and the network is not asked."""
    oracle = knowing(Prepared.read(cubes))
    (tmp_path / "scored").mkdir()
    (tmp_path / "scored" / "mine.txt").write_text("mine")
    for folders in ({"out": tmp_path / "scored"}, {"out": tmp_path / "o", "labels": tmp_path / "scored"}):
        with pytest.raises(OutputError, match="AE-OUTPUT-002"):
            score_run(run, cubes, **folders)
    assert [path.name for path in (tmp_path / "scored").iterdir()] == ["mine.txt"]
    assert oracle.tiles == []


@pytest.mark.parametrize("labels", ["scored", "scored/labels"])
def test_labels_within_the_scores_are_refused_before_the_work(labels, run, cubes, knowing, tmp_path):
    """Both folders appear whole, so that none can lie in the other."""
    oracle = knowing(Prepared.read(cubes))
    with pytest.raises(OutputError, match="AE-OUTPUT-002.*lies in that of the scores"):
        score_run(run, cubes, tmp_path / "scored", labels=tmp_path / labels)
    assert oracle.tiles == []
    assert not (tmp_path / "scored").exists()


def test_a_run_on_phantoms_is_scored_as_a_smoke_run(tmp_path):
    """Also where its recipe does not say so."""
    data = prepare_boxes(tmp_path, dataset="phantoms")
    one = recipe("student", None)
    run = one.train(one.config, data, tmp_path / "run").parent
    assert read_run(score_run(run, data, tmp_path / "scored")).facts.smoke


def test_a_scan_that_changed_since_leaves_nothing(run, tmp_path):
    """AE-DATA-008 from the evaluator; the folder does not appear."""
    data = prepare_boxes(tmp_path)
    (entry,) = split_entries(Prepared.read(data), "test")
    with entry.image.open("ab") as file:
        file.write(b"more")
    with pytest.raises(InputError, match="AE-DATA-008"):
        score_run(run, data, tmp_path / "scored")
    assert {path.name for path in tmp_path.iterdir()} == {"scans", "prepared"}
