"""The resumable state of a run: weights, optimizer moments and counters, each state whole or absent, no pickle.

States are folders `step-00000042` under one parent; a newer one is complete before an older one goes, so a kill at
any moment leaves at least one.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lowclip_runtime.errors import CheckpointError, first_line
from lowclip_runtime.files import mend, whole_folder
from lowclip_train.ema import WeightAverage
from lowclip_train.fingerprint import CONFIG, Fingerprint, changed

_DAMAGE = (
    *(FileNotFoundError, ValueError, KeyError, TypeError, AttributeError, RecursionError),
    SafetensorError,
)
_VOCABULARY = "vocabulary.sha256"


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a run is: the next step to take, the best validation figure so far and when it was seen.

    Attributes:
        losses: the running mean of each loss, by its name; states of earlier versions have none.
    """

    step: int
    best_score: float
    best_epoch: int
    losses: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Resumable:
    """What a run changes as it goes; all else follows from its config and data.

    Attributes:
        parameters: by name, all that any stage trains.
        scaler: of fp16 gradients; idle in other precisions.
        ema: None where weights are not averaged.
        vocabulary: hash of the pieces that rows of a token embedding table stand for; empty where none is trained.
    """

    parameters: Mapping[str, nn.Parameter]
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    ema: WeightAverage | None
    vocabulary: str


def save_state(parent: Path, progress: Progress, fingerprint: Fingerprint, state: Resumable) -> None:
    """Write a new state and drop older ones.

    Raises:
        CheckpointError, OSError: it could not be written; the older ones stay.
    """
    target = parent / f"step-{progress.step:08d}"
    with whole_folder(target, overwrite=True) as work:
        try:
            _save(state.parameters, work / "model.safetensors")
            _save(_moments(state), work / "optimizer.safetensors")
            if state.ema:
                _save(state.ema.tensors, work / "ema.safetensors")
        except SafetensorError as error:  # how it tells of a full disk
            raise CheckpointError(
                f"{target}: the state could not be written ({error}); make room, then the same command goes on"
            ) from error
        described = {**vars(progress), "fingerprint": dict(fingerprint), "scaler": state.scaler.state_dict()}
        (work / "state.json").write_text(json.dumps(described), "utf-8")
        (work / _VOCABULARY).write_text(state.vocabulary, "utf-8")  # beside what earlier versions read
    for old in parent.glob("step-*"):
        if old != target:
            shutil.rmtree(old)


def load_state(parent: Path, fingerprint: Fingerprint, state: Resumable) -> Progress | None:
    """Bring `state` back to the newest one saved; None where there is none. What a kill left half written goes.

    Raises:
        CheckpointError: the state belongs to a run with another config or vocabulary, something that it names was
            changed, or the state is damaged.
    """
    for torn in parent.glob(".step-*"):  # the next state may be of another step, and would not find it
        mend(parent / torn.name.removeprefix(".").partition(".")[0])
    states = sorted(parent.glob("step-*"))
    if not states:
        return None
    try:
        return _load(states[-1], fingerprint, state)
    except _DAMAGE as error:
        raise CheckpointError(
            f"{states[-1]}: the state is damaged ({first_line(error)}); delete this folder, and the same command "
            f"{'goes on from an older state' if len(states) > 1 else 'starts anew'}"
        ) from error
    except OSError as error:  # which says nothing about what it holds
        raise CheckpointError(
            f"{states[-1]}: the state cannot be read ({error.strerror or error}); mend that and run the same "
            "command again"
        ) from error


def _load(folder: Path, fingerprint: Fingerprint, state: Resumable) -> Progress:
    described: dict[str, Any] = json.loads((folder / "state.json").read_text("utf-8"))
    _check_same_run(folder.parent.parent, changed(described.pop("fingerprint"), fingerprint))
    state.scaler.load_state_dict(described.pop("scaler"))
    weights = load_file(folder / "model.safetensors")
    _check_same_vocabulary(folder, state, weights)
    _restore(state.parameters, weights)
    _restore_moments(state, load_file(folder / "optimizer.safetensors"))
    if state.ema:
        _restore(state.ema.tensors, load_file(folder / "ema.safetensors"))
    return Progress(**described)


def _check_same_run(folder: Path, other: str | None) -> None:
    if other == CONFIG:
        raise CheckpointError(
            f"{folder} holds a run with another config, or of an earlier lowclip; name another folder to start anew, "
            "or restore the config to resume"
        )
    if other:
        raise CheckpointError(
            f"{other} was changed since the run in {folder} began; name another folder to start anew, "
            "or put the old one back to resume"
        )


def _check_same_vocabulary(folder: Path, state: Resumable, weights: Mapping[str, Tensor]) -> None:
    """Versions of lowclip may read texts differently, and so trim vocabularies; states of earlier ones tell no hash."""
    file = folder / _VOCABULARY
    is_other = file.is_file() and file.read_text("utf-8") != state.vocabulary
    if is_other or any(weights[name].shape != now.shape for name, now in state.parameters.items()):
        raise CheckpointError(
            f"{folder.parent.parent} holds a run with another vocabulary, as another version of lowclip makes it; "
            "go on with that version, or name another folder to start anew"
        )


def _save(tensors: Mapping[str, Tensor], path: Path) -> None:
    save_file({name: t.detach().contiguous() for name, t in tensors.items()}, path)


@torch.no_grad()
def _restore(tensors: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        tensor.copy_(saved[name])


def _moments(state: Resumable) -> dict[str, Tensor]:
    """AdamW's per-parameter state, flat, by parameter name."""
    names = {id(p): n for n, p in state.parameters.items()}
    return {
        f"{names[id(parameter)]}:{key}": value
        for parameter, moments in state.optimizer.state.items()
        for key, value in moments.items()
    }


def _restore_moments(state: Resumable, tensors: Mapping[str, Tensor]) -> None:
    for name, value in tensors.items():
        name, key = name.rsplit(":", 1)
        parameter = state.parameters[name]
        # AdamW counts its steps on the CPU, wherever the parameter is
        state.optimizer.state[parameter][key] = value if key == "step" else value.to(parameter.device)
