"""Everything that decides a teacher's network, as a recipe writes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal

from pydantic import model_validator
from pydantic_core import ArgsKwargs

from autosam_edge_training.networks.autosam.attention import RelPos
from autosam_edge_training.networks.autosam.mask_decoder import DecoderScale
from autosam_edge_training.networks.autosam.prompt_generator import fits_grid
from autosam_edge_training.networks.autosam.sizes import SIZES, ViT, ViTName
from autosam_edge_training.networks.autosam.trainables import Trains
from autosam_edge_training.networks.autosam.windows import Size
from autosam_edge_training.strict import STRICT, JsonObject, checked_dataclass

# Full attention over 16^3 tokens is 0.4 GB of bfloat16 logits per block of ViT-B; over 32^3 it is 26 GB.
_MOST_TOKENS_OF_FULL_ATTENTION = 16**3


@checked_dataclass(config=STRICT)
class NecksConfig:
    """The 3D necks; ``out`` is the channels of a feature map."""

    out: int = 256


@checked_dataclass(config=STRICT)
class ApgConfig:
    """The auto prompt generator.

    Args:
        enabled: False: the paper's row "without", feature maps go straight to the decoder.
        widths: Channels of the U-Net's levels; ``n`` widths pool ``n - 1`` times and must leave more than one
            voxel.
    """

    enabled: bool = True
    widths: tuple[int, ...] = (16, 32, 64, 128, 160)


@checked_dataclass(config=STRICT)
class DecoderConfig:
    """The mask decoder.

    Args:
        mid: Channels of its heads and of the fused features.
        scale: Grid on which it fuses: the image's, or half of it.
    """

    mid: int = 128
    scale: DecoderScale = "full"


@checked_dataclass(config=STRICT, kw_only=True)
class TeacherConfig:
    """A teacher's network.

    A named ``vit`` brings its own values for what is not given, so that ``{vit: tiny}`` is a whole teacher
    for smoke runs. In a mapping this goes key by key into the parts too; a part that is given as an object is
    taken as it is.

    Args:
        vit: SAM's ViT-B, -L or -H by its letter, ``tiny``, or a ViT of one's own.
        patch: (D, H, W) voxels of a patch; sides are multiples of a token's side, best of a window's (8
            tokens: 32 voxels).
        upsample: Enlargement before SAM's 16 x 16 patches: 4 makes a token of 4^3 voxels, 1 of 16^3.
        window: (d, h, w) tokens that attend to each other.
        rel_pos: SAM's relative positions are cropped or interpolated to the window.
        global_blocks: Attention of SAM's global blocks: ``windowed`` like the others, or ``full``, for at
            most 16^3 tokens.
        checkpoint: ``blocks`` recomputes each block in the backward pass, for GPUs with less memory.
        trains: ``adapters``: what the paper trains, SAM's weights stay as they are. ``all``: everything, for
            a ViT without SAM's weights.
    """

    vit: ViTName | ViT = "b"
    classes: int = 14
    patch: Size = (128, 128, 128)
    upsample: Literal[1, 4] = 4
    window: Size = (8, 8, 8)
    rel_pos: RelPos = "crop"
    global_blocks: Literal["windowed", "full"] = "windowed"
    necks: NecksConfig = field(default_factory=NecksConfig)
    apg: ApgConfig = field(default_factory=ApgConfig)
    decoder: DecoderConfig = field(default_factory=DecoderConfig)
    checkpoint: Literal["none", "blocks"] = "none"
    trains: Trains = "adapters"

    @model_validator(mode="before")
    @classmethod
    def _fill_in_from_size(cls, given: object) -> object:
        """Put the named size's values under those that are given, key by key also within the parts."""
        values = given.kwargs if isinstance(given, ArgsKwargs) else given
        if not isinstance(values, Mapping):
            return given  # pydantic names the fault
        size = SIZES.get(values["vit"]) if isinstance(values.get("vit"), str) else None
        return dict(values) if size is None else _merged(size.defaults, values)

    def __post_init__(self) -> None:
        positive = {
            "classes - 1": self.classes - 1,
            "necks.out": self.necks.out,
            "decoder.mid": self.decoder.mid,
            "apg.widths": min(self.apg.widths, default=0),
            "patch": min(self.patch),
            "window": min(self.window),
        }
        if wrong := [key for key, value in positive.items() if value < 1]:
            raise ValueError(f"{', '.join(wrong)} must be at least 1")
        if any(side % self.token_voxels for side in self.patch):
            raise ValueError(
                f"the patch {self.patch} is not a multiple of a token's {self.token_voxels} voxels"
            )
        if self.decoder.scale == "half" and any(side % 2 for side in self.patch):
            raise ValueError(f"decoder.scale half needs a patch with even sides, not {self.patch}")
        self._check_attention()
        if self.apg.enabled and not fits_grid(self.apg.widths, self.grid):
            levels = len(self.apg.widths)
            most = max((n for n in range(1, levels) if fits_grid(self.apg.widths[:n], self.grid)), default=0)
            raise ValueError(
                f"apg.widths has {levels} levels, which pool {self.grid} tokens to one voxel or none; "
                f"give at most {most}"
            )

    def _check_attention(self) -> None:
        full = self.global_blocks == "full"
        tokens = self.grid[0] * self.grid[1] * self.grid[2]
        if full and tokens > _MOST_TOKENS_OF_FULL_ATTENTION:
            raise ValueError(f"global_blocks full is for at most 16^3 tokens; this patch has {self.grid}")
        if self.rel_pos == "crop":
            if max(self.window) > self.network.table_window:
                raise ValueError(
                    f"rel_pos crop: SAM's tables end at windows of {self.network.table_window}; "
                    f"use interp for {self.window}"
                )
            if full and max(self.grid) > self.network.grid:
                raise ValueError(
                    f"rel_pos crop: SAM's tables end at grids of {self.network.grid}; use interp"
                )

    @property
    def network(self) -> ViT:
        """The ViT's numbers."""
        return SIZES[self.vit].vit if isinstance(self.vit, str) else self.vit

    @property
    def token_voxels(self) -> int:
        """Side of a token in voxels of the patch."""
        return self.network.patch // self.upsample

    @property
    def grid(self) -> Size:
        """(D', H', W') tokens of a patch."""
        depth, height, width = (side // self.token_voxels for side in self.patch)
        return depth, height, width


def _merged(defaults: Mapping[str, Any], given: Mapping[str, Any]) -> JsonObject:
    """Values given over defaults; where both are mappings, key by key."""
    values = dict(defaults)
    for key, value in given.items():
        under = values.get(key)
        values[key] = (
            _merged(under, value) if isinstance(under, Mapping) and isinstance(value, Mapping) else value
        )
    return values
