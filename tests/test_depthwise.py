"""Depthwise convolutions in bf16: gradients as exact as float32's, and no other convolution touched."""

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import Tensor, nn  # noqa: E402

from lowclip_train.depthwise import DepthwiseGradientsInFloat32  # noqa: E402
from lowclip_train.precision import autocast  # noqa: E402

CPU = torch.device("cpu")


def gradients(conv: nn.Conv2d, x: Tensor, *, half: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Output, gradient of the input and gradient of the weights of a loss that weighs all outputs differently."""
    x = x.clone().requires_grad_()
    conv.zero_grad()
    with autocast("bf16" if half else "fp32", CPU):
        y = conv(x)
    weights = torch.linspace(-1, 1, y.numel()).view_as(y)
    (y.float() * weights).sum().backward()
    assert x.grad is not None and conv.weight.grad is not None
    return y.detach(), x.grad, conv.weight.grad


@pytest.mark.parametrize("stride, padding, kernel", [(1, 2, 5), (2, 0, 3), ((2, 1), (1, 2), 5)])
def test_gradients_are_those_of_float32(
    stride: int | tuple[int, int], padding: int | tuple[int, int], kernel: int
) -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(24, 24, kernel, stride, padding, groups=24, bias=False)
    x = torch.randn(70, 24, 9, 9)  # more than two pieces
    expected, got = gradients(conv, x, half=False), gradients(conv, x, half=True)
    assert got[0].dtype == torch.bfloat16
    assert [g.dtype for g in got[1:]] == [torch.float32, torch.float32]
    for one, other in zip(got, expected, strict=True):
        assert one.shape == other.shape
        assert F.cosine_similarity(one.float().flatten(), other.flatten(), dim=0) > 0.9999


def test_what_needs_no_gradient_gets_none() -> None:
    conv = nn.Conv2d(8, 8, 3, groups=8, bias=False)
    x = torch.randn(2, 8, 5, 5)
    with autocast("bf16", CPU):
        conv(x).float().sum().backward()
    assert conv.weight.grad is not None
    conv.weight.requires_grad_(False)
    conv.weight.grad = None
    x.requires_grad_()
    with autocast("bf16", CPU):
        conv(x).float().sum().backward()
    assert x.grad is not None and conv.weight.grad is None


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(8, 8, 3, bias=False),
        nn.Conv2d(8, 8, 3, groups=4, bias=False),
        nn.Conv2d(8, 16, 3, groups=8, bias=False),
        nn.Conv2d(8, 8, 3, groups=8),
        nn.Conv2d(8, 8, 3, groups=8, bias=False, padding="same"),
    ],
    ids=["dense", "grouped", "two filters a channel", "with a bias", "padding by name"],
)
def test_other_convolutions_are_left_alone(conv: nn.Conv2d) -> None:
    x = torch.randn(2, 8, 6, 6, requires_grad=True)
    with DepthwiseGradientsInFloat32():
        y = conv(x)
    assert y.grad_fn is not None and "Depthwise" not in y.grad_fn.name()
    assert torch.equal(y, conv(x))
