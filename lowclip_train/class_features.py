"""Features of the classes that an image encoder was pretrained on, drawn from its classifier without any photo.

The names of those classes are the largest vocabulary that an encoder already knows by sight; with features that stand
for them, a dual encoder learns to find them by name in a language that its photos' captions never used.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lowclip_runtime.errors import ConfigError, DatasetError
from lowclip_runtime.pairs import read_pairs

# How far a feature is moved towards its class. With EfficientNet-Lite0 on Flickr8k the classifier then sees the class
# asked for in 0.4 (4) to 0.9 (14) of all, as sure and as unsure as it is of real photos.
_LEAST_STEP, _MOST_STEP = 4.0, 14.0
_RIDGE = 0.1  # of the mean variance: real photos of a few thousand scenes do not vary in every direction


class ClassFeatures:
    """Draws pooled features of classes.

    A linear classifier tells where its classes lie: if features vary alike in every class, with covariance S, the best
    weights of class k are S⁻¹ times its mean (linear discriminant analysis, Hastie et al., section 4.3), so S times
    the difference of two classes' weights leads from the mean of the one to the other's. A real feature is moved that
    way, from the classes that the classifier sees in it to the class asked for.

    Args:
        weight, bias: of the classifier, (K, C) and (K,).
        features: (M, C), pooled features of real photos.
    """

    def __init__(self, weight: Tensor, bias: Tensor, features: Tensor) -> None:
        covariance = torch.cov(features.T)  # (C, C)
        covariance += _RIDGE * covariance.diagonal().mean() * torch.eye(len(covariance))
        self._weight, self._bias, self._features = weight, bias, features
        self._directions = weight @ covariance  # (K, C)
        self._not_negative = bool((features >= 0).all())  # as after a ReLU

    def draw(self, classes: Sequence[int], generator: np.random.Generator) -> Tensor:
        """One feature a class: (N, C)."""
        rows = torch.from_numpy(generator.integers(len(self._features), size=len(classes)))
        steps = torch.from_numpy(generator.uniform(_LEAST_STEP, _MOST_STEP, len(classes))).float()
        real = self._features[rows]  # (N, C)
        seen = (real @ self._weight.T + self._bias).softmax(-1)  # (N, K)
        moved = real + steps[:, None] * (self._directions[list(classes)] - seen @ self._directions)
        return moved.clamp(min=0) if self._not_negative else moved


@dataclass(frozen=True)
class ClassNames:
    """Names of each class, in every language; `of_class[k]` are those of class k."""

    of_class: list[dict[str, list[str]]]

    def draw(self, count: int, generator: np.random.Generator) -> tuple[list[int], list[str]]:
        """`count` classes, and of each one name in one of its languages."""
        classes = generator.choice(len(self.of_class), min(count, len(self.of_class)), replace=False).tolist()
        names = []
        for k in classes:
            of_language = list(self.of_class[k].values())[int(generator.integers(len(self.of_class[k])))]
            names.append(of_language[int(generator.integers(len(of_language)))])
        return classes, names

    @property
    def all(self) -> list[str]:
        """Every name, each once."""
        return list(dict.fromkeys(n for k in self.of_class for names in k.values() for n in names))


def read_class_names(path: str | Path, class_count: int) -> ClassNames:
    """Names from a pairs file whose `image` is the number of a class, from 0.

    Raises:
        DatasetError: not such a file.
        ConfigError: it does not name every class of the classifier, or names others.
    """
    of_class: list[dict[str, list[str]]] = [{} for _ in range(class_count)]
    for pair in read_pairs(path):
        if not (pair.image.isdecimal() and int(pair.image) < class_count):
            raise DatasetError(
                f"{path}: image must be the number of a class, 0 to {class_count - 1}, not {pair.image!r}"
            )
        of_class[int(pair.image)].setdefault(pair.lang, []).append(pair.caption)
    unnamed = [k for k, names in enumerate(of_class) if not names]
    if unnamed:
        raise ConfigError(
            f"{path} names {class_count - len(unnamed)} of the classifier's {class_count} classes; "
            f"the first without a name is {unnamed[0]}"
        )
    return ClassNames(of_class)
