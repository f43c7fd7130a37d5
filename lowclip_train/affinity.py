"""How far a student's matching of a batch is from its teacher's, as a pure function of embeddings and logits."""

import torch.nn.functional as F
from torch import Tensor

from lowclip_train.loss import MAX_LOGIT_SCALE


def affinity(
    image_embeds: Tensor, text_embeds: Tensor, logit_scale: Tensor, teacher_logits: Tensor
) -> Tensor:
    """KL divergence of the student's softmax over the batch from the teacher's, each at its own temperature.

    Contrastive relational distillation (CLIP-KD, Yang et al. 2023, arXiv 2307.12732, section 3.2); affinity mimicking
    (TinyCLIP, Wu et al. 2023, arXiv 2309.12314, section 3.1) is the same but for the teacher's entropy, a constant.
    Only similarities are compared, so the two may have embeddings of different lengths.

    Args:
        image_embeds, text_embeds: (N, D), unit norm, the student's.
        logit_scale: log of the inverse temperature of the student, scalar.
        teacher_logits: (N, N), the teacher's similarity of image i and text j, divided by its temperature.

    Returns:
        Scalar: mean of image→text and text→image.
    """
    logits = logit_scale.clamp(max=MAX_LOGIT_SCALE).exp() * image_embeds @ text_embeds.T  # (N, N)
    return (_divergence(logits, teacher_logits) + _divergence(logits.T, teacher_logits.T)) / 2


def _divergence(logits: Tensor, teacher_logits: Tensor) -> Tensor:
    """Mean over rows of KL(teacher ‖ student)."""
    student, teacher = F.log_softmax(logits, dim=-1), F.log_softmax(teacher_logits, dim=-1)
    return F.kl_div(student, teacher, reduction="batchmean", log_target=True)
