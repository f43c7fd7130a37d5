"""How long and how fast a run trains, as the config says it; `optimizer.py` and `trainer.py` do it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Trained = Literal["heads", "attention", "all"]
Precision = Literal["fp32", "bf16", "fp16"]
Device = Literal["auto", "cpu", "cuda"]
_LEARNING_RATES = ("learning_rate_image", "learning_rate_text", "learning_rate_projection")
_LARGEST_SEED = 2**63 - 1  # of the whole numbers that TOML promises to hold; torch overflows at twice as much


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast.

    Attributes:
        epochs: passes over the drawn images, where no stages say theirs.
        batch_size: images a step, of all processes together; captions_per_image: drawn each step.
        micro_batch_size: images or captions whose activations are in memory at once; the loss is still of the whole
            batch, and each encoder runs twice (0: all at once, and once).
        precision: of the encoders (`fp16` needs CUDA); device: `auto` is CUDA where there is one.
        learning_rate_*: peaks of a linear warm-up (`warmup` share of a stage's steps) and cosine decay.
        layer_decay: each layer of the encoders learns this many times as fast as the one above it (1: all alike).
        image_views: random views of each image whose frozen stages are computed once and cached (0: no cache,
            a new view every time).
        text_views: of each caption, as `text_noise` types it, whose encoding is computed once and cached beside that
            of the caption itself, in runs of heads alone (0: captions as they are).
        save_every_s: seconds between resumable states.
        tensorboard: also write scalars for TensorBoard, into `tensorboard` in the run's folder.
        ema_decay: of the moving average of the weights that is validated and saved instead of them (0: off).
        patience: leave off after so many epochs of the last stage without a better score (0: off). The score is
            text→image mAP on the val split, the mean over its languages; it also picks the epoch that is kept.
    """

    epochs: int = 10
    batch_size: int = 128
    captions_per_image: int = 1
    micro_batch_size: int = 0
    precision: Precision = "fp32"
    device: Device = "auto"
    learning_rate_image: float = 1e-4
    learning_rate_text: float = 1e-4
    learning_rate_projection: float = 1e-3
    layer_decay: float = 1.0
    weight_decay: float = 0.01
    warmup: float = 0.05
    image_views: int = 0
    text_views: int = 0
    save_every_s: float = 60.0
    tensorboard: bool = False
    seed: int = 0
    ema_decay: float = 0.0
    patience: int = 0

    def __post_init__(self) -> None:
        problems = []
        for name in ("epochs", "batch_size", "captions_per_image"):
            if getattr(self, name) < 1:
                problems.append(f"{name} must be 1 or more, not {getattr(self, name)}")
        at_least_0 = (
            "image_views",
            "text_views",
            "patience",
            "micro_batch_size",
            "seed",
            "weight_decay",
            "save_every_s",
        )
        problems += _negative(self, (*at_least_0, *_LEARNING_RATES))
        if not 0 < self.layer_decay <= 1:
            problems.append(f"layer_decay must be in (0, 1], not {self.layer_decay}")
        if self.seed > _LARGEST_SEED:
            problems.append(f"seed must be at most {_LARGEST_SEED}, not {self.seed}")
        for name in ("warmup", "ema_decay"):
            if not 0 <= getattr(self, name) < 1:
                problems.append(f"{name} must be in [0, 1), not {getattr(self, name)}")
        if problems:
            raise ValueError("; ".join(problems))


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One part of a run, with its own warm-up and decay.

    Attributes:
        train: `heads` (projections and scalars), `attention` (those and the attention blocks of the encoders; a
            convolutional one has none) or `all`.
        epochs: passes over the drawn images; learning_rate_*: where given, in place of the schedule's.
    """

    train: Trained
    epochs: int
    learning_rate_image: float | None = None
    learning_rate_text: float | None = None
    learning_rate_projection: float | None = None

    def __post_init__(self) -> None:
        problems = _negative(self, _LEARNING_RATES)
        if self.epochs < 1:
            problems.append(f"epochs must be 1 or more, not {self.epochs}")
        if problems:
            raise ValueError("; ".join(problems))


def _negative(config: object, names: Sequence[str]) -> list[str]:
    """What to say of those of these attributes that are negative; None is not."""
    values = {name: getattr(config, name) for name in names}
    return [f"{name} must be 0 or more, not {value}" for name, value in values.items() if (value or 0) < 0]
