"""Every method is scored by one evaluator, on the scan's own grid, organ by name."""

from __future__ import annotations

import json
import math
import shutil
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest

pytest.importorskip("monai")
from autosam_edge_test_datasets import prepare_btcv, scan_and_labels, write_array, write_btcv
from autosam_edge_test_support import refused
from typer.testing import CliRunner

from autosam_edge.cli import app
from autosam_edge.errors import InputError
from autosam_edge.formats.nifti import read_array, write_nifti
from autosam_edge.labels import BTCV_LABELS, label_table
from autosam_edge.volume import Segmentation
from autosam_edge_training.data import BTCV_NAMES, LAYOUTS, Prepared, prepare_dataset, prepare_phantoms
from autosam_edge_training.evaluate.evaluator import evaluate_method, evaluate_predictions
from autosam_edge_training.evaluate.report import as_markdown, summarize
from autosam_edge_training.evaluate.scores import read_csv


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A small BTCV with two test cases; not to be changed."""
    return prepare_btcv(tmp_path_factory.mktemp("btcv"), "0001", "0035", "0036")


def truth_of(volume):
    """The truth of a made-up scan, found beside its image."""
    image = volume.source.files[0]
    return read_array(image.parents[1] / "labelsTr" / image.name.replace("img", "label"))[0]


def only_one(summary):
    return {summary[f"mean_{metric}"] for metric in ("dice", "nsd_1", "nsd_2", "nsd_3")}


def test_the_truth_itself_scores_one(prepared):
    """Each organ of each case once, with its size and the grid's spacing."""
    scores = evaluate_predictions(truth_of, prepared, "test", method="truth")
    assert [(s.case, s.organ) for s in scores] == [
        (case, organ) for case in ("0035", "0036") for organ in BTCV_NAMES[1:]
    ]
    assert only_one(summarize(scores)) == {1.0}
    assert {s.gt_voxels for s in scores} == {s.pred_voxels for s in scores}
    assert sum(s.gt_voxels for s in scores if s.case == "0035") == np.count_nonzero(scan_and_labels(35)[1])
    assert {s.spacing for s in scores} == {(3.0, 1.5, 1.5)}


def test_a_scan_that_is_labeled_in_part_is_scored_on_what_is_known(tmp_path):
    """Liver labeled, the rest not known: one row, and a voxel that is not known is no liver."""
    (tmp_path / "scans" / "images").mkdir(parents=True)
    (tmp_path / "scans" / "labels").mkdir()
    hu, labels = scan_and_labels(35)
    liver = BTCV_NAMES.index("liver")
    partly = np.where(labels == liver, liver, 255).astype(np.uint8)
    write_array(tmp_path / "scans" / "images" / "chest.nii.gz", hu)
    write_array(tmp_path / "scans" / "labels" / "chest.nii.gz", partly)
    (tmp_path / "scans" / "cases.json").write_text(json.dumps({"chest": {"known": [liver]}}))
    prepared = prepare_dataset(LAYOUTS["partial"](tmp_path / "scans"), tmp_path / "out")
    (row,) = evaluate_predictions(lambda _: labels, prepared, "training", method="truth")
    assert (row.organ, row.dice, row.gt_voxels) == ("liver", 1.0, np.count_nonzero(labels == liver))
    (row,) = evaluate_predictions(
        lambda _: np.full_like(labels, liver), prepared, "training", method="all of it"
    )
    assert row.dice < 0.5
    (tmp_path / "scans" / "cases.json").write_text(json.dumps({"chest": {"known": []}}))
    prepared = prepare_dataset(LAYOUTS["partial"](tmp_path / "scans"), tmp_path / "unknown")
    with pytest.raises(InputError, match="AE-DATA-011.*labeled everywhere"):
        evaluate_predictions(lambda _: labels, prepared, "training", method="truth")


def test_organs_are_matched_by_name(prepared):
    """A method with other numbers, fewer organs and one that the data set lacks: what both know is scored.

    Names are compared in the form that ``data prepare`` stores.
    """
    names = ["background", "Liver", "left atrium", "spleen"]

    def predict(volume):
        truth = truth_of(volume)
        return (
            1 * (truth == BTCV_NAMES.index("liver"))
            + 3 * (truth == BTCV_NAMES.index("spleen"))
            + 2 * (truth == 0)
        ).astype(np.uint8)

    scores = evaluate_predictions(predict, prepared, "test", method="m", names=names)
    assert {s.organ for s in scores} == {"liver", "spleen"}
    assert only_one(summarize(scores)) == {1.0}


def test_nothing_in_common_is_refused(prepared):
    """A lung model on an abdomen."""
    with refused("AE-DATA-011"):
        evaluate_predictions(truth_of, prepared, "test", method="m", names=["background", "lung"])


def test_an_empty_split_is_refused(prepared):
    """There is no validation case."""
    with refused("AE-DATA-005"):
        evaluate_predictions(truth_of, prepared, "validation", method="m")


@pytest.mark.parametrize(
    ("predict", "code"),
    [
        (lambda volume: truth_of(volume)[1:], "AE-NIFTI-005"),
        (lambda volume: truth_of(volume) + 14, "AE-DATA-003"),
    ],
)
def test_a_prediction_that_is_none_is_refused(predict, code, prepared):
    """Another shape, labels that nobody knows."""
    with refused(code):
        evaluate_predictions(predict, prepared, "test", method="m")


def test_a_label_that_changed_since_is_refused(tmp_path):
    """The evaluator reads the files that were prepared, or none."""
    write_btcv(tmp_path / "data", ("0001", "0035"))
    prepared = prepare_btcv(tmp_path)
    write_array(tmp_path / "data" / "labelsTr" / "label0035.nii.gz", np.zeros_like(scan_and_labels(35)[1]))
    with refused("AE-DATA-008"):
        evaluate_predictions(truth_of, prepared, "test", method="m")


def test_a_tilted_case_is_not_scored(tmp_path):
    """Distances between surfaces are measured along upright axes."""
    write_btcv(tmp_path / "data", ("0001", "0035"))
    for path in (
        tmp_path / "data" / "imagesTr" / "img0035.nii.gz",
        tmp_path / "data" / "labelsTr" / "label0035.nii.gz",
    ):
        image = nib.load(path)
        leaning = np.array(image.affine)
        leaning[2, 1] = 0.5
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj), leaning), path)
    prepared = prepare_btcv(tmp_path)
    with pytest.raises(InputError, match="case 0035 are tilted"):
        evaluate_predictions(truth_of, prepared, "test", method="m")


def session(predict, names):
    """What the evaluator needs of a runtime's session."""
    labels = [SimpleNamespace(value=value, name=name) for value, name in names.items()]
    model = SimpleNamespace(name="net-3mm", labels=labels, input=SimpleNamespace(overlap=0.25))
    engine = SimpleNamespace(description={"name": "fake"})
    return SimpleNamespace(
        segment=lambda volume: SimpleNamespace(labels=predict(volume)), model=model, engine=engine
    )


def test_a_session_is_scored_under_its_model_s_name(prepared):
    """The summary says which model, engine and overlap; numbers may have gaps."""
    liver = BTCV_NAMES.index("liver")
    scores, summary = evaluate_method(
        session(lambda volume: 5 * (truth_of(volume) == liver).astype(np.uint8), {5: "liver"}),
        prepared,
        "test",
    )
    assert {s.organ for s in scores} == {"liver"}
    assert summary["method"] == summary["model"] == "net-3mm"
    assert (summary["overlap"], summary["engine"]) == (0.25, {"name": "fake"})
    assert summary["manifest_sha256"] == prepared.manifest_sha256
    assert summary["mean_dice"] == 1.0
    assert summary["not_scored"] == [name for name in BTCV_NAMES[1:] if name != "liver"]
    assert "Organs that the model does not know; they are not in the means: spleen, " in as_markdown(summary)


@pytest.fixture
def predictions(tmp_path):
    """Files of another tool: one named by the case, one by the image."""
    write_array(tmp_path / "nnunet" / "0035.nii.gz", scan_and_labels(35)[1])
    write_array(
        tmp_path / "nnunet" / "img0036.nii.gz",
        np.where(scan_and_labels(36)[1] == 6, 0, scan_and_labels(36)[1]).astype(np.uint8),
    )
    return tmp_path / "nnunet"


def test_names_in_a_file_of_this_package_are_compared_as_they_are_stored(prepared, predictions):
    """The bundle says Right Kidney, the data set kidney_right."""
    path = predictions / "0035.nii.gz"
    labels, grid = read_array(path)
    table = label_table(["background", *(label.title for label in BTCV_LABELS)])
    write_nifti(Segmentation(labels.astype(np.uint8), grid, table), path)
    assert evaluate_method(predictions, prepared, "test")[1]["organs"]["kidney_right"]["dice"] == 1.0


def test_files_of_any_tool_are_scored(prepared, predictions):
    """Under the folder's name; an organ that was missed scores 0."""
    scores, summary = evaluate_method(predictions, prepared, "test")
    assert {s.method for s in scores} == {"nnunet"}
    assert summary["organs"]["liver"]["dice"] == 0.5
    assert summary["organs"]["spleen"]["dice"] == 1.0
    assert summary["engine"] is None


def test_an_organ_that_the_truth_lacks(tmp_path):
    """Skipped, or held against the method."""
    write_btcv(tmp_path / "data", ("0001", "0035"))
    no_liver = np.where(scan_and_labels(35)[1] == 6, 0, scan_and_labels(35)[1]).astype(np.uint8)
    write_array(tmp_path / "data" / "labelsTr" / "label0035.nii.gz", no_liver)
    prepared = prepare_btcv(tmp_path)
    write_array(tmp_path / "net" / "0035.nii.gz", scan_and_labels(35)[1])
    scores, summary = evaluate_method(tmp_path / "net", prepared, "test")
    (liver,) = [s for s in scores if s.organ == "liver"]
    assert math.isnan(liver.dice)
    assert (liver.gt_voxels, liver.pred_voxels > 0) == (0, True)
    ml = liver.pred_voxels * 3.0 * 1.5 * 1.5 / 1000
    assert summary["false_positives"] == {"liver": {"cases": 1, "ml": pytest.approx(ml)}}
    assert f"they are not in the means: liver (cases: 1, {ml:.1f} ml)." in as_markdown(summary)
    scores, _ = evaluate_method(tmp_path / "net", prepared, "test", absent_organ="challenge")
    (liver,) = [s for s in scores if s.organ == "liver"]
    assert liver.dice == liver.nsd_1 == 0.0


def write_other_organs(folder):
    """A result of this package, of a model with other organs."""
    path = folder / "0035.nii.gz"
    grid = read_array(path)[1]
    table = label_table(["background", "liver", "tumor"])
    write_nifti(Segmentation(np.zeros(grid.shape, np.uint8), grid, table), path)


def write_scaled(folder):
    """Floats that nibabel stores in one byte, with a factor."""
    labels = nib.load(folder / "0035.nii.gz")
    image = nib.Nifti1Image(np.asarray(labels.dataobj).clip(0, 1).astype(np.float64), labels.affine)
    image.set_data_dtype(np.uint8)
    nib.save(image, folder / "0035.nii.gz")


def write_without_position(folder):
    """Neither sform nor qform."""
    image = nib.load(folder / "0035.nii.gz")
    image.set_sform(None, 0)
    image.set_qform(None, 0)
    nib.save(image, folder / "0035.nii.gz")


@pytest.mark.parametrize(
    ("break_it", "code"),
    [
        (lambda folder: (folder / "0035.nii.gz").unlink(), "AE-DATA-010"),
        (lambda folder: shutil.copy(folder / "0035.nii.gz", folder / "img0035.nii.gz"), "AE-DATA-010"),
        (
            lambda folder: write_array(folder / "0035.nii.gz", scan_and_labels(35)[1], shift_mm=1.5),
            "AE-NIFTI-005",
        ),
        (lambda folder: write_array(folder / "0035.nii.gz", scan_and_labels(35)[1][:-1]), "AE-NIFTI-005"),
        (
            lambda folder: write_array(folder / "0035.nii.gz", scan_and_labels(35)[1] + np.uint8(1)),
            "AE-DATA-003",
        ),
        (lambda folder: (folder / "0035.nii.gz").write_bytes(b"x"), "AE-NIFTI-001"),
        (write_other_organs, "AE-DATA-009"),
        (write_scaled, "AE-DATA-003: the prediction .*such as 1.00000005913"),
        (write_without_position, "AE-NIFTI-003: the prediction .* Remedy: Save the prediction again"),
    ],
    ids=[
        "missing",
        "two",
        "moved",
        "other shape",
        "unknown label",
        "damaged",
        "another model's",
        "scaled",
        "nowhere",
    ],
)
def test_predictions_that_cannot_be_scored_are_refused(break_it, code, prepared, predictions):
    """Rather than resampled, clipped or guessed; the message tells of which case."""
    break_it(predictions)
    with pytest.raises(InputError, match=f"^{code}") as caught:
        evaluate_method(predictions, prepared, "test")
    assert "0035" in caught.value.message


def test_a_prediction_along_other_axes_is_scored(prepared, predictions):
    """The same voxels in the order of another tool, and none is resampled."""
    expected = evaluate_method(predictions, prepared, "test")[0]
    path = predictions / "0035.nii.gz"
    image = nib.load(path)
    turned = image.as_reoriented(np.array([[2, -1], [0, 1], [1, -1]]))
    assert turned.shape != image.shape
    nib.save(turned, path)
    assert evaluate_method(predictions, prepared, "test")[0] == expected


def test_a_prediction_may_have_the_name_of_the_label(tmp_path):
    """nnU-Net names an image x_0000.nii.gz, its label x.nii.gz, and so its prediction."""
    write_array(tmp_path / "data" / "imagesTr" / "x_0000.nii.gz", scan_and_labels(35)[0])
    write_array(tmp_path / "data" / "labelsTr" / "x.nii.gz", scan_and_labels(35)[1])
    pairs = [{"image": "imagesTr/x_0000.nii.gz", "label": "labelsTr/x.nii.gz"}]
    labels = {str(value): name for value, name in enumerate(BTCV_NAMES)}
    description = {"labels": labels, "modality": {"0": "CT"}, "training": pairs}
    (tmp_path / "data" / "dataset.json").write_text(json.dumps(description))
    prepared = prepare_dataset(LAYOUTS["decathlon"](tmp_path / "data"), tmp_path / "out")
    write_array(tmp_path / "net" / "x.nii.gz", scan_and_labels(35)[1])
    (split,) = [split for split in ("training", "validation", "test") if prepared.manifest.entries(split)]
    assert evaluate_method(tmp_path / "net", prepared, split)[1]["mean_dice"] == 1.0


def test_the_command_tells_what_the_model_has_seen(prepared, tmp_path, monkeypatch):
    """On stderr before the work, below the table, and in the files."""
    fake = session(lambda volume: truth_of(volume).astype(np.uint8), dict(enumerate(BTCV_NAMES)))
    monkeypatch.setattr("autosam_edge_training.cli.evaluate.open_session", lambda *_, **__: fake)
    for split, seen in (("training", ["0001"]), ("test", None)):
        out = tmp_path / split
        result = command("evaluate", "--data", prepared.folder, "--split", split, "-o", out)
        assert result.exit_code == 0, result.output
        assert json.loads((out / "summary.json").read_text()).get("seen") == seen
        assert ("warning: the model" in result.stderr) == bool(seen)
        for text in (result.stdout, (out / "summary.md").read_text()):
            assert ("is better on the same scans: 0001." in text) == bool(seen)


def command(*arguments):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_the_command_scores_predictions_and_compares(prepared, predictions, tmp_path):
    """`evaluate` twice, `compare` once: tables in the folders, JSON on stdout."""
    shutil.copytree(predictions, tmp_path / "perfect")
    write_array(tmp_path / "perfect" / "img0036.nii.gz", scan_and_labels(36)[1])
    for folder, method in ((tmp_path / "perfect", "ours"), (predictions, "theirs")):
        options = ["--predictions", folder, "--method", method, "-o", tmp_path / method]
        result = command("evaluate", "--data", prepared.folder, *options, "--json")
        assert result.exit_code == 0, result.output
        assert json.loads(result.stdout) == json.loads((tmp_path / method / "summary.json").read_text())
        assert {row.method for row in read_csv(tmp_path / method / "cases.csv")} == {method}
    tables = [tmp_path / method / "cases.csv" for method in ("ours", "theirs")]
    result = command("compare", *tables, "-o", tmp_path / "cmp", "--json")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    first = facts["comparisons"][0]
    assert (first["n"], first["zeros"], first["p"]) == (1, 25, 1.0)
    assert sorted(path.name for path in (tmp_path / "cmp").iterdir()) == [
        "compare.csv",
        "compare.json",
        "compare.md",
    ]


@pytest.mark.parametrize(
    "options",
    [
        ("--split", "all"),
        ("--absent-organ", "zero"),
        ("--bundle", "b.edge", "--predictions", "."),
        ("--tier", "fast", "--predictions", "."),
    ],
    ids=["split", "empty", "bundle and predictions", "tier and predictions"],
)
def test_a_command_that_means_nothing_is_refused(options, prepared):
    """Exit code 2."""
    assert command("evaluate", "--data", prepared.folder, *options).exit_code == 2


def test_comparing_needs_two_tables(tmp_path):
    """One method is not better than itself."""
    (tmp_path / "cases.csv").write_text("x")
    assert command("compare", tmp_path / "cases.csv").exit_code == 2


@pytest.mark.slow
def test_the_default_bundle_is_scored_through_the_runtime(tmp_path):
    """A phantom from files to table: the embedded model finds most of a synthetic liver."""
    folder = prepare_phantoms(
        tmp_path / "out", training=1, validation=0, test=1, spacing_mm=(12.0, 12.0, 12.0)
    )
    result = command("evaluate", "--data", Prepared.read(folder).folder, "--tier", "fast", "--json")
    assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["organs"]["liver"]["dice"] > 0.5
