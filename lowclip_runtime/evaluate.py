"""Retrieval quality of an opened bundle on pairs of images and captions, in both directions.

The protocol: the gallery is every distinct image of the pairs, each caption is one query, ties count against
us. The arithmetic is `metrics.py`, reading pairs `pairs.py`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from lowclip_runtime import metrics
from lowclip_runtime.clip import BATCH_SIZE, LowClip
from lowclip_runtime.errors import DatasetError
from lowclip_runtime.pairs import Pair

T = TypeVar("T")


def evaluate(
    clip: LowClip,
    pairs: Sequence[Pair],
    images_dir: str | Path,
    *,
    lang: str | None = None,
    split: str | None = None,
    batch_size: int = BATCH_SIZE,
    on_progress: Callable[[int, int | None], None] | None = None,
) -> dict[str, Any]:
    """Metrics of `clip` on `pairs`, in the JSON shape of `lowclip eval --json`.

    Args:
        pairs: already filtered by `read_pairs`; not empty.
        images_dir: what the pairs' image names are relative to.
        lang, split: what the pairs were filtered by, told in the result.
        on_progress: called with the images done and their number.

    Raises:
        DatasetError: an image file is missing; names the first and how many.
        ImageError: an image file cannot be decoded.
    """
    images = distinct_images(pairs)
    paths = _existing(images, Path(images_dir))
    image_embeddings = clip.embed_images(_counted(paths, on_progress), batch_size)  # (G, D)
    text_embeddings = clip.embed_texts([pair.caption for pair in pairs])  # (Q, D)
    return {
        "bundle": f"{clip.name}@{clip.bundle_id}",
        "gallery": len(images),
        "queries": len(pairs),
        "lang": lang,
        "split": split,
        **both_directions(pairs, image_embeddings, text_embeddings),
    }


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


def _existing(images: Sequence[str], images_dir: Path) -> list[Path]:
    missing = [image for image in images if not (images_dir / image).is_file()]
    if missing:
        raise DatasetError(
            f"{images_dir / missing[0]} is missing, as are {len(missing)} of {len(images)} images in all; "
            "name the folder that holds them with --images"
        )
    return [images_dir / image for image in images]


def _counted(items: Sequence[T], on_progress: Callable[[int, int | None], None] | None) -> Iterable[T]:
    return items if on_progress is None else _count(items, on_progress)


def _count(items: Sequence[T], on_progress: Callable[[int, int], None]) -> Iterator[T]:
    for done, item in enumerate(items):
        on_progress(done, len(items))
        yield item
    on_progress(len(items), len(items))
