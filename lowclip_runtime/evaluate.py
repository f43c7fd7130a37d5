"""Retrieval quality on pairs of images and captions, in both directions, of a bundle or anything else that embeds.

The protocol: the gallery is every distinct image of the pairs, each caption is one query, ties count against
us. The arithmetic is `metrics.py`, reading pairs `pairs.py`; what else can be asked of a model is `evaluation.py`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from lowclip_runtime import metrics
from lowclip_runtime.bootstrap import Bootstrap, retrieval_intervals
from lowclip_runtime.clip import BATCH_SIZE, LowClip
from lowclip_runtime.errors import DatasetError, InputError
from lowclip_runtime.files import checked_path
from lowclip_runtime.pairs import Pair

T = TypeVar("T")
Embeddings = NDArray[np.float32]
OnProgress = Callable[[int, int | None], None]  # called with the images done and their number


class Embedder(Protocol):
    """What evaluation asks of a model: a `LowClip`, or training's torch model."""

    def embed_images(self, images: Iterable[Path], batch_size: int = ..., /) -> Embeddings:
        """Image files → (N, D) float32, unit norm."""
        ...

    def embed_texts(self, texts: Sequence[str], /) -> Embeddings:
        """Texts → (N, D) float32, unit norm."""
        ...


@dataclass(frozen=True, kw_only=True)
class EmbeddedPairs:
    """Pairs and what a model made of them.

    Attributes:
        pairs: Q of them, the queries.
        gallery: names of the G images, every one that `pairs` have and maybe others.
        images: (G, D); texts: (Q, D).
    """

    pairs: Sequence[Pair]
    gallery: Sequence[str]
    images: Embeddings
    texts: Embeddings

    @cached_property
    def image_of_caption(self) -> list[int]:
        """The gallery row of each pair."""
        row_of = {image: row for row, image in enumerate(self.gallery)}
        return [row_of[pair.image] for pair in self.pairs]

    def of_lang(self, lang: str) -> "EmbeddedPairs":
        """The pairs of one language over the gallery of their own images, as if only they had been read."""
        kept = [row for row, pair in enumerate(self.pairs) if pair.lang == lang]
        pairs = [self.pairs[row] for row in kept]
        gallery = distinct_images(pairs)
        row_of = {image: row for row, image in enumerate(self.gallery)}
        return EmbeddedPairs(
            pairs=pairs,
            gallery=gallery,
            images=self.images[[row_of[image] for image in gallery]],
            texts=self.texts[kept],
        )


def evaluate(
    clip: LowClip,
    pairs: Sequence[Pair],
    images_dir: str | Path,
    *,
    lang: str | None = None,
    split: str | None = None,
    batch_size: int = BATCH_SIZE,
    on_progress: OnProgress | None = None,
) -> dict[str, Any]:
    """Metrics of `clip` on `pairs`, in the JSON shape of `lowclip eval --json`.

    Args:
        pairs: as `read_pairs` gives them, already filtered.
        images_dir: what the pairs' image names are relative to.
        lang, split: what the pairs were filtered by, told in the result.
        on_progress: called with the images done and their number.

    Raises:
        DatasetError: an image file is missing; names the first and how many.
        ImageError: an image file cannot be decoded.
        InputError: there are no pairs, they are something else, or `images_dir` is no path.
    """
    _check_pairs(pairs)
    checked_path(images_dir, "the folder of the images")
    embedded = embed_pairs(clip, pairs, images_dir, batch_size=batch_size, on_progress=on_progress)
    of_pairs = figures(embedded)
    return {
        "bundle": f"{clip.name}@{clip.bundle_id}",
        "gallery": of_pairs.pop("gallery"),
        "queries": of_pairs.pop("queries"),
        "lang": lang,
        "split": split,
        **of_pairs,
    }


def _check_pairs(pairs: object) -> None:
    if not isinstance(pairs, Sequence) or not all(isinstance(one, Pair) for one in pairs):
        raise InputError(f"pairs must be a list as read_pairs gives it, not {type(pairs).__name__}")
    if not pairs:
        raise InputError("there are no pairs to evaluate; give one at least")


def embed_pairs(
    embedder: Embedder,
    pairs: Sequence[Pair],
    images_dir: str | Path,
    *,
    batch_size: int = BATCH_SIZE,
    on_progress: OnProgress | None = None,
) -> EmbeddedPairs:
    """Embed every distinct image of `pairs` and every caption; raises what `evaluate` does."""
    gallery = distinct_images(pairs)
    paths = existing_images(gallery, Path(images_dir))
    images = embedder.embed_images(counted(paths, on_progress), batch_size)  # (G, D)
    texts = embedder.embed_texts([pair.caption for pair in pairs])  # (Q, D)
    return EmbeddedPairs(pairs=pairs, gallery=gallery, images=images, texts=texts)


def figures(embedded: EmbeddedPairs, bootstrap: Bootstrap | None = None) -> dict[str, Any]:
    """`gallery`, `queries`, the metrics of both directions and, with `bootstrap`, the `intervals` of each.

    Captions of one image are drawn together; see `bootstrap.py`.
    """
    results = metrics.results_of_both(embedded.images, embedded.texts, embedded.image_of_caption)
    told: dict[str, Any] = {"gallery": len(embedded.gallery), "queries": len(embedded.pairs)}
    told |= {direction: found.metrics().as_json() for direction, found in results.items()}
    if bootstrap is not None:
        groups: dict[str, Sequence[int]] = {
            "text_to_image": embedded.image_of_caption,
            "image_to_text": range(len(embedded.gallery)),
        }
        told["intervals"] = {
            direction: retrieval_intervals(found, groups[direction], bootstrap)
            for direction, found in results.items()
        }
    return told


def both_directions(
    pairs: Sequence[Pair], image_embeddings: NDArray[np.float32], text_embeddings: NDArray[np.float32]
) -> dict[str, dict[str, float]]:
    """`text_to_image` and `image_to_text` metrics.

    Args:
        image_embeddings: (G, D), a row for each of `distinct_images(pairs)`.
        text_embeddings: (Q, D), a row for each of `pairs`.
    """
    row_of = {image: row for row, image in enumerate(distinct_images(pairs))}
    image_of_caption = [row_of[pair.image] for pair in pairs]
    return metrics.both_directions(image_embeddings, text_embeddings, image_of_caption)


def distinct_images(pairs: Sequence[Pair]) -> list[str]:
    """The gallery: every image name once, in the order of its first pair."""
    return list(dict.fromkeys(pair.image for pair in pairs))


def existing_images(images: Sequence[str], images_dir: Path) -> list[Path]:
    """The files of `images`.

    Raises:
        DatasetError: one is missing; names the first and how many.
    """
    missing = [image for image in images if not (images_dir / image).is_file()]
    if missing:
        raise DatasetError(
            f"{images_dir / missing[0]} is missing, {len(missing)} of {len(images)} images in all; "
            "name the folder that holds them with --images"
        )
    return [images_dir / image for image in images]


def counted(items: Sequence[T], on_progress: OnProgress | None) -> Iterable[T]:
    """`items`, telling `on_progress` how many have been taken."""
    return items if on_progress is None else _count(items, on_progress)


def _count(items: Sequence[T], on_progress: Callable[[int, int], None]) -> Iterator[T]:
    for done, item in enumerate(items):
        on_progress(done, len(items))
        yield item
    on_progress(len(items), len(items))
