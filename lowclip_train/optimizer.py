"""AdamW with one peak learning rate per part of the model, linear warm-up and cosine decay."""

import math
from collections.abc import Iterable, Mapping, Set
from fnmatch import fnmatchcase
from itertools import groupby
from typing import Any

import torch
from torch import nn

from lowclip_train.layer_decay import layer_scales
from lowclip_train.model import DualEncoder
from lowclip_train.schedule import Schedule


def build_optimizer(model: DualEncoder, objective: nn.Module, schedule: Schedule) -> torch.optim.AdamW:
    """Parameter groups: image encoder and text encoder by layer, projections with scalars.

    Vectors do not decay, nor does what an encoder of timm keeps from it, such as its positions.
    """
    groups: list[dict[str, Any]] = []
    for part, encoder in (("image", model.image_tower.encoder), ("text", model.text_tower.encoder)):
        scales = layer_scales(encoder, schedule.layer_decay)
        kept = _kept_from_decay(encoder)
        trained = [(scales[name], p) for name, p in encoder.named_parameters() if p.requires_grad]
        for scale, of_scale in groupby(sorted(trained, key=_first), key=_first):
            groups += _groups(part, scale, (p for _, p in of_scale), schedule, kept)
    for projection in (model.image_tower.projection, model.text_tower.projection):
        groups += _groups("projection", 1.0, projection.parameters(), schedule)
    groups += _groups("projection", 1.0, [model.logit_scale, *objective.parameters()], schedule)
    return torch.optim.AdamW([g for g in groups if g["params"]], lr=0.0)


def set_learning_rates(optimizer: torch.optim.Optimizer, peaks: Mapping[str, float], factor: float) -> None:
    """Set each group's rate to `factor` of its part's peak, less for lower layers."""
    for group in optimizer.param_groups:
        group["lr"] = peaks[group["part"]] * group["scale"] * factor


def learning_rate_factor(step: int, steps: int, warmup: float) -> float:
    """Share of the peak rate at `step` (from 0): rises linearly over `warmup * steps`, then half a cosine to 0."""
    rising = round(warmup * steps)
    if step < rising:
        return (step + 1) / rising
    return 0.5 * (1 + math.cos(math.pi * (step - rising) / max(1, steps - rising)))


def _groups(
    part: str,
    scale: float,
    parameters: Iterable[nn.Parameter],
    schedule: Schedule,
    kept_from_decay: Set[int] = frozenset(),
) -> list[dict[str, Any]]:
    trained = [p for p in parameters if p.requires_grad]
    decaying = [p for p in trained if p.ndim > 1 and id(p) not in kept_from_decay]
    others = [p for p in trained if p.ndim <= 1 or id(p) in kept_from_decay]
    shared = {"part": part, "scale": scale}
    return [
        {"params": decaying, "weight_decay": schedule.weight_decay, **shared},
        {"params": others, "weight_decay": 0.0, **shared},
    ]


def _kept_from_decay(encoder: nn.Module) -> set[int]:
    """Ids of the parameters that the encoder's own `no_weight_decay`, which many of timm have, names or matches."""
    patterns: Iterable[str] = getattr(encoder, "no_weight_decay", tuple)()
    return {
        id(p) for name, p in encoder.named_parameters() if any(fnmatchcase(name, one) for one in patterns)
    }


def _first(scaled: tuple[float, nn.Parameter]) -> float:
    return scaled[0]
