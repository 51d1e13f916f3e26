"""Prepared cases are what the runtime would see, with the share of every organ."""

from __future__ import annotations

import json

import numpy as np
import pytest

from autosam_edge.geometry import Grid

torch = pytest.importorskip("torch")
import nibabel as nib

from autosam_edge_training.data import VALIDATION_CASES, load_cases, prepare_btcv, prepare_case
from autosam_edge_training.transforms import OrganIndex, random_crop, random_intensity, random_masses, random_warp


def grid(shape, spacing):
    affine = np.eye(4)
    affine[:3, :3] = np.array([[0, 0, spacing[2]], [0, spacing[1], 0], [spacing[0], 0, 0]], dtype=float)
    return Grid(shape, affine)


def cube_case(side=20):
    hu = np.full((side, 2 * side, 2 * side), -1000, dtype=np.int16)
    labels = np.zeros(hu.shape, dtype=np.uint8)
    hu[5:15, 10:30, 10:30] = 75
    labels[5:15, 10:30, 10:30] = 6
    return prepare_case("c", hu, labels, grid(hu.shape, (3.0, 1.5, 1.5)), spacing_mm=(3.0, 3.0, 3.0))


def test_occupancy_keeps_the_volume():
    """A cube of 10 x 20 x 20 voxels of 3 x 1.5 x 1.5 mm fills 1000 voxels of 3 mm, however its border falls."""
    case = cube_case()
    assert case.occupancy[6].sum() / 255 == pytest.approx(1000, rel=0.02)
    assert np.abs(case.occupancy.sum(axis=0, dtype=int) - 255).max() <= 1
    assert case.image.max() == 128  # 75 HU lies in the middle of the window
    assert case.image.min() == 0


def test_a_random_crop_has_the_patch_and_its_occupancy_sums_to_one():
    """Also where the case is smaller than the patch and air is added."""
    case, generator = cube_case(), np.random.default_rng(0)
    for _ in range(5):
        image, occupancy = random_crop(case, OrganIndex(case), (32, 16, 32), generator, foreground=0.5)
        assert image.shape == (1, 1, 32, 16, 32)
        assert occupancy.shape == (1, 14, 32, 16, 32)
        assert float((occupancy.sum(1) - 1).abs().max()) < 0.01


def test_a_warp_moves_image_and_organ_together():
    """After a rotation the organ still lies where the image is bright."""
    case, generator = cube_case(), np.random.default_rng(1)
    image, occupancy = random_crop(case, OrganIndex(case), (16, 16, 16), generator, foreground=1.0)
    warped, moved = random_warp(image, occupancy, generator)
    assert float((moved.sum(1) - 1).abs().max()) < 0.01
    bright = warped[0, 0] > 0.25
    organ = moved[0, 6] > 0.5
    assert float((bright == organ).float().mean()) > 0.95


def test_intensity_stays_in_the_window():
    """Whatever the changes, the image lies in [0, 1]."""
    case, generator = cube_case(), np.random.default_rng(2)
    image, _ = random_crop(case, OrganIndex(case), (16, 16, 16), generator, foreground=1.0)
    for _ in range(20):
        changed = random_intensity(image, generator)
        assert float(changed.min()) >= 0
        assert float(changed.max()) <= 1


def test_a_data_set_is_prepared_with_its_split(tmp_path):
    """Training, validation and test stay apart; hashes and spacing are recorded; the arrays come back."""
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / "src" / folder).mkdir(parents=True)
    names = ["0001", VALIDATION_CASES[0], "0035"]
    affine = np.diag([-1.5, -1.5, 3.0, 1.0])
    for name in names:
        nib.save(nib.Nifti1Image(np.full((20, 20, 8), 50, np.int16), affine), tmp_path / "src" / "imagesTr" / f"img{name}.nii.gz")
        nib.save(nib.Nifti1Image(np.ones((20, 20, 8), np.uint8), affine), tmp_path / "src" / "labelsTr" / f"label{name}.nii.gz")
    entries = [{"image": f"imagesTr/img{n}.nii.gz", "label": f"labelsTr/label{n}.nii.gz"} for n in names]
    (tmp_path / "src" / "dataset.json").write_text(json.dumps({"training": entries[:2], "test": entries[2:]}))
    record = json.loads(prepare_btcv(tmp_path / "src", tmp_path / "out").read_text())
    assert (record["training"], record["validation"], record["test"]) == (["0001"], [names[1]], ["0035"])
    assert set(record["sha256"]) == set(names)
    (case,) = load_cases(tmp_path / "out", ["0001"])
    assert case.image.shape == (8, 10, 10)
    assert (case.labels == 1).all()


def test_masses_spare_organs_bone_and_air():
    """Only background inside the body changes, and something does."""
    generator = np.random.default_rng(0)
    image = np.full((48, 48, 48), 0.06, np.float32)
    image[:, :8] = 0.0
    image[20:30, 20:30, 20:30] = 0.6
    image[40:, 40:, 40:] = 0.9
    occupancy = np.zeros((14, 48, 48, 48), np.float32)
    occupancy[6, 20:30, 20:30, 20:30] = 1
    occupancy[0] = 1 - occupancy[6]
    before, truth = torch.from_numpy(image)[None, None], torch.from_numpy(occupancy)[None]
    for _ in range(5):
        after = random_masses(before, truth, generator)
        same = after == before
        assert same[0, 0, 20:30, 20:30, 20:30].all()
        assert same[0, 0, 40:, 40:, 40:].all()
        assert same[0, 0, :, :5].all()
        assert 0.01 < float((~same).float().mean()) < 0.95
