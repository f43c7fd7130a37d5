"""The figure that picks the best epoch: retrieval on the val split, one caption a photo, per language."""

import shutil
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lowclip_runtime.metrics import both_directions
from lowclip_runtime.spec import TextSpec
from lowclip_train.array_cache import kept_exactly, weights_sha256
from lowclip_train.captions import CaptionedImage
from lowclip_train.evaluate import embed_token_ids
from lowclip_train.finite import check_finite
from lowclip_train.frozen_stages import SplitEncoder
from lowclip_train.image_inputs import ImageInputs
from lowclip_train.model import DualEncoder

_BATCH = 64
_PART = 256  # images or texts: some 20 s of a ViT, and fewer of a BERT, on two slow cores
_Embeddings = NDArray[np.float32]


class EmbeddedParts:
    """What one validation has embedded so far, in files of a folder, so that a kill costs a part of it.

    Training that is resumed comes to the same weights, and finds what they have embedded. What fits into one part is
    not kept.

    Args:
        key: what decides beside the weights of `model`.
    """

    def __init__(self, folder: Path, model: DualEncoder, key: Mapping[str, str]) -> None:
        self._folder, self._model, self._key = folder, model, dict(key)

    @cached_property
    def _weights(self) -> str:
        return weights_sha256(self._model)

    def embed(self, what: str, count: int, embed: Callable[[range], _Embeddings]) -> _Embeddings:
        """What `embed` makes of `count` rows, which are those of `what`: (count, D)."""
        if count <= _PART:
            return embed(range(count))
        self._folder.mkdir(parents=True, exist_ok=True)
        parts = []
        for start in range(0, count, _PART):
            rows = range(start, min(count, start + _PART))
            key = [self._key, self._weights, what, start]
            parts.append(kept_exactly(self._folder, "part", key, partial(embed, rows)))
        return np.concatenate(parts)


def forget_parts(folder: Path) -> None:
    """Of a validation that the run has a state after."""
    shutil.rmtree(folder, ignore_errors=True)


@torch.no_grad()
def validate(
    model: DualEncoder,
    split: SplitEncoder,
    inputs: ImageInputs,
    images: Sequence[CaptionedImage],
    text: TextSpec,
    parts: EmbeddedParts,
) -> dict[str, Any]:
    """Metrics by language, over the gallery of all val images that have a caption in it.

    Raises:
        LowClipError: an embedding is not finite, as the last step has ruined the weights.
    """
    model.eval()
    device = model.logit_scale.device

    def embed_batch(rows: Sequence[int]) -> Tensor:
        return model.image_tower.embed_pooled(split.tail(inputs.clean_batch(rows).to(device)))

    def embed_images(rows: range) -> _Embeddings:
        batches = [rows[start : start + _BATCH] for start in range(0, len(rows), _BATCH)]
        return _finite("an image", torch.cat([embed_batch(batch) for batch in batches]))

    image_embeds = parts.embed("images", len(images), embed_images)  # (G, D)
    metrics = {}
    for lang in sorted({lang for image in images for lang in image.captions}):
        shown = [i for i, image in enumerate(images) if lang in image.captions]
        token_ids = [images[i].captions[lang][0].token_ids for i in shown]

        def embed_texts(rows: range, token_ids: Sequence[Sequence[int]] = token_ids) -> _Embeddings:
            texts = [token_ids[row] for row in rows]
            return _finite(
                "a text", torch.from_numpy(embed_token_ids(model.text_tower, texts, text.pad_token_id))
            )

        text_embeds = parts.embed(f"texts of {lang}", len(shown), embed_texts)
        figures = both_directions(image_embeds[np.asarray(shown)], text_embeds, range(len(shown)))
        metrics[lang] = {"gallery": len(shown), "queries": len(shown), **figures}
    return metrics


def _finite(of_what: str, embeddings: Tensor) -> _Embeddings:
    check_finite(f"{of_what}'s embedding at the end of the epoch", embeddings)
    found: _Embeddings = embeddings.cpu().numpy()
    return found


def mean_average_precision(metrics: dict[str, Any]) -> float:
    """The score of an epoch: text→image mAP of `validate`, every language counting alike however many captions."""
    return float(np.mean([of_lang["text_to_image"]["mAP"] for of_lang in metrics.values()]))
