"""Codes of concepts and of their names: a few numbers in which an image meets the words for what it shows.

With as many numbers as concepts each could have one of its own. In fewer, random codes are a little alike by chance,
but none is much like another. Codes fitted to photos do not keep that up: they lose rare concepts to frequent ones.
Three things are added where the image encoder was pretrained on classes:

- Directions that what photos often show takes up, and that therefore say little, count less: codes are whitened, in
  part, by those of photos.
- A name of a thing, drawn or not, gets the mean of the classes that photos of it look like. Which these are is told
  (`ConceptNames.looks`), or guessed: the classes whose names mean something like it (ConSE, Norouzi et al. 2014, arXiv
  1312.5650, from the text's side).
- The name of a class counts more beside the rest of the embedding, as what a classifier knows is surer.

MEASURED with the towers of the shipped model and 96 numbers, as mean average precision of nouns of captions over 6,878
photos of Flickr8k's train and val splits, to which no code is fitted: of 70 nouns that name classes, 112 of drawings
and 242 others 0.235, 0.159 and 0.094 with looks guessed for all things and 0.238, 0.165 and 0.101 with those told.
Names of classes that count 1.25 times as much cost none of these anything; on photos unlike Flickr8k's the rest of the
embedding knows less. Of features made up as those of ten photos each of a hundred classes, the best ten by a class's
name are right in 0.88 with random codes, in 0.93 with whitened ones, and in 0.31 to 0.42 with codes fitted by singular
value decomposition, which are better for nouns of those captions (0.126 of all, 0.113).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from lowclip_train.concept_names import ConceptNames

_WHITENING = 0.5  # 0 none, 1 all of it
_TEMPERATURE = 0.08  # of cosines between names
_CLASS = 1.25  # norm of the code of a name of a class; of others 1
_GROUP = 8  # a thing that looks like more classes is all of these; of fewer the first ones count most


@dataclass(frozen=True)
class NamedConcepts:
    """U names, of K concepts and of other things, and the codes of all.

    Attributes:
        features: (U, C), what the text encoder makes of each name.
        concept_codes: (K, dims), those of concepts of training images of unit norm, the others of such a mean norm.
        name_codes: (U, dims), of unit norm, names of pretrained classes of more.
    """

    features: Tensor
    concept_codes: Tensor
    name_codes: Tensor


@torch.no_grad()
def coded(
    names: ConceptNames, features: Mapping[str, Tensor], seen: Tensor, dims: int, seed: int
) -> NamedConcepts:
    """Codes of concepts and names.

    Args:
        features: the text encoder's, (C,) a name.
        seen: (M, P), how probable each of the first P concepts, the pretrained classes, is in photos; P may be 0.
    """
    row = {name: number for number, name in enumerate(names.all())}
    has = torch.zeros(len(names.concepts), len(row))  # (K, U)
    for number, concept in enumerate(names.concepts):
        has[number, [row[name] for name in concept]] = 1.0
    vectors = torch.stack([features[name] for name in row])
    of_concepts, of_names = _random_codes(has, dims, seed)
    classes = seen.shape[1]
    if not classes:
        return NamedConcepts(vectors, of_concepts, of_names)
    of_class = has[:classes].any(0)
    related = _related(names, vectors, of_class, classes)
    of_names += F.normalize(related @ of_concepts[:classes], dim=1)
    whitening = _whitening(F.normalize(seen.sqrt() @ of_concepts[:classes], dim=1))
    of_names = F.normalize(of_names @ whitening, dim=1)
    of_classes = of_concepts[:classes] @ whitening
    of_classes /= of_classes.norm(dim=1).mean()
    of_concepts = torch.cat([of_classes, _means(has, of_names)[classes:]])
    return NamedConcepts(vectors, of_concepts, of_names * torch.where(of_class, _CLASS, 1.0)[:, None])


def _random_codes(has: Tensor, dims: int, seed: int) -> tuple[Tensor, Tensor]:
    """Of concepts (K, dims), of which those that share a name are alike, and of names (U, dims); unit norm.

    Each name has a random direction, a concept the mean of its names', and a name at last that of its concepts; one of
    no concept has zeros.
    """
    generator = torch.Generator().manual_seed(seed)
    directions = F.normalize(torch.randn(has.shape[1], dims, generator=generator), dim=1)
    of_concepts = _means(has, directions)
    return of_concepts, F.normalize(has.T @ of_concepts, dim=1)


def _means(has: Tensor, of_names: Tensor) -> Tensor:
    """(K, U) and (U, dims) → (K, dims), unit norm; a name of n concepts counts 1 / sqrt(n)."""
    return F.normalize((has / has.sum(0).clamp(min=1).sqrt()) @ of_names, dim=1)


def _related(names: ConceptNames, vectors: Tensor, of_class: Tensor, classes: int) -> Tensor:
    """What photos of each name's thing look like: (U, P), of which only the direction counts.

    It is told by `names.looks`; if not, it is guessed for names of no class.
    """
    looks = torch.zeros(len(vectors), classes)
    guessed = ~of_class
    english = names.english()
    for row, name in enumerate(names.all()):
        told = [names.looks[one.lower()] for one in english[name] if one.lower() in names.looks]
        for numbers in told:
            group = len(numbers) > _GROUP
            looks[row, list(numbers)] += torch.tensor(
                [1.0 if group else 1 / (n + 1) for n in range(len(numbers))]
            )
        guessed[row] &= not told
    looks[guessed] = _likeness(names, vectors, classes)[guessed]
    return looks


def _likeness(names: ConceptNames, vectors: Tensor, classes: int) -> Tensor:
    """How much the name of a thing means the same as those of each pretrained class: (U, P), rows add up to 1.

    That is judged by English names, which the text encoder knows best: MEASURED as above, nouns known from drawings
    alone 0.117, and 0.101 by all names.
    """
    of_name = dict(zip(names.all(), F.normalize(vectors - vectors.mean(0), dim=1), strict=True))

    def meaning(english: Iterable[str]) -> Tensor:
        return F.normalize(torch.stack([of_name[one] for one in english]).mean(0), dim=0)

    english = names.english()
    of_names = torch.stack([meaning(english[name]) for name in of_name])  # (U, C)
    of_classes = torch.stack([meaning(dict.fromkeys(thing.values())) for thing in names.concepts[:classes]])
    likeness: Tensor = (of_names @ of_classes.T / _TEMPERATURE).softmax(1)
    return likeness


def _whitening(of_photos: Tensor) -> Tensor:
    """Symmetric (dims, dims): codes of photos (M, dims), times it, are as large in all directions, in part.

    What all photos have in common counts less too: centred codes give 0.97 of the mean average precision of nouns, and
    where there are fewer classes than numbers only what tells them apart would.
    """
    moments = of_photos.T @ of_photos / len(of_photos)
    moments /= moments.diagonal().mean()
    values, directions = torch.linalg.eigh((1 - _WHITENING) * torch.eye(len(moments)) + _WHITENING * moments)
    whitening: Tensor = (directions * values.rsqrt()) @ directions.T
    return whitening
