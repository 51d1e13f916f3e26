"""The builder wires the blocks as the config says."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from autosam_edge_training.networks.autosam.build import build_image_encoder
from autosam_edge_training.networks.autosam.config import TeacherConfig


def test_windows_shift_in_every_second_block():
    """A token reaches its window in block 0, the next window in block 1 (shifted), the far end in block 2."""
    torch.manual_seed(0)
    encoder = build_image_encoder(TeacherConfig(vit="tiny"))
    image = torch.rand(1, 1, 32, 32, 32)
    changed = image.clone()
    changed[..., 13, 13, 13] += 1.0  # in token (3, 3, 3) and no other's kernel
    with torch.no_grad():
        reached = [(a != b).any(dim=-1)[0] for a, b in zip(encoder(image), encoder(changed), strict=True)]
    assert reached[0].nonzero().max() == 3
    assert reached[0].sum() == 4**3
    assert reached[1][4, 4, 4]
    assert not reached[1][7, 7, 7]
    assert not reached[1][0, 0, 6]  # beside it only around the volume's end
    assert reached[2].all()


@pytest.mark.parametrize(
    ("global_blocks", "expected"), [("windowed", [(4, 4, 4)] * 4), ("full", [(4, 4, 4), None] * 2)]
)
def test_global_blocks(small_vit, global_blocks, expected):
    """SAM's global blocks keep their longer tables, windowed or not."""
    encoder = build_image_encoder(
        TeacherConfig(
            vit=small_vit,
            patch=(32,) * 3,
            window=(4,) * 3,
            apg={"widths": (4, 8)},
            global_blocks=global_blocks,
        )
    )
    assert [block.window for block in encoder.blocks] == expected
    assert [block.attn.rel_pos_h.shape[0] for block in encoder.blocks] == [13, 19, 13, 19]
