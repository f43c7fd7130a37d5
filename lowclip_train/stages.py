"""The stages of a run: when each begins, how fast it trains, and which weights.

A run without stages is one stage of `all`. The attention stage is the paper's (LowCLIP, arXiv 2408.13909): of the
encoders it trains the attention blocks alone.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import nn

from lowclip_runtime.errors import ConfigError
from lowclip_train.config import TrainConfig
from lowclip_train.schedule import Schedule, Stage, Trained

_PARTS = ("image", "text", "projection")
_ENCODERS = ("model.image_tower.encoder.", "model.text_tower.encoder.")
# what transformers (BERT, DistilBERT, CLIP) and timm (ViT, Swin) call their self-attention; BERT's holds its LayerNorm
_ATTENTION = re.compile(r"(^|\.)(attention|attn|self_attn)\.")


@dataclass(frozen=True, kw_only=True)
class PlannedStage:
    """A stage at its place in the run.

    Attributes:
        first_step: of the whole run's, from 0.
        peaks: learning rates of the parts `image`, `text` and `projection`.
    """

    train: Trained
    first_step: int
    steps: int
    peaks: Mapping[str, float]


def plan_stages(config: TrainConfig, steps_per_epoch: int) -> tuple[PlannedStage, ...]:
    """The stages of `config` one after the other."""
    planned: list[PlannedStage] = []
    for stage in config.stages or (Stage(train="all", epochs=config.schedule.epochs),):
        first_step = planned[-1].first_step + planned[-1].steps if planned else 0
        steps = stage.epochs * steps_per_epoch
        peaks = _peaks(stage, config.schedule)
        planned.append(PlannedStage(train=stage.train, first_step=first_step, steps=steps, peaks=peaks))
    return tuple(planned)


def stage_at(planned: Sequence[PlannedStage], step: int) -> PlannedStage:
    """The stage that `step` belongs to; after the end, the last."""
    return next((stage for stage in planned if step < stage.first_step + stage.steps), planned[-1])


def train_only(parameters: Mapping[str, nn.Parameter], trained: Trained) -> None:
    """Let gradients reach those of `parameters` (by name, as `Resumable` has them) that a stage trains."""
    for name, parameter in parameters.items():
        parameter.requires_grad_(_is_trained(name, trained))


def check_stages(config: TrainConfig, parameters: Mapping[str, nn.Parameter]) -> None:
    """Refuse an attention stage that would find nothing of the text encoder to train.

    Raises:
        ConfigError: the text encoder's attention blocks have no name that is known here.
    """
    asked = any(stage.train == "attention" for stage in config.stages)
    if asked and not any(n.startswith(_ENCODERS[1]) and _is_trained(n, "attention") for n in parameters):
        raise ConfigError(
            "a stage trains attention, but the text encoder has no module named attention, attn or self_attn; "
            "train all or heads"
        )


def is_of_encoder(name: str) -> bool:
    """Whether the parameter is an encoder's, and so trained by `all` or `attention` only."""
    return name.startswith(_ENCODERS)


def _is_trained(name: str, trained: Trained) -> bool:
    if trained == "all" or not is_of_encoder(name):
        return True
    return trained == "attention" and bool(_ATTENTION.search(name))


def _peaks(stage: Stage, schedule: Schedule) -> dict[str, float]:
    own = {part: getattr(stage, f"learning_rate_{part}") for part in _PARTS}
    return {
        part: getattr(schedule, f"learning_rate_{part}") if peak is None else peak
        for part, peak in own.items()
    }
