"""Retrieval metrics of the towers before and after quantization, on the user's own pairs."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowclip_export.onnx_edit import Feed
from lowclip_export.parity import compare
from lowclip_export.tower import ExportedTower, embed
from lowclip_runtime.errors import DatasetError, ImageError
from lowclip_runtime.evaluate import both_directions, distinct_images
from lowclip_runtime.pairs import Pair
from lowclip_runtime.preprocess import preprocess
from lowclip_runtime.schema import to_dict
from lowclip_runtime.spec import PreprocessSpec
from lowclip_runtime.text import Tokenizer

_BATCH = 16


def evaluate_towers(
    image: ExportedTower,
    text: ExportedTower,
    pairs: Sequence[Pair],
    images: Path,
    spec: PreprocessSpec,
    tokenizer: Tokenizer,
) -> dict[str, Any]:
    """For each language: gallery, queries, metrics `before` and `after`; and parity on these items.

    Raises:
        DatasetError: an image is missing or cannot be read.
    """
    gallery = distinct_images(pairs)
    paths = existing_images(pairs, images)
    captions = [pair.caption for pair in pairs]
    images_before, images_after = _twice(image, lambda: _image_feeds(paths, spec))
    texts_before, texts_after = _twice(text, lambda: _text_feeds(captions, tokenizer))
    result: dict[str, Any] = {}
    for lang in dict.fromkeys(pair.lang for pair in pairs):
        rows = [i for i, pair in enumerate(pairs) if pair.lang == lang]
        some = [pairs[i] for i in rows]
        places = [gallery.index(name) for name in distinct_images(some)]
        result[lang or "all"] = {
            "gallery": len(places),
            "queries": len(rows),
            "before": both_directions(some, images_before[places], texts_before[rows]),
            "after": both_directions(some, images_after[places], texts_after[rows]),
        }
    result["parity"] = {
        "image": to_dict(compare(images_before, images_after)),
        "text": to_dict(compare(texts_before, texts_after)),
    }
    return result


def _twice(tower: ExportedTower, feeds: Any) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    before = embed(tower.reference, feeds())
    return before, before if tower.final is tower.reference else embed(tower.final, feeds())


def existing_images(pairs: Sequence[Pair], images: Path) -> list[Path]:
    """The files of the gallery, in its order.

    Raises:
        DatasetError: an image is missing; names the first and how many.
    """
    paths = [images / name for name in distinct_images(pairs)]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise DatasetError(
            f"{len(missing)} of {len(paths)} images to evaluate on are missing, the first is {missing[0]}; "
            "name their folder with --eval-images"
        )
    return paths


def _image_feeds(paths: Sequence[Path], spec: PreprocessSpec) -> Iterator[Feed]:
    for start in range(0, len(paths), _BATCH):
        try:
            yield {"pixel_values": preprocess(paths[start : start + _BATCH], spec)}
        except ImageError as error:
            raise DatasetError(f"an image to evaluate on cannot be read: {error}; leave it out") from error


def _text_feeds(captions: Sequence[str], tokenizer: Tokenizer) -> Iterator[Feed]:
    for start in range(0, len(captions), _BATCH):
        input_ids, attention_mask = tokenizer(captions[start : start + _BATCH])
        yield {"input_ids": input_ids, "attention_mask": attention_mask}
