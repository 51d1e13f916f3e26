"""MONAI alone labels a scan as the runtime does."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

torch = pytest.importorskip("torch")
monai_bundle = pytest.importorskip("monai.bundle")
from autosam_edge_test_networks import checkpoint_metadata
from monai.bundle.properties import InferProperties
from monai.bundle.utils import DEFAULT_METADATA
from monai.data.meta_tensor import MetaTensor
from monai.utils import BundleProperty, BundlePropertyConfig
from typer.testing import CliRunner

from autosam_edge import open_session
from autosam_edge.bundle import default_bundle_path, open_bundle
from autosam_edge.cli import app
from autosam_edge.errors import OutputError
from autosam_edge.formats.nifti import read_nifti
from autosam_edge.formats.nifti_header import lps_affine, ras_affine
from autosam_edge.geometry import Grid, Orientation
from autosam_edge.measurements import dice
from autosam_edge.phantom import make_phantom
from autosam_edge.pipeline.resample import Resampler
from autosam_edge.volume import RESEARCH_USE
from autosam_edge_export.bundle_writer import Description, LoadedStudent
from autosam_edge_export.monai_bundle import write_monai_bundle
from autosam_edge_export.monai_resample import Resample
from autosam_edge_training.data import AMOS_INTENSITY, BTCV_INTENSITY
from autosam_edge_training.networks.students import build_student, load_student, save_student

MANIFEST = open_bundle().manifest
LPS_FROM_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
FILES = [
    "LICENSE",
    "configs/inference.json",
    "configs/metadata.json",
    "docs/README.md",
    "models/model.safetensors",
]
# MONAI's schema of 2024-07-25 for metadata.json, and its specification of a tensor.
METADATA_KEYS = {
    *("schema", "version", "monai_version", "pytorch_version", "numpy_version", "required_packages_version"),
    *("task", "description", "authors", "copyright", "network_data_format", "changelog", "intended_use"),
    "data_source",
}
TENSOR_KEYS = {
    *("type", "format", "modality", "num_channels", "spatial_shape", "dtype", "value_range", "is_patch_data"),
    "channel_def",
}


def write(weights, folder, *, patch=(96, 96, 96), intensity=BTCV_INTENSITY):
    """The bundle of a checkpoint in a new folder."""
    folder.mkdir()
    decision_weights = open_bundle().manifest.postprocess.decision_weights
    student = LoadedStudent(weights, Description(version="1", decision_weights=decision_weights))
    student.input = dataclasses.replace(student.input, intensity=intensity)
    write_monai_bundle(student, student.input.contract(patch, MANIFEST.input.overlap), folder)
    return folder


def parse(folder, **changes):
    """MONAI's parser on a bundle."""
    parser = monai_bundle.ConfigParser()
    parser.read_config(folder / "configs" / "inference.json")
    parser.read_meta(folder / "configs" / "metadata.json")
    parser.update({"bundle_root": str(folder), "device": torch.device("cpu"), **changes})
    return parser


def config_files(bundle):
    """Arguments of MONAI's programs that name the configurations of a bundle."""
    names = {"config": "inference.json", "meta": "metadata.json"}
    return {f"{kind}_file": str(bundle / "configs" / name) for kind, name in names.items()}


def save_scan(volume, path):
    """The volume as NIfTI."""
    path.parent.mkdir()
    nib.save(nib.Nifti1Image(volume.hu.T, ras_affine(volume.grid.affine)), path)
    return path


def agreement(truth, labels):
    """Dice of each organ that either found, by name."""
    both = {label.name: dice(truth == label.value, labels == label.value) for label in MANIFEST.labels}
    return {name: value for name, value in both.items() if not np.isnan(value)}


def read_labels(folder, grid):
    """What MONAI wrote, (D, H, W); it lies on the grid."""
    (path,) = folder.iterdir()
    image = nib.load(path)
    labels = np.asarray(image.dataobj).T
    assert labels.dtype == np.uint8
    assert Grid(labels.shape, lps_affine(image.affine)).same_as(grid)
    return labels


@pytest.fixture(scope="module")
def default(tmp_path_factory):
    """The default student's bundle."""
    return write(default_bundle_path() / "student.safetensors", tmp_path_factory.mktemp("monai") / "bundle")


def run(bundle, scan, out, monkeypatch):
    """``python -m monai.bundle run``, without the command line's package."""
    monkeypatch.setattr(sys, "path", list(sys.path))  # MONAI puts the bundle on it
    monai_bundle.run(
        **config_files(bundle),
        bundle_root=str(bundle),
        dataset_dir=str(scan.parent),
        output_dir=str(out),
        device=torch.device("cpu"),
    )


def test_monai_runs_it_and_finds_what_the_runtime_finds(default, tmp_path, monkeypatch):
    """A scan of one tile, turned every way in memory: the same organs on the scan's own grid."""
    turned = Orientation((2, 0, 1), (True, False, True))
    volume = make_phantom(1, spacing_mm=(6.0, 4.0, 4.0), shape=(42, 62, 64), orientation=turned).volume
    scan = save_scan(volume, tmp_path / "scans" / "scan.nii.gz")
    run(default, scan, tmp_path / "out", monkeypatch)
    expected = open_session().segment(read_nifti(scan)).labels
    organs = agreement(expected, read_labels(tmp_path / "out", volume.grid))
    assert len(organs) == 13
    assert min(organs.values()) >= 0.99


@pytest.mark.parametrize("intensity", [BTCV_INTENSITY, AMOS_INTENSITY], ids=["btcv", "amos"])
def test_the_network_is_shown_what_it_was_trained_on(tmp_path, intensity):
    """Smallest and largest value after the bundle's preprocessing; windows pad with the smallest."""
    bundle = write(default_bundle_path() / "student.safetensors", tmp_path / "b", intensity=intensity)
    volume = make_phantom(1, spacing_mm=(6.0, 4.0, 4.0), shape=(42, 62, 64)).volume
    hu = np.where(volume.hu > 0, 1000, -1000).astype(np.int16)
    scan = save_scan(dataclasses.replace(volume, hu=hu), tmp_path / "scans" / "scan.nii.gz")
    parser = parse(bundle, dataset_dir=str(scan.parent))
    image = parser.get_parsed_content("preprocessing")({"image": str(scan)})["image"]
    assert float(image.min()) == pytest.approx(intensity.low, abs=1e-5)
    assert float(image.max()) == pytest.approx(intensity.high, abs=1e-5)
    assert parser.get_parsed_content("inferer").cval == intensity.low


def test_a_network_of_monai_keeps_its_arguments(tmp_path):
    """The bundle builds it from MONAI alone, with the weights that were trained."""
    arguments = {"channels": [8, 16], "strides": [2], "norm": "instance"}
    student = build_student("monai:UNet", arguments=arguments)
    save_student(tmp_path / "u.safetensors", student, checkpoint_metadata("monai:UNet", arguments=arguments))
    parser = parse(write(tmp_path / "u.safetensors", tmp_path / "b"))
    parser.get_parsed_content("initialize")
    tile = torch.rand(1, 1, 16, 16, 16)
    with torch.no_grad():
        torch.testing.assert_close(
            parser.get_parsed_content("network")(tile), student.eval()(tile).softmax(1)
        )


def test_a_scan_of_air_gets_no_labels(default, tmp_path, monkeypatch):
    """No body to crop to: the whole plane is background."""
    volume = make_phantom(1, spacing_mm=(20.0, 20.0, 20.0), shape=(4, 5, 6)).volume
    volume = dataclasses.replace(volume, hu=np.full_like(volume.hu, -1000))
    scan = save_scan(volume, tmp_path / "scans" / "scan.nii.gz")
    run(default, scan, tmp_path / "out", monkeypatch)
    assert not read_labels(tmp_path / "out", volume.grid).any()


@pytest.mark.slow
@pytest.mark.parametrize(("seed", "mean", "worst"), [(1, 0.995, 0.99), (6, 0.96, 0.92)])
def test_a_whole_abdomen_gets_the_runtimes_labels(default, tmp_path, monkeypatch, seed, mean, worst):
    """Eight tiles that lie where the runtime's lie (seed 1), or a voxel beside them (seed 6)."""
    volume = make_phantom(seed, spacing_mm=(5.0, 2.0, 2.0)).volume
    scan = save_scan(volume, tmp_path / "scans" / "scan.nii.gz")
    run(default, scan, tmp_path / "out", monkeypatch)
    organs = agreement(open_session().segment(volume).labels, read_labels(tmp_path / "out", volume.grid))
    assert len(organs) == 13
    assert np.mean(list(organs.values())) >= mean
    assert min(organs.values()) >= worst


def test_the_evaluator_does_what_run_does(default, tmp_path):
    """Programs that ask a bundle for its evaluator get the same labels."""
    pytest.importorskip("ignite", reason="MONAI's evaluator needs pytorch-ignite")
    volume = make_phantom(1, spacing_mm=(8.0, 8.0, 8.0), shape=(24, 30, 30)).volume
    scan = save_scan(volume, tmp_path / "scans" / "scan.nii.gz")
    found = {}
    for item in ("run", "evaluator"):
        parser = parse(default, dataset_dir=str(scan.parent), output_dir=str(tmp_path / item))
        parser.get_parsed_content("initialize")
        result = parser.get_parsed_content(item)
        if item == "evaluator":
            result.run()
        found[item] = read_labels(tmp_path / item, volume.grid)
    assert found["run"].any()
    np.testing.assert_array_equal(found["evaluator"], found["run"])


@pytest.mark.parametrize("spacing_mm", [(5.0, 0.9, 0.9), (2.0, 4.1, 1.7)])
def test_the_networks_image_is_the_runtimes(default, tmp_path, spacing_mm):
    """Thick, thin and odd voxels: the same values at the same places."""
    volume = make_phantom(2, spacing_mm=spacing_mm, shape=tuple(round(130 / s) for s in spacing_mm)).volume
    scan = save_scan(volume, tmp_path / "scans" / "scan.nii.gz")
    image = parse(default).get_parsed_content("preprocessing")({"image": str(scan)})["image"]
    resampler = Resampler(volume.grid, MANIFEST.input.spacing_mm, MANIFEST.input.window_hu)
    low, high = MANIFEST.input.window_hu
    expected = (resampler.rows(volume.hu, 0, resampler.shape[0]) - low) / (high - low)
    rows, before = len(expected), (96 - len(expected)) // 2  # repeated up to the patch, evenly
    np.testing.assert_allclose(image[0, before : before + rows].numpy(), expected, atol=1e-5)
    assert image.shape[1] == 96
    assert (image[0, :before] == image[0, before]).all()
    assert (image[0, before + rows :] == image[0, before + rows - 1]).all()
    to_scan = np.diag([*np.divide(MANIFEST.input.spacing_mm, spacing_mm), 1.0])
    to_scan[:3, 3] = [positions[0] for positions in resampler.positions]
    to_scan[0, 3] -= before * to_scan[0, 0]
    np.testing.assert_allclose(LPS_FROM_RAS @ image.affine.numpy(), volume.grid.affine @ to_scan, atol=1e-3)


def test_a_tilted_scan_is_refused():
    """MONAI's part of the bundle knows upright grids only."""
    affine = torch.eye(4)
    affine[1, 2] = 0.3
    with pytest.raises(ValueError, match="not perpendicular"):
        Resample((3.0, 3.0, 3.0))(MetaTensor(torch.zeros(1, 4, 5, 6), affine=affine))


def test_the_config_builds_the_student(tmp_path):
    """SwinUNETR, its weights loaded strictly, computes what the student computes."""
    torch.manual_seed(0)
    facts = checkpoint_metadata("swinunetr-tiny")
    save_student(tmp_path / "s.safetensors", build_student("swinunetr-tiny"), facts)
    bundle = write(tmp_path / "s.safetensors", tmp_path / "bundle", patch=(64, 32, 32))
    parser = parse(bundle)
    (keys,) = parser.get_parsed_content("initialize")
    assert not keys.missing_keys
    assert not keys.unexpected_keys
    image = torch.rand(1, 1, 64, 32, 32)
    student, _ = load_student(tmp_path / "s.safetensors")
    with torch.no_grad():
        expected = student(image)
        np.testing.assert_allclose(parser.get_parsed_content("network_def")(image), expected, atol=1e-5)
        np.testing.assert_allclose(
            parser.get_parsed_content("network")(image), expected.softmax(dim=1), atol=1e-5
        )
    monai_bundle.verify_net_in_out(net_id="network_def", device="cpu", **config_files(bundle))
    needed = json.loads((bundle / "configs" / "metadata.json").read_text())["required_packages_version"]
    assert {"autosam-edge", "einops"} <= set(needed)


def test_the_metadata_say_what_monai_asks_for(default):
    """Every key of the schema, of MONAI's template and of a tensor; organs in the order of the channels."""
    metadata = json.loads((default / "configs" / "metadata.json").read_text())
    assert set(metadata) >= METADATA_KEYS
    assert set(DEFAULT_METADATA) <= set(metadata)
    image, pred = (
        metadata["network_data_format"]["inputs"]["image"],
        metadata["network_data_format"]["outputs"]["pred"],
    )
    assert set(image) >= TENSOR_KEYS
    assert set(pred) >= TENSOR_KEYS
    assert list(pred["channel_def"]) == [str(k) for k in range(14)]
    assert list(pred["channel_def"].values()) == ["background", *(label.name for label in MANIFEST.labels)]
    assert (image["spatial_shape"], image["value_range"], pred["num_channels"]) == ([96, 96, 96], [0, 1], 14)
    assert metadata["intended_use"] == RESEARCH_USE
    assert set(metadata["required_packages_version"]) == {"autosam-edge", "nibabel", "safetensors"}


def test_the_config_has_what_monais_programs_look_for(default):
    """The properties that MONAI requires of an inference workflow."""
    config = json.loads((default / "configs" / "inference.json").read_text())
    required = {
        entry[BundlePropertyConfig.ID] for entry in InferProperties.values() if entry[BundleProperty.REQUIRED]
    }
    assert required <= set(config)


def test_the_same_student_gives_the_same_bytes_and_no_pickle(default, tmp_path):
    """Five files, the weights as they were, nothing of this machine or this day."""
    weights = default_bundle_path() / "student.safetensors"
    again = write(weights, tmp_path / "again")
    for folder in (default, again):
        assert sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()) == FILES
    for name in FILES:
        assert (again / name).read_bytes() == (default / name).read_bytes()
    assert (again / "models" / "model.safetensors").read_bytes() == weights.read_bytes()
    text = "".join((again / name).read_text() for name in FILES[:-1])
    assert not [place for place in (tmp_path, Path.home(), Path(__file__).parents[2]) if str(place) in text]
    assert not re.search(r"\d{4}-\d{2}-\d{2}", text)
    assert "python -m monai.bundle run" in (again / "docs" / "README.md").read_text()


def test_the_command_writes_it_once(tmp_path):
    """``export --target monai``; a second one does not overwrite the first."""
    command = ["export", "--target", "monai", "-o", str(tmp_path / "m")]
    result = CliRunner().invoke(app, command, standalone_mode=False)
    assert result.stdout.replace("\n", "") == str(tmp_path / "m")
    assert {"configs", "models", "docs", "LICENSE"} <= {p.name for p in (tmp_path / "m").iterdir()}
    again = CliRunner().invoke(app, command, standalone_mode=False)
    assert isinstance(again.exception, OutputError)
    assert [p.name for p in tmp_path.iterdir()] == ["m"]


def test_the_version_of_the_model_is_in_the_metadata(tmp_path):
    """``--model-version`` counts for a MONAI bundle too."""
    command = ["export", "--target", "monai", "--model-version", "7.1", "-o", str(tmp_path / "m")]
    assert CliRunner().invoke(app, command, standalone_mode=False).exception is None
    metadata = json.loads((tmp_path / "m" / "configs" / "metadata.json").read_text())
    assert metadata["version"] == "7.1"
    assert list(metadata["changelog"]) == ["7.1"]
