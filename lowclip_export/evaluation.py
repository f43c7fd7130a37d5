"""Retrieval metrics of the towers before and after quantization, on the user's own pairs."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from lowclip_export.onnx_edit import Feed
from lowclip_export.parity import compare
from lowclip_export.stages import Embeddings, embed, embed_by_torch
from lowclip_runtime.errors import DatasetError, ImageError
from lowclip_runtime.evaluate import both_directions, distinct_images
from lowclip_runtime.pairs import Pair
from lowclip_runtime.preprocess import preprocess
from lowclip_runtime.schema import to_dict
from lowclip_runtime.spec import PreprocessSpec
from lowclip_runtime.text import Tokenizer
from lowclip_train.checkpoint import Checkpoint

_BATCH = 16


class RetrievalTest:
    """Retrieval on pairs, by the torch towers of a checkpoint and by any graphs.

    Args:
        images: the folder of the pairs' images.

    Raises:
        DatasetError: an image is missing or cannot be read.
    """

    def __init__(self, pairs: Sequence[Pair], images: Path, checkpoint: Checkpoint) -> None:
        self._pairs = pairs
        self._gallery = distinct_images(pairs)
        self._paths = existing_images(pairs, images)
        self._spec = checkpoint.manifest.preprocess
        self._tokenizer = Tokenizer(checkpoint.tokenizer_path, checkpoint.manifest.text)
        model = checkpoint.model
        self._images_before = embed_by_torch(model.image_tower, self._image_feeds())  # (G, D)
        self._texts_before = embed_by_torch(model.text_tower, self._text_feeds())  # (Q, D)

    def image_drop(self, graph: onnx.ModelProto) -> float:
        """Points of R@10, text → image, that an image tower costs; the mean over the languages."""
        return self._drop(embed(graph, self._image_feeds()), self._texts_before)

    def text_drop(self, graph: onnx.ModelProto) -> float:
        """The same of a text tower."""
        return self._drop(self._images_before, embed(graph, self._text_feeds()))

    def result(self, image_graph: onnx.ModelProto, text_graph: onnx.ModelProto) -> dict[str, Any]:
        """For each language: gallery, queries, metrics `before` and `after`; and parity on these items."""
        images, texts = embed(image_graph, self._image_feeds()), embed(text_graph, self._text_feeds())
        before = self._metrics(self._images_before, self._texts_before)
        after = self._metrics(images, texts)
        result: dict[str, Any] = {}
        for lang, rows in self._rows().items():
            some = distinct_images([self._pairs[i] for i in rows])
            result[lang or "all"] = {
                "gallery": len(some), "queries": len(rows), "before": before[lang], "after": after[lang],
            }  # fmt: skip
        result["parity"] = {
            "image": to_dict(compare(self._images_before, images)),
            "text": to_dict(compare(self._texts_before, texts)),
        }
        return result

    def _drop(self, images: Embeddings, texts: Embeddings) -> float:
        before = self._metrics(self._images_before, self._texts_before)
        after = self._metrics(images, texts)
        drops = [_recall_at_10(before[lang]) - _recall_at_10(after[lang]) for lang in before]
        return 100 * float(np.mean(drops))

    def _metrics(self, images: Embeddings, texts: Embeddings) -> dict[str, Any]:
        """By language."""
        found = {}
        for lang, rows in self._rows().items():
            some = [self._pairs[i] for i in rows]
            places = [self._gallery.index(name) for name in distinct_images(some)]
            found[lang] = both_directions(some, images[places], texts[rows])
        return found

    def _image_feeds(self) -> Iterator[Feed]:
        return _image_feeds(self._paths, self._spec)

    def _text_feeds(self) -> Iterator[Feed]:
        return _text_feeds([pair.caption for pair in self._pairs], self._tokenizer)

    def _rows(self) -> dict[str, list[int]]:
        rows: dict[str, list[int]] = {}
        for i, pair in enumerate(self._pairs):
            rows.setdefault(pair.lang, []).append(i)
        return rows


def _recall_at_10(metrics: dict[str, Any]) -> float:
    return float(metrics["text_to_image"]["R@10"])


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
