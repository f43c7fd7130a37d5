"""Cuts a timm encoder in two: first stages that keep their weights, and a tail that trains.

What the frozen stages give for an image never changes, so `image_inputs.py` may compute it once and cache it.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from lowclip_runtime.errors import ConfigError


@dataclass(frozen=True)
class SplitEncoder:
    """The two parts share their modules with the encoder they came from.

    Attributes:
        frozen: pixel_values (N, 3, H, W) → whatever the tail takes.
        tail: that → pooled features (N, C).
    """

    frozen: nn.Module
    tail: nn.Module


class _Tail(nn.Module):
    def __init__(self, stages: Iterable[nn.Module], encoder: nn.Module) -> None:
        super().__init__()
        self.stages = nn.Sequential(*stages)
        self._encoder = [encoder]  # in a list, so that its parameters are not registered twice

    def forward(self, features: Tensor) -> Tensor:
        return cast(Tensor, self._encoder[0].forward_head(self.stages(features)))  # type: ignore[operator]


def split_encoder(encoder: nn.Module, frozen_stages: int) -> SplitEncoder:
    """Cut after `frozen_stages` stages (0: all trains; -1: all is frozen) and stop gradients to the first part.

    Raises:
        ConfigError: the encoder has fewer stages, or its family cannot be cut in the middle.
    """
    if frozen_stages == 0:
        return SplitEncoder(nn.Identity(), encoder)
    if frozen_stages == -1:
        return SplitEncoder(_freeze(encoder), nn.Identity())
    stem, stages, end = _parts(encoder)
    if frozen_stages > len(stages):
        raise ConfigError(f"image_frozen_stages is {frozen_stages}, but the encoder has {len(stages)} stages")
    frozen = nn.Sequential(*stem, *stages[:frozen_stages])
    return SplitEncoder(_freeze(frozen), _Tail([*stages[frozen_stages:], *end], encoder))


def keep_batch_norm_statistics(encoder: nn.Module) -> None:
    """Put batch norms in eval mode: a small mixed batch would spoil statistics gathered on ImageNet."""
    for module in encoder.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def _parts(encoder: nn.Module) -> tuple[list[nn.Module], list[nn.Module], list[nn.Module]]:
    """Stem, stages, end of a convolutional encoder, up to its pooling."""
    parts = dict(encoder.named_children())
    if {"conv_stem", "bn1", "blocks", "conv_head", "bn2"} <= set(parts):  # the EfficientNet family
        blocks = list(parts["blocks"].children())
        return [parts["conv_stem"], parts["bn1"]], blocks, [parts["conv_head"], parts["bn2"]]
    if {"conv1", "bn1", "act1", "maxpool", "layer1", "layer4"} <= set(parts):  # the ResNet family
        layers = [parts[f"layer{i}"] for i in range(1, 5)]
        return [parts[name] for name in ("conv1", "bn1", "act1", "maxpool")], layers, []
    raise ConfigError(
        f"{type(encoder).__name__} cannot be frozen in part; use image_frozen_stages = 0 or -1 "
        "(EfficientNet and ResNet can)"
    )


def _freeze(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        parameter.requires_grad_(False)
    return module.eval()


@torch.no_grad()
def frozen_features(frozen: nn.Module, pixel_values: Tensor) -> Tensor:
    """Run the frozen stages where their weights are, in the memory format that convolutions like best on CPUs."""
    device = next((p.device for p in frozen.parameters()), pixel_values.device)
    return cast(Tensor, frozen(pixel_values.to(device).contiguous(memory_format=torch.channels_last)))
