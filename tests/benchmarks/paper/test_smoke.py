"""The whole path of every exhibit: with stand-ins for the training, and with the recipes themselves."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest

pytest.importorskip("monai")
from autosam_edge.formats.nifti import read_array, write_nifti
from autosam_edge.label_table import label_table
from autosam_edge.report.montage import draw_montage
from autosam_edge.volume import Segmentation
from autosam_edge_benchmarks.paper.published import EXHIBITS
from autosam_edge_benchmarks.paper.smoke import Recipes, smoke_montage, smoke_table
from autosam_edge_benchmarks.paper.tables import SMOKE_TITLE
from autosam_edge_training.data import Manifest, Prepared, prepare_phantoms
from autosam_edge_training.evaluate import (
    evaluate_predictions,
    from_files,
    report,
    split_entries,
    write_results,
)
from autosam_edge_training.evaluate.scored_runs import RunFacts, write_facts

TABLES = [name for name in EXHIBITS if name not in ("figure1", "figure3")]


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory):
    return prepare_phantoms(
        tmp_path_factory.mktemp("phantoms") / "data",
        scan_spacing_mm=(8.0, 6.0, 6.0),
        spacing_mm=(8.0, 6.0, 6.0),
    )


class StandIns:
    """Recipes that train nothing: a run is its facts, and a prediction is the truth moved by some voxels."""

    def __init__(self, phantoms):
        self.phantoms, self.trained = phantoms, []
        self.recipes = Recipes(
            self.prepare, self.teacher, self.student, self.distill, self.score, self.predict
        )

    def prepare(self, out):
        return shutil.copytree(self.phantoms, out)

    def _run(self, out, **facts):
        out.mkdir(parents=True)
        (out / "facts.json").write_text(json.dumps({"weight": None, "apg": None, **facts}))
        self.trained.append(out.name)
        return out

    def teacher(self, apg, data, out):
        return self._run(out, method="teacher", network="tiny-teacher", apg=apg)

    def student(self, role, data, out):
        return self._run(out, method="student", network=f"{role}-net")

    def distill(self, role, weight, data, teacher, out):
        assert teacher.name == "teacher"
        return self._run(out, method="distill", network=f"{role}-net", weight=weight)

    def predict(self, run, data, out):
        out.mkdir(parents=True)
        manifest = Manifest.read(data / "manifest.json")
        for entry in manifest.entries("test"):
            labels, grid = read_array(entry.label)
            moved = np.roll(labels, len(self.trained), axis=2).astype(np.uint8)
            write_nifti(Segmentation(moved, grid, label_table(manifest.labels)), out / f"{entry.name}.nii.gz")
        return out

    def score(self, run, data, out):
        facts = json.loads((run / "facts.json").read_text())
        prepared = Prepared.read(data)
        predictions = from_files(
            self.predict(run, data, run / "predictions"), split_entries(prepared, "test"), prepared.classes
        )
        scores = evaluate_predictions(predictions, prepared, "test", method=facts["method"])
        write_results(out, scores, report(scores, "test", {}))
        same = {
            "seed": 0,
            "steps": 1,
            "trainable_parameters": 10,
            "total_parameters": 20,
            "spacing_mm": (8.0, 6.0, 6.0),
        }
        where = {"machine": "here", "commit": None, "data_sha256": prepared.manifest_sha256, "smoke": True}
        write_facts(RunFacts(**facts, dataset="phantoms", reduction=None, **same, **where), out)
        return out


EXPECTED = {
    "table1": {"ours": ["teacher"]},
    "table2": {"ours": ["teacher"]},
    "table3": {"with": ["teacher"], "without": ["teacher-without"]},
    "table4": {key: [f"small-{key}"] for key in ("0", "0.2", "0.5", "0.8", "1")},
    "figure4": {key: [key] for key in ("tiny-alone", "tiny-distilled", "small-alone", "small-distilled")},
}


@pytest.mark.parametrize("exhibit", TABLES)
def test_each_run_lands_in_its_row(exhibit, phantoms):
    """Every row that smoke fills has the one run made for it, scored on the phantoms; the others have none; the title warns."""
    table = smoke_table(exhibit, StandIns(phantoms).recipes, say=lambda _: None)
    assert SMOKE_TITLE in table.title
    assert {
        line.row.key: [run.folder.name for run in line.runs] for line in table.lines if line.runs
    } == EXPECTED[exhibit]
    assert all(0 <= cell.ours.mean <= 100 for line in table.lines if line.runs for cell in line.cells)
    assert {line.dataset for line in table.lines} == {"btcv"}


def test_distilled_students_share_one_teacher(phantoms):
    """Table 4: one teacher, four distilled students, one student alone."""
    stand_ins = StandIns(phantoms)
    smoke_table("table4", stand_ins.recipes, say=lambda _: None)
    assert stand_ins.trained == ["teacher", "small-0", "small-0.2", "small-0.5", "small-0.8", "small-1"]


def test_the_montage_of_a_smoke_run_has_both_methods(phantoms):
    """Predictions are read back from files on the scan's own grid, and the picture is drawn."""
    with smoke_montage(StandIns(phantoms).recipes, say=lambda _: None) as (cases, table):
        assert [list(case.found) for case in cases] == [["ground truth", "teacher", "small"]]
        assert all(labels is not None for labels in cases[0].found.values())
        assert len(draw_montage(cases, table)) > 10_000


@pytest.mark.parametrize(
    "exhibit",
    [
        pytest.param(name, marks=() if name == "table4" else pytest.mark.slow)
        for name in EXHIBITS
        if name != "figure1"
    ],
)
def test_the_command_runs_the_recipes_themselves(exhibit, tmp_path):
    """``reproduce --smoke`` in less than two minutes where others run too, with its files beside it and figures in every row."""
    command = [
        sys.executable,
        "-c",
        "import autosam_edge.cli as c; c.main()",
        "reproduce",
        exhibit,
        "--smoke",
        "--json",
        "-o",
        str(tmp_path),
    ]
    started = time.monotonic()
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    told = json.loads(result.stdout)
    assert told["smoke"] is True
    if exhibit != "figure3":
        ours = {
            row["row"]: row["values"]["dice"]["ours"]
            for row in told["rows"]
            if row["values"]["dice"]["ours"] is not None
        }
        assert ours.keys() == EXPECTED[exhibit].keys()
        assert all(0 <= value <= 100 for value in ours.values())
    assert time.monotonic() - started < 120
    assert list(tmp_path.glob(f"{exhibit}-smoke.*"))
