"""Texts through an encoder in batches of like length, so that little of what is computed is padding."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lowclip_runtime.text import pad

_BATCH = 64
_CPU = torch.device("cpu")


@torch.no_grad()
def encode_by_length(
    token_ids: Sequence[Sequence[int]],
    pad_token_id: int,
    encode: Callable[[Tensor, Tensor], Tensor],
    device: torch.device = _CPU,
) -> NDArray[np.float32]:
    """Rows of token ids → (N, C), in their order.

    Args:
        encode: `input_ids` and `attention_mask`, (n, L) each on `device` → (n, C).
    """
    by_length = sorted(range(len(token_ids)), key=lambda i: len(token_ids[i]))
    encoded = np.empty((len(token_ids), 0), np.float32)
    for start in range(0, len(token_ids), _BATCH):
        rows = by_length[start : start + _BATCH]
        input_ids, mask = map(torch.from_numpy, pad([token_ids[i] for i in rows], pad_token_id))
        batch = encode(input_ids.to(device), mask.to(device)).cpu().numpy()
        if start == 0:
            encoded = np.empty((len(token_ids), batch.shape[1]), np.float32)
        encoded[rows] = batch
    return encoded
