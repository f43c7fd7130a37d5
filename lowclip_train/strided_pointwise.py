"""Strided 1 × 1 convolutions of few channels, with which RepVGG, MobileOne and FastViT begin, kept off a broken kernel.

Where channels lie last, as those of photos do here, oneDNN writes the gradient of their weights past the end of its
buffer, on x86 CPUs with AVX2 and AVX-512 (https://github.com/uxlfoundation/oneDNN/issues/6035, seen in torch 2.13): the
process hangs, is aborted, or goes on with wrong numbers. Where channels lie first another kernel is used.
"""

import torch
from torch import Tensor, nn

_BLOCK = (
    16  # channels that AVX-512 takes at once, and twice those of AVX2; it happens to convolutions of fewer
)


def keep_off_broken_kernel(encoder: nn.Module) -> None:
    """Let all such convolutions of `encoder` take their input channels first, and give their output channels last."""
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d) and _is_affected(module):
            module.register_forward_pre_hook(_channels_first)
            module.register_forward_hook(_channels_last)


def _is_affected(conv: nn.Conv2d) -> bool:
    return conv.kernel_size == (1, 1) and max(conv.stride) > 1 and conv.in_channels < _BLOCK


def _channels_first(conv: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    return (inputs[0].contiguous(),)


def _channels_last(conv: nn.Module, inputs: tuple[Tensor], output: Tensor) -> Tensor:
    return output.contiguous(memory_format=torch.channels_last)
