"""Which of the known names a text is: the keys that it is compared with, as few and as short as finding them allows.

A name costs a row of numbers in the text tower, and a small machine holds and reads all of them.

MEASURED with the shipped model and 16,539 names, their codes and keys of 384 numbers: 15,710 names are left that others
do not say, and with keys of 128 numbers the mean average precision of 424 nouns over 6,878 photos of Flickr8k is 0.140
before and after, drawings by a vendor never trained on are found by name in ten in 0.894 and 0.897, first in 0.672 and
0.656. Captions of its val split are found in ten in 0.627 with both.
"""

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from lowclip_train.concept_codes import NamedConcepts
from lowclip_train.concepts import ConceptSizes, TextConcepts

KEY_DIMS = 128
_TEMPERATURE = 0.03
# Names and other texts, as cosines of centred features. MEASURED with keys as long as features: 0.8 costs captions
# nothing (R@10 0.562, English 0.611), 0.7 and 0.6 cost 0.7 and 2.0 points, while inflected names ("pandalar") still
# reach 0.89. Short keys are more alike.
_LEAST_LIKENESS = 0.8
_LEAST_LIKENESS_OF_SHORT_KEYS = 0.85
_SAME = 0.35  # codes of unit norm that are nearer are the same
_NEIGHBOUR = 0.72  # cosine; what is less like a name has no part in its code
_ROWS = 1000  # compared at once


def key_dims(features: int) -> int:
    """Length of the keys beside `features` of the text encoder; 0 where these are short themselves."""
    return KEY_DIMS if features > KEY_DIMS else 0


@torch.no_grad()
def text_concepts(sizes: ConceptSizes, named: NamedConcepts) -> TextConcepts:
    """What finds the names that a text is, and gives their codes."""
    told = TextConcepts(named.features.shape[1], sizes)
    centre = named.features.mean(0)
    keys = F.normalize(named.features - centre, dim=1)  # (U, C)
    least = _LEAST_LIKENESS
    if isinstance(told.narrow, nn.Linear):
        least = _LEAST_LIKENESS_OF_SHORT_KEYS
        _, directions = torch.linalg.eigh(keys.T @ keys)  # principal ones last
        narrow = directions[:, -sizes.key_dims :].T
        told.narrow.weight.copy_(narrow)
        told.narrow.bias.zero_()
        keys = F.normalize(keys @ narrow.T, dim=1)
    told.centre.copy_(centre)
    told.names.weight.copy_(F.pad(keys / _TEMPERATURE, (0, 0, 0, 1)))
    told.names.bias.zero_()
    told.names.bias[-1] = least / _TEMPERATURE
    told.codes.weight.copy_(F.pad(named.name_codes, (0, 0, 0, 1)).T)
    told.codes.bias.zero_()
    return told


def without_redundant(named: NamedConcepts) -> NamedConcepts:
    """`named` less the names that would get nearly the code they have if only the others were known.

    Of names that say the same the first stays.
    """
    kept = torch.from_numpy(_needed(named))
    return replace(named, features=named.features[kept], name_codes=named.name_codes[kept])


def _needed(named: NamedConcepts) -> NDArray[np.bool_]:
    """Of each name, whether the others leave it unsaid: (U,)."""
    codes = named.name_codes.numpy()
    neighbours = _neighbours(F.normalize(named.features - named.features.mean(0), dim=1))
    needed = np.ones(len(codes), bool)

    def is_said(name: int) -> bool:
        """By the names needed so far; each as it will attend to them."""
        others, likeness = neighbours[name]
        known = needed[others]
        attention = np.exp((likeness[known] - 1) / _TEMPERATURE)
        none = np.exp((_LEAST_LIKENESS - 1) / _TEMPERATURE)
        code = attention @ codes[others[known]] / (attention.sum() + none)
        return bool(np.linalg.norm(code - codes[name]) <= _SAME)

    for name in reversed(range(len(codes))):
        if is_said(name):
            needed[name] = False
            others = neighbours[name][0]
            needed[name] = not all(is_said(other) for other in others[~needed[others]])
    return needed


def _neighbours(keys: Tensor) -> list[tuple[NDArray[np.int64], NDArray[np.float32]]]:
    """Of each key (U, C) of unit norm, the rows of others that are like it, and their cosines."""
    found = []
    for start in range(0, len(keys), _ROWS):
        likeness = keys[start : start + _ROWS] @ keys.T
        likeness[torch.arange(len(likeness)), torch.arange(start, start + len(likeness))] = -1
        for row in likeness.numpy():
            (others,) = np.nonzero(row > _NEIGHBOUR)
            found.append((others, row[others]))
    return found
