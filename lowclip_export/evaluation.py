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
_NOT_LANGUAGES = ("all", "parity")  # stand where the manifest names languages


class RetrievalPairs:
    """Retrieval on pairs, by any graphs.

    Args:
        images: the folder of the pairs' images.

    Raises:
        DatasetError: an image is missing or cannot be read, or a language is named like other figures.
    """

    def __init__(
        self, pairs: Sequence[Pair], images: Path, spec: PreprocessSpec, tokenizer: Tokenizer
    ) -> None:
        taken = [lang for lang in _NOT_LANGUAGES if any(pair.lang == lang for pair in pairs)]
        if taken:
            raise DatasetError(
                f"a language of the pairs to evaluate on is named {taken[0]}, as other figures in the manifest are; "
                "give it another name"
            )
        self._pairs = pairs
        self._place = {name: i for i, name in enumerate(distinct_images(pairs))}  # in the gallery
        self._paths = existing_images(pairs, images)
        self._spec = spec
        self._tokenizer = tokenizer

    def embed_images(self, graph: onnx.ModelProto) -> Embeddings:
        """(G, D), by an image tower."""
        return embed(graph, self.image_feeds())

    def embed_texts(self, graph: onnx.ModelProto) -> Embeddings:
        """(Q, D), by a text tower."""
        return embed(graph, self.text_feeds())

    def metrics(self, images: Embeddings, texts: Embeddings) -> dict[str, Any]:
        """Of both directions, by language."""
        found = {}
        for lang, rows in self.rows().items():
            some = [self._pairs[i] for i in rows]
            places = [self._place[name] for name in distinct_images(some)]
            found[lang] = both_directions(some, images[places], texts[rows])
        return found

    def image_feeds(self) -> Iterator[Feed]:
        """The gallery."""
        return _image_feeds(self._paths, self._spec)

    def text_feeds(self) -> Iterator[Feed]:
        """The captions."""
        return _text_feeds([pair.caption for pair in self._pairs], self._tokenizer)

    def rows(self) -> dict[str, list[int]]:
        """Which pairs are in each language."""
        rows: dict[str, list[int]] = {}
        for i, pair in enumerate(self._pairs):
            rows.setdefault(pair.lang, []).append(i)
        return rows

    def sizes(self) -> dict[str, dict[str, int]]:
        """Gallery and queries of each language."""
        some = {lang: distinct_images([self._pairs[i] for i in rows]) for lang, rows in self.rows().items()}
        return {
            lang: {"gallery": len(some[lang]), "queries": len(rows)} for lang, rows in self.rows().items()
        }


class RetrievalTest(RetrievalPairs):
    """Retrieval on pairs, by the torch towers of a checkpoint and by any graphs.

    Args:
        images: the folder of the pairs' images.

    Raises:
        DatasetError: an image is missing or cannot be read.
    """

    def __init__(self, pairs: Sequence[Pair], images: Path, checkpoint: Checkpoint) -> None:
        tokenizer = Tokenizer(checkpoint.tokenizer_path, checkpoint.manifest.text)
        super().__init__(pairs, images, checkpoint.manifest.preprocess, tokenizer)
        model = checkpoint.model
        self._images_before = embed_by_torch(model.image_tower, self.image_feeds())  # (G, D)
        self._texts_before = embed_by_torch(model.text_tower, self.text_feeds())  # (Q, D)
        self._before = self.metrics(self._images_before, self._texts_before)

    def image_drop(self, graph: onnx.ModelProto) -> float:
        """Points of R@10, text → image, that an image tower costs; the mean over the languages."""
        return self._drop(self.embed_images(graph), self._texts_before)

    def text_drop(self, graph: onnx.ModelProto) -> float:
        """The same of a text tower."""
        return self._drop(self._images_before, self.embed_texts(graph))

    def result(self, image_graph: onnx.ModelProto, text_graph: onnx.ModelProto) -> dict[str, Any]:
        """For each language: gallery, queries, metrics `before` and `after`; and parity on these items."""
        images, texts = self.embed_images(image_graph), self.embed_texts(text_graph)
        after = self.metrics(images, texts)
        result: dict[str, Any] = {
            lang or "all": {**sizes, "before": self._before[lang], "after": after[lang]}
            for lang, sizes in self.sizes().items()
        }
        result["parity"] = {
            "image": to_dict(compare(self._images_before, images)),
            "text": to_dict(compare(self._texts_before, texts)),
        }
        return result

    def _drop(self, images: Embeddings, texts: Embeddings) -> float:
        after = self.metrics(images, texts)
        drops = [_recall_at_10(self._before[lang]) - _recall_at_10(after[lang]) for lang in after]
        return 100 * float(np.mean(drops))


def _recall_at_10(metrics: dict[str, Any]) -> float:
    return float(metrics["text_to_image"]["R@10"])


def retrieval_name(pairs: Path, split: str | None) -> str:
    """What the manifest calls retrieval on the `split`, or all, of a file of pairs: its folder's name, by any path."""
    folder = pairs.parent
    if folder.name in ("", ".."):
        folder = folder.resolve()
    return (folder.name or pairs.stem) + (f" {split}" if split else "")


def existing_images(
    pairs: Sequence[Pair], images: Path, to: str = "evaluate", option: str = "--eval-images"
) -> list[Path]:
    """The files of the gallery, in its order.

    Args:
        to: what is done on them; option: which names their folder.

    Raises:
        DatasetError: an image is missing; names the first and how many.
    """
    paths = [images / name for name in distinct_images(pairs)]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise DatasetError(
            f"{len(missing)} of {len(paths)} images to {to} on are missing, the first is {missing[0]}; "
            f"name their folder with {option}"
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
