"""What frozen encoders give for every view and text of a run, computed once: then heads train in seconds a pass."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from tqdm import tqdm

from lowclip_runtime.files import whole_file
from lowclip_runtime.text import Tokenizer, pad
from lowclip_train.image_inputs import CachedInputs
from lowclip_train.model import TextTower

_BATCH = 64
_PART = 4096  # texts: half a minute's work on two slow cores


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
    """The rest of the image encoder on cached features; kept in `folder`."""

    def compute() -> NDArray[np.float16]:
        tail.eval()
        views = []
        for view in range(1 + inputs.view_count):
            batches = _batches(range(inputs.image_count), "pooled images")
            pooled = [tail(inputs.view_batch(rows, view).to(device)).cpu().numpy() for rows in batches]
            views.append(np.concatenate(pooled).astype(np.float16))
        return np.stack(views, 1)

    return PooledInputs(_kept(folder, "pooled-images", [inputs.key], tail, compute))


def pool_texts(
    tower: TextTower, tokenizer: Tokenizer, texts: Sequence[str], folder: Path
) -> NDArray[np.float16]:
    """The text encoder's vectors of `texts`, (T, C); kept in `folder`, part by part, so that a kill costs one part."""
    parts = [texts[i : i + _PART] for i in range(0, len(texts), _PART)]
    bar = tqdm(parts, "pooled texts", unit=f"{_PART} texts", mininterval=5, disable=None)
    compute = partial(_pool_part, tower, tokenizer)
    return np.concatenate(
        [_kept(folder, "pooled-texts", part, tower.encoder, partial(compute, part)) for part in bar]
    )


@torch.no_grad()
def _pool_part(tower: TextTower, tokenizer: Tokenizer, texts: Sequence[str]) -> NDArray[np.float16]:
    tower.eval()
    device = next(tower.parameters()).device
    token_ids = tokenizer.token_ids(texts)
    by_length = sorted(range(len(texts)), key=lambda i: len(token_ids[i]))
    found: dict[int, NDArray[np.float16]] = {}
    for start in range(0, len(texts), _BATCH):
        rows = by_length[start : start + _BATCH]
        input_ids, mask = map(
            torch.from_numpy, pad([token_ids[i] for i in rows], tokenizer.spec.pad_token_id)
        )
        pooled = tower.pool(input_ids.to(device), mask.to(device)).cpu().numpy()
        found |= zip(rows, pooled.astype(np.float16), strict=True)
    return np.stack([found[i] for i in range(len(texts))])


def _kept(
    folder: Path,
    name: str,
    described: Iterable[str],
    encoder: nn.Module,
    compute: Callable[[], NDArray[np.float16]],
) -> NDArray[np.float16]:
    """The array of exactly this encoder and what it was given, from `folder` if it is there."""
    digest = hashlib.sha256("\n".join(described).encode())
    for tensor in encoder.state_dict().values():
        digest.update(tensor.contiguous().cpu().numpy().tobytes())
    return kept(folder / f"{name}-{digest.hexdigest()[:16]}.npy", compute)


def kept(path: Path, compute: Callable[[], NDArray[np.float16]]) -> NDArray[np.float16]:
    """The array in `path`, computed and written whole where it is not there."""
    if not path.is_file():
        array = compute()
        with whole_file(path) as work, work.open("wb") as file:
            np.save(file, array)
    return cast(NDArray[np.float16], np.load(path))


def _batches(rows: Sequence[int], name: str) -> Iterable[Sequence[int]]:
    starts = tqdm(range(0, len(rows), _BATCH), name, unit="batch", mininterval=5, disable=None)
    return (rows[i : i + _BATCH] for i in starts)
