"""A teacher's config cannot be wrong."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch")

from autosam_edge.errors import TrainingError
from autosam_edge_training.config import as_dict, parse_config
from autosam_edge_training.networks.autosam.config import ApgConfig, TeacherConfig
from autosam_edge_training.networks.autosam.sizes import ViT


def test_defaults_are_the_papers_teacher():
    """ViT-B, 14 classes, 32^3 tokens of 4^3 voxels, windows of 8^3."""
    config = TeacherConfig()
    assert (config.network.dim, config.classes, config.grid, config.token_voxels) == (768, 14, (32,) * 3, 4)


def test_a_name_brings_its_sizes_and_what_is_given_goes_before_them():
    """Key by key, also within a part of a recipe."""
    config = parse_config(TeacherConfig, {"vit": "tiny", "patch": [16, 32, 32], "apg": {"enabled": False}})
    assert (config.patch, config.window) == ((16, 32, 32), (4, 4, 4))
    assert (config.necks.out, config.decoder.mid) == (16, 8)
    assert config.apg == ApgConfig(enabled=False, widths=(8, 16, 24))
    assert config == TeacherConfig(vit="tiny", patch=(16, 32, 32), apg={"enabled": False})


@pytest.mark.parametrize(
    "vit", ["b", "tiny", {"dim": 192, "depth": 6, "heads": 6, "taps": [2, 5], "grid": 24}]
)
def test_it_survives_json(vit):
    """What a checkpoint records is the whole config, and reading it gives an equal one."""
    config = parse_config(TeacherConfig, {"vit": vit, "patch": [96, 96, 96], "apg": {"widths": [8, 16, 24]}})
    assert parse_config(TeacherConfig, json.loads(json.dumps(as_dict(config)))) == config


def test_a_vit_of_ones_own():
    """A smaller one, trained entirely, at another spacing."""
    config = TeacherConfig(
        vit=ViT(dim=192, depth=6, heads=6, taps=(2, 5), grid=24),
        patch=(96,) * 3,
        apg={"widths": (8, 16)},
        trains="all",
    )
    assert config.network.dim == 192
    assert config.grid == (24, 24, 24)


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"unknown": 1}, "unknown"),
        ({"apg": {"depth": 3}}, "apg.depth"),
        ({"vit": "huge"}, "vit"),
        ({"vit": 7}, "vit"),
        ({"vit": {"dim": 50, "depth": 2, "heads": 4, "taps": [1]}}, "4 heads do not divide 50"),
        ({"vit": {"dim": 48, "depth": 4, "heads": 4, "taps": [1, 2]}}, "last block, 3"),
        ({"vit": {"dim": 48, "depth": 4, "heads": 4, "taps": [3, 1]}}, "taps that rise"),
        ({"vit": {"dim": 48, "depth": 4, "heads": 4, "taps": [3], "patch": 15}}, "patches of"),
        ({"classes": 1}, "classes"),
        ({"patch": [128, 128]}, "patch"),
        ({"patch": [128, 128, 130]}, "4 voxels"),
        ({"patch": [0, 128, 128]}, "patch"),
        ({"upsample": 2}, "upsample"),
        ({"window": [8, 8, 16]}, "use interp"),
        ({"window": [8, 8, 0]}, "window"),
        ({"global_blocks": "full"}, "16^3"),
        ({"global_blocks": "full", "patch": [4, 260, 4], "apg": {"enabled": False}}, "grids of 64"),
        ({"patch": [64, 64, 64]}, "at most 4"),
        ({"patch": [96, 96, 96]}, "at most 4"),
        ({"apg": {"widths": []}}, "apg.widths"),
        ({"decoder": {"scale": "quarter"}}, "decoder.scale"),
        ({"trains": "nothing"}, "trains"),
        ([], "the file"),
    ],
)
def test_what_is_wrong_is_named(values, named):
    """Unknown keys, values of no meaning, and sizes that do not go together."""
    with pytest.raises(TrainingError) as error:
        parse_config(TeacherConfig, values)
    assert named in error.value.message


def test_nothing_can_be_changed_afterwards():
    """A config that was checked stays checked."""
    with pytest.raises(AttributeError):
        TeacherConfig().classes = 1
