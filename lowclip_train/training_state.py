"""The resumable state of a run: weights, optimizer moments and counters, each state whole or absent, no pickle.

States are folders `step-00000042` under one parent; a newer one is complete before an older one goes, so a kill at
any moment leaves at least one.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lowclip_runtime.errors import CheckpointError
from lowclip_runtime.files import whole_folder


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run is: the next step to take, the best validation figure so far and when it was seen."""

    step: int
    best_score: float
    best_epoch: int


def save_state(
    parent: Path, progress: Progress, fingerprint: str, model: nn.Module, optimizer: torch.optim.Optimizer
) -> None:
    """Write a new state and drop older ones."""
    trained = {n: p.detach().contiguous() for n, p in model.named_parameters() if p.requires_grad}
    target = parent / f"step-{progress.step:08d}"
    with whole_folder(target, overwrite=True) as work:
        save_file(trained, work / "model.safetensors")
        save_file(_moments(model, optimizer), work / "optimizer.safetensors")
        described = {**vars(progress), "fingerprint": fingerprint}
        (work / "state.json").write_text(json.dumps(described), "utf-8")
    for old in parent.glob("step-*"):
        if old != target:
            shutil.rmtree(old)


def load_state(
    parent: Path, fingerprint: str, model: nn.Module, optimizer: torch.optim.Optimizer
) -> Progress | None:
    """Bring model and optimizer back to the newest state; None where there is none.

    Raises:
        CheckpointError: the state belongs to a run with another config or other data.
    """
    states = sorted(parent.glob("step-*"))
    if not states:
        return None
    newest = states[-1]
    described: dict[str, Any] = json.loads((newest / "state.json").read_text("utf-8"))
    if described.pop("fingerprint") != fingerprint:
        raise CheckpointError(
            f"{parent.parent} holds a run with another config or other data; name another folder to start anew, "
            "or restore the config to resume"
        )
    model.load_state_dict(load_file(newest / "model.safetensors"), strict=False)
    _restore_moments(model, optimizer, load_file(newest / "optimizer.safetensors"))
    return Progress(**described)


def _moments(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """AdamW's per-parameter state, flat, by parameter name."""
    names = {id(p): n for n, p in model.named_parameters()}
    return {
        f"{names[id(parameter)]}:{key}": value.detach().contiguous()
        for parameter, state in optimizer.state.items()
        for key, value in state.items()
    }


def _restore_moments(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    parameters = dict(model.named_parameters())
    for name, value in tensors.items():
        parameter, key = name.rsplit(":", 1)
        optimizer.state[parameters[parameter]][key] = value
