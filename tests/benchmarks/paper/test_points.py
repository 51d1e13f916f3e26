"""Points, slices and overlaps, with a SAM that is known in closed form."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("scipy")
import nibabel as nib

from autosam_edge.formats.nifti import read_array
from autosam_edge.formats.nifti_header import ras_affine
from autosam_edge.geometry import Grid, Orientation
from autosam_edge.volume import Volume
from autosam_edge_benchmarks.paper.points import (
    USES_TRUTH,
    PointConfig,
    as_rgb,
    place_point,
    segment_with_points,
    write_point_predictions,
)
from autosam_edge_training.data import Entry, Manifest
from autosam_edge_training.data.manifest import hash_file

RADIUS = 6.0


class FakeSam:
    """Returns a cone around each point, above 0 within ``radius`` pixels, and records images and points."""

    def __init__(self, radius=RADIUS):
        self.radius, self.images, self.points = radius, [], []

    def set_image(self, image):
        self.images.append(image)

    def predict(self, point_coords, point_labels, *, multimask_output, return_logits):
        assert point_labels.tolist() == [1]
        assert not multimask_output
        assert return_logits
        ((x, y),) = point_coords
        self.points.append((x, y))
        rows, columns = np.indices(self.images[-1].shape[:2])
        logits = self.radius - np.hypot(rows - y, columns - x)
        return logits[None].astype(np.float32), None, None


def disc(shape, center, radius=RADIUS):
    rows, columns = np.indices(shape)
    return np.hypot(rows - center[0], columns - center[1]) < radius


def volume(shape=(4, 40, 50), *, affine=None):
    if affine is None:
        affine = np.zeros((4, 4))
        affine[2, 0], affine[1, 1], affine[0, 2], affine[3, 3] = 3.0, 1.0, 1.0, 1.0
    hu = np.random.default_rng(0).integers(-200, 300, shape).astype(np.int16)
    return Volume(hu, Grid(shape, affine))


def test_a_disc_gives_the_disc_back():
    """The innermost pixel of a disc is its center; slices without an organ stay empty."""
    truth = np.zeros((4, 40, 50), np.uint8)
    truth[1][disc((40, 50), (20, 15))] = 3
    truth[2][disc((40, 50), (12, 30))] = 5
    sam = FakeSam()
    found = segment_with_points(sam, volume(), truth, PointConfig())
    assert np.array_equal(found, truth)
    assert sam.points == [(15.0, 20.0), (30.0, 12.0)]
    assert len(sam.images) == 2


def test_the_larger_logit_wins_where_masks_overlap():
    """Two discs 8 pixels apart, each of radius 6: the border is half way, whichever organ comes first."""
    truth = np.zeros((1, 40, 50), np.uint8)
    truth[0, 18:23, 14:19] = 2  # center 20, 16
    truth[0, 18:23, 22:27] = 1  # center 20, 24
    found = segment_with_points(FakeSam(), volume((1, 40, 50)), truth, PointConfig())[0]
    assert set(found[20, 11:20]) == {2}
    assert set(found[20, 21:30]) == {1}


def test_a_turned_scan_is_cut_axially_and_comes_back_turned():
    """Stored with slices last and flipped, the same anatomy gives the same labels in the scan's own order."""
    canonical = np.zeros((4, 40, 50), np.uint8)
    canonical[1][disc((40, 50), (20, 15))] = 3
    straight = volume()
    turn = Orientation((2, 0, 1), (True, False, True))
    affine = np.zeros((4, 4))  # array axes run along y, -x and -z
    affine[1, 0], affine[0, 1], affine[2, 2], affine[3, 3] = 1.0, -1.0, -3.0, 1.0
    hu = np.ascontiguousarray(turn.from_canonical(straight.hu))
    turned = Volume(hu, Grid(hu.shape, affine))
    assert Orientation.of(turned.grid) == turn
    sam = FakeSam()
    truth = np.ascontiguousarray(turn.from_canonical(canonical))
    found = segment_with_points(sam, turned, truth, PointConfig())
    assert np.array_equal(turn.to_canonical(found), canonical)
    assert np.array_equal(sam.images[0], as_rgb(straight.hu[1], (-125.0, 275.0)))


def test_the_window_becomes_three_equal_channels():
    """-125 HU and less are 0, 275 and more 255, the middle 128."""
    rgb = as_rgb(np.array([[-1000, -125, 75, 275, 3000]], np.int16), (-125.0, 275.0))
    assert rgb.shape == (1, 5, 3)
    assert rgb.dtype == np.uint8
    assert rgb[0, :, 0].tolist() == [0, 0, 128, 255, 255]
    assert (rgb[..., 0] == rgb[..., 1]).all()
    assert (rgb[..., 0] == rgb[..., 2]).all()


def test_the_most_interior_pixel_lies_in_the_larger_part_and_not_on_the_border():
    """Of two parts the thicker one, in mm; a part at the border of the slice gets its point inside."""
    generator = np.random.default_rng(0)
    mask = np.zeros((20, 30), bool)
    mask[1:4, 1:4] = True
    mask[8:15, 10:17] = True
    assert place_point(mask, (1.0, 1.0), "interior", generator) == (11, 13)
    cut = np.zeros((20, 30), bool)
    cut[:7, 5:12] = True
    assert place_point(cut, (1.0, 1.0), "interior", generator) == (3, 8)
    bars = np.zeros((20, 30), bool)
    bars[2:5, 2:28] = True  # 3 rows of 4 mm
    bars[8:20, 2:7] = True  # 5 columns of 1 mm
    assert place_point(bars, (4.0, 1.0), "interior", generator)[0] == 3


def test_random_points_are_on_the_organ_and_follow_the_seed():
    """Every draw lies inside; one seed gives one result."""
    truth = np.zeros((3, 40, 50), np.uint8)
    truth[:, 5:30, 10:40] = 4
    points = []
    for seed in (0, 0, 1):
        sam = FakeSam()
        segment_with_points(sam, volume((3, 40, 50)), truth, PointConfig(rule="random", seed=seed))
        assert all(truth[0, int(y), int(x)] == 4 for x, y in sam.points)
        points.append(sam.points)
    assert points[0] == points[1]
    assert points[0] != points[2]


def test_a_limit_ends_the_work_early():
    """Two of three slices with an organ, counted from the first of them."""
    truth = np.zeros((4, 40, 50), np.uint8)
    truth[1:, 10:20, 10:20] = 1
    sam = FakeSam()
    found = segment_with_points(sam, volume(), truth, PointConfig(limit_slices=2))
    assert len(sam.images) == 2
    assert [bool(plane.any()) for plane in found] == [False, True, True, False]


def test_predictions_are_written_on_the_scans_grid_and_say_where_the_points_came_from(tmp_path):
    """One file per test case, and the statement in what is printed and in points.json."""
    scan, truth = volume(), np.zeros((4, 40, 50), np.uint8)
    truth[2][disc((40, 50), (12, 30))] = 1
    for name, array in (("img", scan.hu), ("label", truth)):
        nib.save(nib.Nifti1Image(array.T, ras_affine(scan.grid.affine)), tmp_path / f"{name}.nii.gz")
    paths = tmp_path / "img.nii.gz", tmp_path / "label.nii.gz"
    entry = Entry("0035", *paths, *(hash_file(path) for path in paths), scan.grid.spacing_mm)
    other = Entry("0001", *paths, "0" * 64, "0" * 64, scan.grid.spacing_mm)
    manifest = Manifest("btcv", ("background", "spleen"), tmp_path, training=(other,), test=(entry,))
    messages = []
    out = write_point_predictions(
        FakeSam(), manifest, tmp_path / "out", PointConfig(), facts={"sam": "fake"}, log=messages.append
    )
    assert {path.name for path in out.iterdir()} == {"0035.nii.gz", "points.json"}
    labels, grid = read_array(out / "0035.nii.gz")
    assert np.array_equal(labels, truth)
    assert grid.same_as(read_array(paths[0])[1])
    provenance = json.loads((out / "points.json").read_text())
    assert provenance["sam"] == "fake"
    assert provenance["uses_ground_truth"] == messages[0] == USES_TRUTH
