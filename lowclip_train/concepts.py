"""Concepts that a model knows by name: the part of its embeddings in which a photo meets the words for what it shows.

A dense embedding must place every photo between all captions that may be asked; the one word for a thing is then often
as near to photos of other things. Here an image says which known concepts it shows and a text which one it names, and
both say it in the same code. The code is a part of the embedding beside the dense one, so indexes, sessions and other
clients need nothing new. A text that names none, as most captions do, has next to nothing in it.

What the concepts are, and how everything here is set, is `known_concepts.py`, and how codes are made
`concept_codes.py`; nothing of it is trained.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class ConceptSizes:
    """What rebuilds the concept parts of both towers without their weights; stored in the checkpoint.

    Attributes:
        pretrained: classes that the image encoder was pretrained on.
        learned: concepts of the training images.
        names: of all of them together.
        dims: length of the code, the last part of the embedding.
        key_dims: numbers in which a text and names are compared; 0: all that the text encoder gives.
    """

    pretrained: int
    learned: int
    names: int
    dims: int
    key_dims: int = 0

    def __post_init__(self) -> None:
        if min(self.pretrained, self.learned) < 0 or self.pretrained + self.learned < 1:
            raise ValueError(
                f"there must be a concept, not {self.pretrained} pretrained and {self.learned} learned"
            )
        if min(self.names, self.dims) < 1:
            raise ValueError(f"names and dims must be 1 or more, not {self.names} and {self.dims}")
        if self.key_dims < 0:
            raise ValueError(f"key_dims must be 0 or more, not {self.key_dims}")


class ConceptProjection(nn.Module):
    """A tower's own projection, unit norm, and the code of its concepts beside it: (N, features) → (N, D)."""

    def __init__(self, own: nn.Module, concepts: nn.Module) -> None:
        super().__init__()
        self.own = own
        self.concepts = concepts

    def forward(self, features: Tensor) -> Tensor:
        return torch.cat([F.normalize(self.own(features), dim=-1), self.concepts(features)], dim=-1)


class ImageConcepts(nn.Module):
    """Pooled image features (N, C) → code of the concepts seen in them (N, dims), unit norm.

    One softmax tells the learned concepts from each other and from images that show none of them; another shares what
    is left for those among the classes of the pretrained classifier. The code is the mean of the concepts' own, each
    weighted by the square root of its probability, as unit vectors of probabilities are compared (Bhattacharyya).
    """

    def __init__(self, features: int, sizes: ConceptSizes) -> None:
        super().__init__()
        self._split = [sizes.pretrained, sizes.learned + 1]
        self.classify = nn.Linear(features, sum(self._split))  # the last output: none of the learned ones
        self.codes = nn.Linear(sizes.pretrained + sizes.learned, sizes.dims)
        self.requires_grad_(False)

    def forward(self, features: Tensor) -> Tensor:
        pretrained, learned = self.classify(features).split(self._split, dim=-1)
        learned = learned.log_softmax(-1)
        logs = [learned[:, :-1]] if self._split[1] > 1 else []
        if self._split[0]:
            logs.insert(0, pretrained.log_softmax(-1) + learned[:, -1:])
        return F.normalize(self.codes(torch.exp(0.5 * torch.cat(logs, dim=-1))), dim=-1)


class TextConcepts(nn.Module):
    """Pooled text features (N, C) → code of the concept that the text names (N, dims), of a norm from 0 to 1.

    Attention of the text to all known names (ConSE, Norouzi et al. 2014, from the other side): it goes to the names
    that are like the text, and where none is, to none.
    """

    def __init__(self, features: int, sizes: ConceptSizes) -> None:
        super().__init__()
        self.centre = nn.Parameter(torch.zeros(features))
        self.narrow = nn.Linear(features, sizes.key_dims) if sizes.key_dims else nn.Identity()
        self.names = nn.Linear(sizes.key_dims or features, sizes.names + 1)  # the last output: no name at all
        self.codes = nn.Linear(sizes.names + 1, sizes.dims)
        self.requires_grad_(False)

    def forward(self, features: Tensor) -> Tensor:
        key = F.normalize(self.narrow(features - self.centre), dim=-1)
        code: Tensor = self.codes(self.names(key).softmax(-1))
        return code
