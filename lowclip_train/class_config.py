"""What a config says of the classes that the image encoder was pretrained on; used by runs of heads alone."""

from dataclasses import dataclass


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
            largest logit is under 4.7, 6.1 and 8.2 in one, five and nine of ten Flickr8k photos. With a gain of 0.15
            the surest classes come first for queries that only sound like them: aeroplanes for a ship.
    """

    names: str
    image_weights: str = "hub"
    threshold: float = 6.0
    gain: float = 0.07

    def __post_init__(self) -> None:
        _check_weights(self.image_weights)


def _check_weights(image_weights: str) -> None:
    if image_weights == "random":
        raise ValueError(
            "image_weights must be hub or a state dict's path, not 'random': an untrained classifier knows no class"
        )
