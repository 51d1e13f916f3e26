"""The whole teacher."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from autosam_edge_training.networks.autosam.image_encoder import ImageEncoder
from autosam_edge_training.networks.autosam.mask_decoder import MaskDecoder
from autosam_edge_training.networks.autosam.necks import Neck
from autosam_edge_training.networks.autosam.prompt_generator import PromptGenerator


class AutoSAM(nn.Module):
    """Image encoder, necks, prompt generator, mask decoder.

    Args:
        image_encoder: Volume to the tokens after some of its blocks.
        prompt_generator: Puts a prompt in the place of one feature map; None: the maps go straight to the
            decoder.
        mask_decoder: Feature maps and image to logits.

    Source: paper, figure 2A.
    """

    def __init__(
        self,
        *,
        image_encoder: ImageEncoder,
        necks: Sequence[Neck],
        prompt_generator: PromptGenerator | None,
        mask_decoder: MaskDecoder,
    ) -> None:
        super().__init__()
        self.image_encoder = image_encoder
        self.necks = nn.ModuleList(necks)
        self.prompt_generator = prompt_generator
        self.mask_decoder = mask_decoder

    def forward(self, image: Tensor) -> Tensor:
        """Segment a patch.

        Args:
            image: (B, 1, D, H, W), preprocessed; sides are multiples of the token's side in voxels, best of a
                whole window's.

        Returns:
            Logits (B, classes, D, H, W).
        """
        features = [neck(tokens) for neck, tokens in zip(self.necks, self.image_encoder(image), strict=True)]
        if self.prompt_generator is not None:
            features = self.prompt_generator(features)
        return self.mask_decoder(features, image)
