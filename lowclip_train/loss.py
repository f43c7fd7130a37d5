"""Training objectives as pure functions of embeddings."""

import torch
import torch.nn.functional as F
from torch import Tensor

# CLIP clips the temperature's inverse at 100 (Radford et al. 2021, section 2.5).
MAX_LOGIT_SCALE = 4.6052


def info_nce(
    image_embeds: Tensor, text_embeds: Tensor, logit_scale: Tensor, same: Tensor | None = None
) -> Tensor:
    """Symmetric InfoNCE over a batch of matching rows (CLIP, figure 3).

    Args:
        image_embeds, text_embeds: (N, D), unit norm; row i of one belongs to row i of the other.
        logit_scale: log of the inverse temperature, scalar.
        same: (N, N) bool, true where row i and column j are no real negatives (one photo, or one caption, twice);
            those are left out. The diagonal is ignored.

    Returns:
        Scalar: mean of the image→text and the text→image cross-entropy.
    """
    logits = logit_scale.clamp(max=MAX_LOGIT_SCALE).exp() * image_embeds @ text_embeds.T  # (N, N)
    if same is not None:
        others = same & ~torch.eye(len(same), dtype=torch.bool, device=same.device)
        logits = logits.masked_fill(others, float("-inf"))
    targets = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets)) / 2


def cosine_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean of 1 - cosine over rows: (N, C), (N, C) → scalar; the distillation loss."""
    return (1 - F.cosine_similarity(student, teacher, dim=-1)).mean()
