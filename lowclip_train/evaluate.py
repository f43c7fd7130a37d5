"""The torch model as evaluation wants it, by the protocol and the measures of `lowclip eval`."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lowclip_runtime.evaluate import embed_pairs, figures
from lowclip_runtime.pairs import Pair
from lowclip_runtime.preprocess import preprocess
from lowclip_runtime.stream import batches
from lowclip_runtime.text import Tokenizer
from lowclip_train.checkpoint import Checkpoint
from lowclip_train.finite import check_finite
from lowclip_train.model import TextTower
from lowclip_train.text_batches import encode_by_length

_IMAGE_BATCH = 32


def evaluate_checkpoint(
    checkpoint: Checkpoint, pairs: Sequence[Pair], images_dir: str | Path
) -> dict[str, Any]:
    """Both directions over the full gallery: every distinct image of `pairs`; each caption is one query.

    Raises:
        DatasetError: an image is missing.
        LowClipError: an embedding is not finite.
    """
    return figures(embed_pairs(TorchEmbedder(checkpoint), pairs, images_dir))


class TorchEmbedder:
    """A checkpoint as an `Embedder`."""

    def __init__(self, checkpoint: Checkpoint) -> None:
        self._checkpoint = checkpoint
        self._tokenizer = Tokenizer(checkpoint.tokenizer_path, checkpoint.manifest.text)

    def embed_images(self, images: Iterable[Path], batch_size: int = _IMAGE_BATCH, /) -> NDArray[np.float32]:
        """Image files → (N, D) float32, unit norm.

        Raises:
            ImageError: one cannot be decoded; the message names it.
            LowClipError: an embedding is not finite.
        """
        tower, spec = self._checkpoint.model.image_tower, self._checkpoint.manifest.preprocess
        embeds = [
            self._checked("an image", _forward(tower, torch.from_numpy(preprocess(some, spec))))
            for some in batches(images, batch_size)
        ]
        return np.concatenate(embeds)

    def embed_texts(self, texts: Sequence[str], /) -> NDArray[np.float32]:
        """Texts → (N, D) float32, unit norm.

        Raises:
            LowClipError: an embedding is not finite.
        """
        pad_token_id = self._checkpoint.manifest.text.pad_token_id
        token_ids = self._tokenizer.token_ids(texts)
        return self._checked(
            "a text", embed_token_ids(self._checkpoint.model.text_tower, token_ids, pad_token_id)
        )

    def _checked(self, of_what: str, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        what = f"{of_what}'s embedding by the checkpoint {self._checkpoint.tokenizer_path.parent}"
        check_finite(what, torch.from_numpy(embeddings), "its weights are ruined, so name another checkpoint")
        return embeddings


def embed_token_ids(
    tower: TextTower, token_ids: Sequence[Sequence[int]], pad_token_id: int
) -> NDArray[np.float32]:
    """Rows of token ids → (N, D) float32, unit norm."""
    return encode_by_length(token_ids, pad_token_id, tower, next(tower.parameters()).device)


@torch.no_grad()
def _forward(tower: nn.Module, *inputs: Tensor) -> NDArray[np.float32]:
    device = next(tower.parameters()).device
    return cast(NDArray[np.float32], tower(*(i.to(device) for i in inputs)).cpu().numpy())
