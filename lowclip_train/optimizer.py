"""AdamW with one peak learning rate per part of the model, linear warm-up and cosine decay."""

import math

import torch
from torch import nn

from lowclip_train.model import DualEncoder
from lowclip_train.schedule import Schedule


def build_optimizer(model: DualEncoder, objective: nn.Module, schedule: Schedule) -> torch.optim.AdamW:
    """Parameter groups: image encoder, text encoder, projections with scalars; no decay on vectors."""
    parts: list[tuple[nn.Module, float]] = [
        (model.image_tower.encoder, schedule.learning_rate_image),
        (model.text_tower.encoder, schedule.learning_rate_text),
        (model.image_tower.projection, schedule.learning_rate_projection),
        (model.text_tower.projection, schedule.learning_rate_projection),
    ]
    groups = []
    for part, peak in parts:
        trained = [p for p in part.parameters() if p.requires_grad]
        matrices, vectors = [p for p in trained if p.ndim > 1], [p for p in trained if p.ndim <= 1]
        groups.append({"params": matrices, "peak": peak, "weight_decay": schedule.weight_decay})
        groups.append({"params": vectors, "peak": peak, "weight_decay": 0.0})
    scalars = [model.logit_scale, *objective.parameters()]
    groups.append({"params": scalars, "peak": schedule.learning_rate_projection, "weight_decay": 0.0})
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=0.0)


def set_learning_rates(optimizer: torch.optim.Optimizer, schedule: Schedule, step: int, steps: int) -> None:
    """Set each group's rate for `step` of `steps`."""
    factor = learning_rate_factor(step, steps, schedule.warmup)
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor


def learning_rate_factor(step: int, steps: int, warmup: float) -> float:
    """Share of the peak rate at `step` (from 0): rises linearly over `warmup * steps`, then half a cosine to 0."""
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))
