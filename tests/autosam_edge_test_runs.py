"""Scored runs, made by hand."""

from __future__ import annotations

import csv
import json

import pytest

FACTS = {
    "method": "distill",
    "network": "swinunetr-small",
    "dataset": "btcv",
    "lambda": 0.5,
    "reduction": "voxel",
    "apg": None,
    "seed": 0,
    "steps": 100,
    "trainable_parameters": 15_703_304,
    "total_parameters": 15_703_304,
    "spacing_mm": [1.5, 1.0, 1.0],
    "machine": "a machine",
    "commit": "0" * 40,
    "data_sha256": "1" * 64,
    "smoke": False,
    "teacher": "autosam-vit-b",
    "weights_sha256": "3" * 64,
    "recipe_sha256": "4" * 64,
}
COLUMNS = [
    "method",
    "dataset",
    "case",
    "organ",
    "dice",
    "nsd_1",
    "nsd_2",
    "nsd_3",
    "gt_voxels",
    "pred_voxels",
    "spacing",
]


def one_score(dice):
    """Arguments of ``write_run`` for one case with one organ."""
    return {"dice": {("1", "liver"): dice}, "mean": dice}


@pytest.fixture
def write_run(tmp_path):
    """A function that writes a scored run with one Dice per (case, organ); NSD at 1 mm is 0.1 lower."""

    def write(name, dice, *, mean, **facts):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        run = {**FACTS, **facts}
        (folder / "run.json").write_text(json.dumps(run))
        with (folder / "cases.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            for (case, organ), value in dice.items():
                scores = [""] * 4 if value is None else [value, value - 0.1, value, value]
                writer.writerow([run["method"], run["dataset"], case, organ, *scores, 10, 10, "1.5x1.0x1.0"])
        (folder / "summary.json").write_text(json.dumps({"mean_dice": mean}))
        return folder

    write.facts = FACTS
    write.results = tmp_path / "runs"
    return write
