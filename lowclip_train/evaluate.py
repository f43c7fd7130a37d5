"""Retrieval metrics of the torch model, by the protocol of `lowclip eval`."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lowclip_runtime.errors import DatasetError
from lowclip_runtime.metrics import both_directions
from lowclip_runtime.pairs import Pair
from lowclip_runtime.preprocess import preprocess
from lowclip_runtime.text import Tokenizer, pad
from lowclip_train.checkpoint import Checkpoint
from lowclip_train.model import TextTower

_IMAGE_BATCH = 32
_TEXT_BATCH = 64


def evaluate_checkpoint(
    checkpoint: Checkpoint, pairs: Sequence[Pair], images_dir: str | Path
) -> dict[str, Any]:
    """Both directions over the full gallery: every distinct image of `pairs`; each caption is one query.

    Raises:
        DatasetError: an image is missing.
    """
    gallery = list(dict.fromkeys(p.image for p in pairs))
    paths = [Path(images_dir) / image for image in gallery]
    missing = [path for path in paths if not path.is_file()]
    if missing:
        raise DatasetError(f"{len(missing)} of {len(paths)} images are missing (first: {missing[0]})")
    tokenizer = Tokenizer(checkpoint.tokenizer_path, checkpoint.manifest.text)
    text_embeds = embed_token_ids(checkpoint.model.text_tower, tokenizer.token_ids([p.caption for p in pairs]),
                                  checkpoint.manifest.text.pad_token_id)  # fmt: skip
    tower = checkpoint.model.image_tower
    image_embeds = np.concatenate(
        [
            _forward(tower, torch.from_numpy(preprocess(batch, checkpoint.manifest.preprocess)))
            for batch in _batches(paths, _IMAGE_BATCH)
        ]
    )
    row_of = {image: row for row, image in enumerate(gallery)}
    figures = both_directions(image_embeds, text_embeds, [row_of[p.image] for p in pairs])
    return {"gallery": len(gallery), "queries": len(pairs), **figures}


def embed_token_ids(
    tower: TextTower, token_ids: Sequence[Sequence[int]], pad_token_id: int
) -> NDArray[np.float32]:
    """Rows of token ids → (N, D), in batches of like length."""
    by_length = sorted(range(len(token_ids)), key=lambda i: len(token_ids[i]))
    embeds = np.empty((len(token_ids), 0), np.float32)
    for start in range(0, len(token_ids), _TEXT_BATCH):
        rows = by_length[start : start + _TEXT_BATCH]
        input_ids, mask = map(torch.from_numpy, pad([token_ids[i] for i in rows], pad_token_id))
        batch = _forward(tower, input_ids, mask)
        if start == 0:
            embeds = np.empty((len(token_ids), batch.shape[1]), np.float32)
        embeds[rows] = batch
    return embeds


@torch.no_grad()
def _forward(tower: nn.Module, *inputs: Tensor) -> NDArray[np.float32]:
    device = next(tower.parameters()).device
    return cast(NDArray[np.float32], tower(*(i.to(device) for i in inputs)).cpu().numpy())


def _batches(items: Sequence[Path], size: int) -> Iterable[Sequence[Path]]:
    return (items[i : i + size] for i in range(0, len(items), size))
