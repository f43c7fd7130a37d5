"""What a config says of the classes that the image encoder was pretrained on; used by runs of heads alone."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from lowclip_runtime.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class ClassNamesConfig:
    """Classes the image encoder was pretrained on, learned by name without photos (see `class_features.py`).

    Attributes:
        names: pairs file whose `image` is the number of a class and whose caption is a name of it.
        image_weights: the pretrained weights with their classifier: `hub`, or a state dict's path.
        batch_size: classes drawn each step; weight: of their loss beside the contrastive one.
    """

    names: str
    image_weights: str = "hub"
    batch_size: int = 256
    weight: float = 1.0

    def __post_init__(self) -> None:
        _check_weights(self.image_weights)
        if self.batch_size < 2:
            raise ValueError(f"batch_size must be 2 or more, not {self.batch_size}")


@dataclass(frozen=True, kw_only=True)
class ClassUnitsConfig:
    """Classes of the pretrained classifier as new hidden units of the image projection (see `class_units.py`).

    Attributes:
        names: pairs file whose `image` is the number of a class and whose caption is a name of it.
        image_weights: the pretrained weights with their classifier: `hub`, or a state dict's path.
        threshold: logit from which a class's unit fires; gain: how far it moves the embedding. EfficientNet-Lite0's
            largest logit is under 4.7, 6.1 and 8.2 in one, five and nine of ten Flickr8k photos. Before any training
            a gain of 0.07, 0.1 and 0.15 costs 0.1, 0.5 and 1.7 points of R@10 on Flickr8k's val split.
    """

    names: str
    image_weights: str = "hub"
    threshold: float = 6.0
    gain: float = 0.1

    def __post_init__(self) -> None:
        _check_weights(self.image_weights)


_Classes = TypeVar("_Classes", ClassNamesConfig, ClassUnitsConfig)


def with_files(part: _Classes, place: str, resolve: Callable[[str], str], base: Path) -> _Classes:
    """`part` with the paths of its files, which must be there: only `hub` is a name of something else."""
    names, weights = resolve(part.names), resolve(part.image_weights)
    for key, path in (("names", names), ("image_weights", weights)):
        if not (Path(path).is_file() or (key == "image_weights" and path == "hub")):
            other = ", or hub for timm's own weights" if key == "image_weights" else ""
            raise ConfigError(
                f"{place}.{key} is {path!r}, but there is no file {base / path}; "
                f"give a path relative to the config{other}"
            )
    return replace(part, names=names, image_weights=weights)


def _check_weights(image_weights: str) -> None:
    if image_weights == "random":
        raise ValueError(
            "image_weights must be hub or a state dict's path, not 'random': an untrained classifier knows no class"
        )
