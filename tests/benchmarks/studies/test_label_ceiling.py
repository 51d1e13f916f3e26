"""The largest Dice at a spacing, for labels whose answer is known."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

pytest.importorskip("monai")
from autosam_edge.formats.label_image import read_labels
from autosam_edge.geometry import Grid
from autosam_edge.pipeline.resample import Resampler
from autosam_edge_benchmarks.studies.label_ceiling import measure_label_ceiling, round_trip_dice
from autosam_edge_training.data import Manifest, prepare_phantoms
from autosam_edge_training.evaluate import evaluator


def one_hot(labels, classes):
    return (labels[None] == np.arange(classes)[:, None, None, None]).astype(np.float32)


def every(step, shape):
    """From a grid of 1 mm to the centers of its blocks of ``step`` voxels."""
    return Resampler(Grid.axis_aligned(shape, (1.0, 1.0, 1.0)), (step, step, step), (0.0, 1.0))


def phantoms(folder, count):
    """A data set with so many phantoms for validation, at twice their spacing."""
    spacings = {"scan_spacing_mm": (8.0, 6.0, 6.0), "spacing_mm": (16.0, 12.0, 12.0)}
    return prepare_phantoms(folder / "data", validation=count, test=1, **spacings)


def test_on_the_same_grid_the_labels_come_back():
    """Dice is 1 for any labels."""
    labels = np.random.default_rng(0).integers(0, 3, (6, 7, 8))
    assert round_trip_dice(labels, one_hot(labels, 3), every(1, labels.shape), (1, 2)) == 1.0


def test_a_structure_smaller_than_a_voxel_is_lost():
    """One voxel of a block of eight is lost, Dice 0; half of the volume is not, Dice 1; the mean is 0.5."""
    labels = np.zeros((8, 8, 8), np.uint8)
    labels[:, :, 4:] = 1
    labels[2, 2, 0] = 2
    blocks = labels.reshape(4, 2, 4, 2, 4, 2)
    occupancy = np.stack([(blocks == value).mean(axis=(1, 3, 5)) for value in range(3)]).astype(np.float32)
    assert round_trip_dice(labels, occupancy, every(2, labels.shape), (1, 2)) == pytest.approx(0.5)


def test_a_case_without_organs_counts_nowhere(tmp_path, monkeypatch):
    """Its Dice is not defined: None, and the mean is that of the others."""
    data = phantoms(tmp_path, 2)
    whole = [read_labels, lambda *given: read_labels(*given) * 0]
    monkeypatch.setattr(evaluator, "read_labels", lambda *given: whole.pop()(*given))
    result = measure_label_ceiling(data, "validation")
    first, second = result["cases"].values()
    assert first == {"hard_labels": None, "occupancy": None}
    assert result["mean_dice"] == second
    assert result["mean_dice"]["occupancy"] > 0


def test_occupancies_keep_more_than_hard_labels(tmp_path):
    """On phantoms at twice their spacing, both are below 1, and shares keep more than labels."""
    result = measure_label_ceiling(phantoms(tmp_path, 1), "validation")
    assert len(result["cases"]) == 1
    assert result["spacing_mm"] == [16.0, 12.0, 12.0]
    assert 0.3 < result["mean_dice"]["hard_labels"] < result["mean_dice"]["occupancy"] < 1.0


def test_what_nobody_labeled_is_a_class_of_its_own(tmp_path, monkeypatch):
    """A liver alone, all else unknown: its ceiling is that among full labels, nearly."""
    data = phantoms(tmp_path, 1)
    entries = Manifest.entries

    def liver(manifest, split):
        return [dataclasses.replace(entry, known=(6,)) for entry in entries(manifest, split)]

    def read(*given):
        labels = read_labels(*given)
        return np.where(labels == 6, labels, 255)

    monkeypatch.setattr(Manifest, "entries", liver)
    monkeypatch.setattr(evaluator, "read_labels", read)
    result = measure_label_ceiling(data, "validation")
    assert 0.8 < result["mean_dice"]["hard_labels"] < result["mean_dice"]["occupancy"] < 1.0
