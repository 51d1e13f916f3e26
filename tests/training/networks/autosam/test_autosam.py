"""The whole teacher: what comes out, what it weighs, what learns."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")
from torch.nn import functional as F

from autosam_edge_training.networks.autosam.build import build_autosam
from autosam_edge_training.networks.autosam.config import TeacherConfig
from autosam_edge_training.networks.autosam.trainables import trainable_parameters


def tiny(**changes):
    torch.manual_seed(0)
    return build_autosam(TeacherConfig(**{"vit": "tiny", "classes": 3, **changes}))


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"apg": {"enabled": False}},
        {"apg": {"widths": (4, 8)}},
        {"decoder": {"scale": "half"}},
        {"upsample": 1, "patch": (32, 48, 64), "apg": {"widths": (8,)}},
        {"global_blocks": "full", "rel_pos": "interp"},
        {"patch": (24, 32, 40)},
    ],
)
def test_logits_for_every_choice(changes):
    """(B, 1, D, H, W) in, (B, classes, D, H, W) out, finite; also if the windows do not divide the grid."""
    config = TeacherConfig(**{"vit": "tiny", "classes": 3, **changes})
    with torch.no_grad():
        logits = build_autosam(config)(torch.rand(2, 1, *config.patch))
    assert logits.shape == (2, 3, *config.patch)
    assert logits.isfinite().all()


def test_another_patch_than_the_configs_runs():
    """No weight depends on the size of the patch."""
    with torch.no_grad():
        assert tiny()(torch.rand(1, 1, 16, 48, 32)).shape == (1, 3, 16, 48, 32)


@pytest.mark.teacher
def test_what_trains_learns_and_what_is_frozen_stays():
    """At step 0 only ``down`` and ``conv`` of the adapters have a zero gradient, as W_up is zero."""
    model = tiny()
    frozen = {name: p.clone() for name, p in model.named_parameters() if not p.requires_grad}
    learning = trainable_parameters(model)
    optimizer = torch.optim.AdamW(learning.values(), lr=1e-3)
    image, labels = torch.rand(1, 1, 32, 32, 32), torch.randint(3, (1, 32, 32, 32))
    still = []
    for _ in range(3):
        optimizer.zero_grad(set_to_none=True)
        F.cross_entropy(model(image), labels).backward()
        still.append({name for name, p in learning.items() if not p.grad.any()})
        optimizer.step()
    assert still[0] == {
        f"image_encoder.blocks.{i}.adapter.{part}.weight" for i in range(4) for part in ("down", "conv")
    }
    assert still[1:] == [set(), set()]
    after = dict(model.named_parameters())
    assert frozen
    assert all(
        torch.equal(after[name], before) and after[name].grad is None for name, before in frozen.items()
    )


def test_all_of_a_small_vit_can_be_trained():
    """``trains: all``: every parameter gets a gradient, also the tables of positions."""
    model = tiny(trains="all")
    for block in model.image_encoder.blocks:
        torch.nn.init.normal_(block.adapter.up.weight, std=0.1)
    model(torch.rand(1, 1, 32, 32, 32)).square().sum().backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


def test_half_precision_stays_near():
    """Autocast computes the same teacher to the type's three digits."""
    model = tiny().eval()
    image = torch.rand(1, 1, 32, 32, 32)
    with torch.no_grad():
        full = model(image)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            half = model(image)
    assert half.dtype == torch.bfloat16
    assert (half - full).abs().mean() < 0.02 * full.abs().mean()


@pytest.mark.slow
@pytest.mark.teacher
def test_vit_b_on_64_voxels():
    """4 maps of 256 channels on 16^3 tokens, logits of 14 classes on 64^3, all finite."""
    torch.manual_seed(0)
    config = TeacherConfig(patch=(64, 64, 64), apg={"widths": (16, 32, 64, 128)})
    model = build_autosam(config).eval()
    maps = []
    for neck in model.necks:
        neck.register_forward_hook(lambda module, inputs, output: maps.append(output))
    with torch.no_grad():
        logits = model(torch.rand(1, 1, 64, 64, 64))
    assert [m.shape for m in maps] == [(1, 256, 16, 16, 16)] * 4
    assert logits.shape == (1, 14, 64, 64, 64)
    assert logits.isfinite().all()
    assert all(m.isfinite().all() for m in maps)
