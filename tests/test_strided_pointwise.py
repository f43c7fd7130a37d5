"""Strided 1 × 1 convolutions of few channels, whose gradient oneDNN writes past its buffer where channels lie last."""

import os
import subprocess
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lowclip_train.strided_pointwise import keep_off_broken_kernel

# the memory that is written over may be anything, so the step is one of a process of its own
_STEP = """
import sys
from dataclasses import replace
from pathlib import Path
from tiny_training import tiny_config
from lowclip_train.run import prepare_run
from lowclip_train.training_step import train_step

folder = Path(sys.argv[1])
config = tiny_config(folder)
towers = replace(config.towers, image_encoder="repvgg_a0")
config = replace(config, towers=towers, preprocess=replace(config.preprocess, size_px=224))
run = prepare_run(config, folder / "run")
for step in range(2):
    train_step(run, step, [0, 1, 2, 3])
"""


def test_an_encoder_that_begins_with_one_is_trained(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", _STEP, tmp_path], env=environment, capture_output=True, timeout=300
    )
    assert done.returncode == 0, done.stderr[-2000:]


def test_its_gradient_is_that_of_the_plain_sum() -> None:
    """Sums of 4 × 64 × 64 products in another order differ by some 1e-6 of the largest; 1e-5 is allowed."""
    torch.manual_seed(0)
    first, second = nn.Conv2d(3, 16, 1, stride=2, bias=False), nn.Conv2d(16, 8, 3, padding=1)
    encoder = nn.Sequential(first, second)
    keep_off_broken_kernel(encoder)
    laid_out: list[Tensor] = []
    second.register_forward_pre_hook(lambda _, inputs: laid_out.append(inputs[0]))
    photos = torch.randn(4, 3, 128, 128)
    encoder(photos.contiguous(memory_format=torch.channels_last)).square().sum().backward()
    assert first.weight.grad is not None
    assert laid_out[0].is_contiguous(memory_format=torch.channels_last)  # which the others like best

    weight = first.weight.detach().double().requires_grad_()
    seen = torch.einsum("oc,nchw->nohw", weight[:, :, 0, 0], photos[:, :, ::2, ::2].double())
    assert second.bias is not None
    F.conv2d(seen, second.weight.double(), second.bias.double(), padding=1).square().sum().backward()
    assert weight.grad is not None
    apart = (first.weight.grad.double() - weight.grad).abs().max()
    assert apart < 1e-5 * weight.grad.abs().max()


def test_other_convolutions_are_left_alone() -> None:
    encoder = nn.Sequential(nn.Conv2d(3, 16, 3, stride=2), nn.Conv2d(16, 16, 1, stride=2), nn.Conv2d(3, 8, 1))
    keep_off_broken_kernel(encoder)
    assert not any(module._forward_pre_hooks or module._forward_hooks for module in encoder)
