"""The contrastive objective that a config names, over each number of dims that shall be good on its own."""

import math

import torch
from torch import Tensor, nn

from lowclip_train.config import ObjectiveConfig
from lowclip_train.loss import info_nce, nested, siglip, soft_target
from lowclip_train.model import DualEncoder

# Where SigLIP starts (Zhai et al. 2023, section 3.2): nearly all pairs are negatives, and the bias says so.
_SIGLIP_SCALE, _SIGLIP_BIAS = 10.0, -10.0
_HIGHEST_SCALE = 100.0  # of the other losses (CLIP, section 2.5)


class Objective(nn.Module):
    """Embeddings of both towers → loss; holds what only training needs.

    Args:
        config: which loss, and over which dims.
        model: its `logit_scale` is set to where the loss starts, at most to where it may be.
    """

    def __init__(self, config: ObjectiveConfig, model: DualEncoder) -> None:
        super().__init__()
        self._loss = config.loss
        self._hardness = config.hardness
        self._dims = (*config.matryoshka_dims, model.config.dims)
        if config.loss == "siglip":
            self.logit_bias = nn.Parameter(torch.tensor(_SIGLIP_BIAS))
            model.logit_scale.data.fill_(math.log(_SIGLIP_SCALE))
        self.limit(model.logit_scale)

    @torch.no_grad()
    def limit(self, logit_scale: nn.Parameter) -> None:
        """Bring the log of the inverse temperature back to the highest that the loss allows; SigLIP allows any."""
        if self._loss != "siglip":
            logit_scale.clamp_(max=math.log(_HIGHEST_SCALE))

    def forward(self, image_embeds: Tensor, text_embeds: Tensor, logit_scale: Tensor, same: Tensor) -> Tensor:
        """(N, D), (N, D), scalar, (N, N) bool as in `info_nce` → scalar, the mean over the dims."""
        losses = [
            self._one(nested(image_embeds, dims), nested(text_embeds, dims), logit_scale, same)
            for dims in self._dims
        ]
        return torch.stack(losses).mean()

    def _one(self, image_embeds: Tensor, text_embeds: Tensor, logit_scale: Tensor, same: Tensor) -> Tensor:
        if self._loss == "siglip":
            return siglip(image_embeds, text_embeds, logit_scale, self.logit_bias, same)
        if self._loss == "soft_target":
            return soft_target(image_embeds, text_embeds, logit_scale)
        return info_nce(image_embeds, text_embeds, logit_scale, same, self._hardness)
