"""What frozen encoders give for every view and text of a run, computed once: then heads train in seconds a pass."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lowclip_runtime.text import Tokenizer
from lowclip_train.array_cache import kept_in_parts, kept_texts, weights_sha256
from lowclip_train.image_inputs import CachedInputs
from lowclip_train.model import TextTower
from lowclip_train.text_batches import encode_by_length

_BATCH = 64
_PART = 8 * _BATCH  # images: of five views each some seconds' work, a minute's of a large encoder


class PooledInputs:
    """Image inputs that went through the whole encoder: pooled features, for an encoder of which nothing trains.

    Attributes:
        pooled: (images, 1 + views, C) float16; view 0 is the plain one.
    """

    def __init__(self, pooled: NDArray[np.float16]) -> None:
        self.pooled = pooled

    def training_batch(self, rows: Sequence[int], epoch: int, share: slice = slice(None)) -> Tensor:
        views = np.random.default_rng([epoch, *rows]).integers(0, self.pooled.shape[1], len(rows))
        return self._gather(rows[share], views[share])

    def clean_batch(self, rows: Sequence[int]) -> Tensor:
        return self._gather(rows, np.zeros(len(rows), np.int64))

    def _gather(self, rows: Sequence[int], views: NDArray[np.int64]) -> Tensor:
        return torch.from_numpy(self.pooled[np.asarray(rows), views].astype(np.float32))


class PooledTexts:
    """The text encoder's vectors of `texts`, looked up by text."""

    def __init__(self, texts: Sequence[str], pooled: NDArray[np.float16]) -> None:
        self._pooled = pooled  # (T, C)
        self._rows = {text: row for row, text in enumerate(texts)}

    def vectors(self, texts: Sequence[str]) -> Tensor:
        """(N, C) float32.

        Raises:
            KeyError: a text that was not pooled.
        """
        return torch.from_numpy(self._pooled[[self._rows[text] for text in texts]].astype(np.float32))


@torch.no_grad()
def pool_images(inputs: CachedInputs, tail: nn.Module, device: torch.device, folder: Path) -> PooledInputs:
    """The rest of the image encoder on cached features; kept in `folder`, part by part."""

    def compute(part: Sequence[int]) -> NDArray[np.float32]:
        batches = [part[start : start + _BATCH] for start in range(0, len(part), _BATCH)]
        views = [
            np.concatenate([tail(inputs.view_batch(rows, view).to(device)).cpu().numpy() for rows in batches])
            for view in range(1 + inputs.view_count)
        ]
        return np.stack(views, 1)

    tail.eval()
    key = [inputs.key, weights_sha256(tail)]
    rows = list(range(inputs.image_count))
    return PooledInputs(kept_in_parts(folder, "pooled-images", key, rows, compute, _PART))


def pool_texts(
    tower: TextTower, tokenizer: Tokenizer, texts: Sequence[str], folder: Path
) -> NDArray[np.float16]:
    """The text encoder's vectors of `texts`, (T, C); kept in `folder`."""
    tower.eval()
    encode = partial(
        encode_by_length,
        pad_token_id=tokenizer.spec.pad_token_id,
        encode=tower.pool,
        device=next(tower.parameters()).device,
    )
    key = [tower.pooling, weights_sha256(tower.encoder)]
    return kept_texts(folder, "pooled-texts", key, tokenizer.token_ids(texts), encode)
