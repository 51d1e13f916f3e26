"""From a config to a teacher with random weights."""

from __future__ import annotations

from autosam_edge_training.networks.autosam.adapter import SpatialAdapter
from autosam_edge_training.networks.autosam.attention import WindowAttention
from autosam_edge_training.networks.autosam.autosam import AutoSAM
from autosam_edge_training.networks.autosam.block import Block
from autosam_edge_training.networks.autosam.config import TeacherConfig
from autosam_edge_training.networks.autosam.image_encoder import ImageEncoder
from autosam_edge_training.networks.autosam.mask_decoder import MaskDecoder
from autosam_edge_training.networks.autosam.necks import Neck
from autosam_edge_training.networks.autosam.patch_embed import PatchEmbed
from autosam_edge_training.networks.autosam.positions import Positions
from autosam_edge_training.networks.autosam.prompt_generator import PromptGenerator
from autosam_edge_training.networks.autosam.trainables import freeze


def build_autosam(config: TeacherConfig) -> AutoSAM:
    """Build a teacher with random weights, SAM's part frozen; see :func:`~.sam_checkpoint.load_sam`.

    Example:
        >>> config = TeacherConfig(vit="tiny", classes=3)
        >>> build_autosam(config)(torch.rand(1, 1, 32, 32, 32)).shape
        torch.Size([1, 3, 32, 32, 32])
    """
    vit, out = config.network, config.necks.out
    apg = config.apg
    model = AutoSAM(
        image_encoder=build_image_encoder(config),
        necks=[Neck(vit.dim, out) for _ in vit.taps],
        prompt_generator=PromptGenerator(out, apg.widths) if apg.enabled else None,
        mask_decoder=MaskDecoder(
            len(vit.taps), out, mid=config.decoder.mid, classes=config.classes, scale=config.decoder.scale
        ),
    )
    freeze(model, config.trains)
    return model


def build_image_encoder(config: TeacherConfig) -> ImageEncoder:
    """The encoder alone, random weights."""
    vit = config.network
    return ImageEncoder(
        PatchEmbed(vit.dim, patch=vit.patch, upsample=config.upsample),
        Positions(vit.dim, grid=vit.grid, depth=vit.depth_positions),
        [build_block(config, index) for index in range(vit.depth)],
        taps=vit.taps,
        recompute=config.checkpoint == "blocks",
    )


def build_block(config: TeacherConfig, index: int) -> Block:
    """The block at an index, counted from 0: every second one has shifted windows, as in Swin."""
    vit, window = config.network, config.window
    is_global = index in vit.taps
    half = (window[0] // 2, window[1] // 2, window[2] // 2)
    return Block(
        vit.dim,
        attention=WindowAttention(
            vit.dim,
            vit.heads,
            table_window=vit.grid if is_global else vit.table_window,
            rel_pos=config.rel_pos,
        ),
        adapter=SpatialAdapter(vit.dim, vit.dim // 2),
        window=None if is_global and config.global_blocks == "full" else window,
        shift=half if index % 2 else (0, 0, 0),
    )
