"""The parameter budget of the paper's table 1."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from autosam_edge_training.networks.autosam.build import build_autosam
from autosam_edge_training.networks.autosam.config import TeacherConfig
from autosam_edge_training.networks.autosam.trainables import parameters_by_part, trainable_parameters


def budget(**changes):
    with torch.device("meta"):
        rows = parameters_by_part(build_autosam(TeacherConfig(**changes)))
    return {row.part: (row.trainable, row.frozen) for row in rows}


def test_vit_b_by_part():
    """26.53 M train, the paper's figure, and 88.89 M are SAM's."""
    parts = budget()
    assert parts == {
        "patch embedding": (13_056, 590_592),
        "positions": (24_576, 3_145_728),
        "adapters": (7_202_304, 0),
        "norms": (36_864, 0),
        "attention and MLP": (0, 85_156_608),
        "necks": (7_868_416, 0),
        "prompt generator": (4_255_232, 0),
        "mask decoder": (7_129_728, 0),
    }
    assert [sum(column) for column in zip(*parts.values(), strict=True)] == [26_530_176, 88_892_928]


@pytest.mark.parametrize(
    ("changes", "trainable", "frozen"),
    [
        ({"classes": 16}, 26_537_088, 88_892_928),
        ({"apg": {"enabled": False}}, 22_274_944, 88_892_928),
        ({"vit": "l"}, 45_161_600, 307_394_048),
        ({"vit": "h"}, 72_985_984, 636_044_800),
        ({"trains": "all"}, 115_423_104, 0),
    ],
)
def test_other_teachers(changes, trainable, frozen):
    """AMOS, without prompts, ViT-L (45.16 M of 352.6 M), ViT-H (72.99 M of 709.0 M), all of ViT-B."""
    assert [sum(column) for column in zip(*budget(**changes).values(), strict=True)] == [trainable, frozen]


def test_the_optimizer_gets_only_what_trains():
    """By name; nothing of attention, MLP or SAM's tables among it."""
    names = set(trainable_parameters(build_autosam(TeacherConfig(vit="tiny"))))
    encoder = {name.removeprefix("image_encoder.") for name in names if name.startswith("image_encoder.")}
    assert {name for name in encoder if not name.startswith("blocks.")} == {
        "patch_embed.depth_weight",
        "patch_embed.depth_bias",
        "positions.depth_embed",
    }
    assert {name.removeprefix("blocks.0.") for name in encoder if name.startswith("blocks.0.")} == {
        *(f"adapter.{part}.weight" for part in ("down", "conv", "up")),
        *(f"norm{i}.{what}" for i in (1, 2) for what in ("weight", "bias")),
    }
