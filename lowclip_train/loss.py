"""Training objectives as pure functions of embeddings."""

import torch
import torch.nn.functional as F
from torch import Tensor

# CLIP clips the temperature's inverse at 100 (Radford et al. 2021, section 2.5). The clip has no gradient above it, so
# it alone would hold a larger parameter where it is; `Objective.limit` keeps it below.
MAX_LOGIT_SCALE = 4.6052


def info_nce(
    image_embeds: Tensor,
    text_embeds: Tensor,
    logit_scale: Tensor,
    same: Tensor | None = None,
    hardness: float = 0.0,
) -> Tensor:
    """Symmetric InfoNCE over a batch of matching rows (CLIP, figure 3).

    Args:
        image_embeds, text_embeds: (N, D), unit norm; row i of one belongs to row i of the other.
        logit_scale: log of the inverse temperature, scalar.
        same: (N, N) bool, true where row i and column j are no real negatives (one photo, or one caption, twice);
            those are left out. The diagonal is ignored.
        hardness: how much more a negative counts that is more similar, see `weigh_negatives`.

    Returns:
        Scalar: mean of the image→text and the text→image cross-entropy.
    """
    logits = logit_scale.clamp(max=MAX_LOGIT_SCALE).exp() * image_embeds @ text_embeds.T  # (N, N)
    if same is not None:
        others = same & ~torch.eye(len(same), dtype=torch.bool, device=same.device)
        logits = logits.masked_fill(others, float("-inf"))
    targets = torch.arange(len(logits), device=logits.device)
    rows, columns = weigh_negatives(logits, hardness), weigh_negatives(logits.T, hardness)
    return (F.cross_entropy(rows, targets) + F.cross_entropy(columns, targets)) / 2


def weigh_negatives(logits: Tensor, hardness: float) -> Tensor:
    """(N, N) logits whose positives are the diagonal → those whose softmax counts hard negatives more.

    HN-NCE (Radenovic et al. 2023, arXiv 2301.02280, section 3.3; there beta, with alpha = 1): among a row's n real
    negatives, number j counts n · softmax_j(hardness · logits) times instead of once. The weights are constants to
    the gradient, and all 1 where hardness is 0.
    """
    if hardness == 0:
        return logits
    positives = torch.eye(len(logits), dtype=torch.bool, device=logits.device)
    negatives = logits.detach().masked_fill(positives, float("-inf"))
    real = torch.isfinite(negatives)
    log_weights = real.sum(1, keepdim=True).log() + F.log_softmax(hardness * negatives, dim=1)
    return logits + torch.where(real, log_weights, 0.0)


def siglip(
    image_embeds: Tensor,
    text_embeds: Tensor,
    logit_scale: Tensor,
    logit_bias: Tensor,
    same: Tensor | None = None,
) -> Tensor:
    """Sigmoid loss: every pair of the batch is a decision of its own (Zhai et al. 2023, arXiv 2303.15343, alg. 1).

    Args:
        image_embeds, text_embeds, logit_scale, same: as for `info_nce`.
        logit_bias: scalar; starts far below zero, since nearly all pairs are negatives.

    Returns:
        Scalar: the sum over pairs divided by N.
    """
    logits = logit_scale.exp() * image_embeds @ text_embeds.T + logit_bias  # (N, N)
    signs = 2 * torch.eye(len(logits), device=logits.device) - 1
    losses = -F.logsigmoid(signs * logits)
    if same is not None:
        losses = losses.masked_fill(same & (signs < 0), 0.0)
    return losses.sum() / len(logits)


def soft_target(image_embeds: Tensor, text_embeds: Tensor, logit_scale: Tensor) -> Tensor:
    """Cross-entropy with soft targets, as the simple-CLIP family has it: photos that look alike share their captions.

    The targets are the softmax of the mean of image-image and text-text similarities, at the same temperature as
    the logits; no gradient goes through them. A caption that comes twice is half a match by its text alone.

    Args:
        image_embeds, text_embeds, logit_scale: as for `info_nce`.

    Returns:
        Scalar: mean of the two directions.
    """
    scale = logit_scale.clamp(max=MAX_LOGIT_SCALE).exp()
    logits = scale * text_embeds @ image_embeds.T  # (N, N)
    with torch.no_grad():
        alike = (image_embeds @ image_embeds.T + text_embeds @ text_embeds.T) / 2
        targets = F.softmax(scale * alike, dim=-1)  # (N, N)
    return (F.cross_entropy(logits, targets) + F.cross_entropy(logits.T, targets.T)) / 2


def nested(embeds: Tensor, dims: int) -> Tensor:
    """The first `dims` numbers, unit norm again: (N, D) → (N, dims).

    A loss that is the mean over several `dims` makes truncated embeddings good ones (Matryoshka, arXiv 2205.13147).
    """
    return embeds if embeds.shape[-1] == dims else F.normalize(embeds[..., :dims], dim=-1)


def cosine_distance(student: Tensor, teacher: Tensor) -> Tensor:
    """Mean of 1 - cosine over rows: (N, C), (N, C) → scalar; the distillation loss."""
    return (1 - F.cosine_similarity(student, teacher, dim=-1)).mean()
