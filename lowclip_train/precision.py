"""Where a run computes, and in which numbers: fp32, or the encoders in bf16 or fp16 by autocast.

Weights, projections, losses and validation are float32 always.
"""

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager

import torch

from lowclip_runtime.errors import ConfigError
from lowclip_train.depthwise import DepthwiseGradientsInFloat32
from lowclip_train.schedule import Device, Precision

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def pick_device(device: Device) -> torch.device:
    """`auto` is CUDA where there is one.

    Raises:
        ConfigError: CUDA is asked for and not there.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            f"schedule.device is 'cuda', but torch {torch.__version__} finds no CUDA device here; "
            "install a CUDA build of torch, or set it to 'auto' or 'cpu'"
        )
    cuda = device != "cpu" and torch.cuda.is_available()
    return torch.device("cuda" if cuda else "cpu")


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """In which the encoders run."""
    if precision == "fp32":
        return contextlib.nullcontext()
    half = torch.autocast(device.type, dtype=_DTYPES[precision])
    return half if device.type != "cpu" else _on_cpu(half)


@contextlib.contextmanager
def _on_cpu(half: AbstractContextManager[object]) -> Iterator[None]:
    with half, DepthwiseGradientsInFloat32():
        yield


def grad_scaler(precision: Precision, device: torch.device) -> torch.amp.GradScaler:
    """Keeps fp16 gradients from vanishing (Micikevicius et al. 2018, arXiv 1710.03740); idle in other precisions.

    Raises:
        ConfigError: fp16 without CUDA.
    """
    if precision == "fp16" and device.type != "cuda":
        raise ConfigError(
            f"schedule.precision is 'fp16', which needs a CUDA device, but this run is on {device.type}; "
            "use 'bf16' or 'fp32'"
        )
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")
