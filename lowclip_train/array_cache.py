"""Arrays that take long to compute and never change: kept on disk, known by all that they follow from."""

import hashlib
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from tqdm import tqdm

from lowclip_runtime.errors import first_line
from lowclip_runtime.files import whole_file
from lowclip_train.progress import say

_PART = 2048  # texts: half a minute's work of a small encoder on two slow cores
_Item = TypeVar("_Item")
_Number = TypeVar("_Number", bound=np.floating[Any])


def kept(
    folder: Path, name: str, key: Sequence[Any], compute: Callable[[], NDArray[np.floating[Any]]]
) -> NDArray[np.float16]:
    """What `compute` gives, or gave when `folder` was last asked for `name` of this very `key` (JSON values)."""
    return kept_exactly(folder, name, key, lambda: compute().astype(np.float16))


def kept_exactly(
    folder: Path, name: str, key: Sequence[Any], compute: Callable[[], NDArray[_Number]]
) -> NDArray[_Number]:
    """As `kept`, without a loss of digits."""
    digest = hashlib.sha256(json.dumps(key).encode()).hexdigest()
    path = folder / f"{name}-{digest[:16]}.npy"
    if path.is_file():
        try:
            return cast(NDArray[_Number], np.load(path))
        except (ValueError, EOFError) as error:
            say(f"{path} is damaged ({first_line(error)}) and computed anew")
    array = compute()
    with whole_file(path) as work, work.open("wb") as file:
        np.save(file, array)
    return cast(NDArray[_Number], np.load(path))


def kept_in_parts(
    folder: Path,
    name: str,
    key: Sequence[Any],
    items: Sequence[_Item],
    compute: Callable[[Sequence[_Item]], NDArray[np.floating[Any]]],
    part_size: int,
) -> NDArray[np.float16]:
    """What `compute` makes of each of `items` (JSON values): (N, C); part by part, so that a kill costs one part.

    Args:
        key: what decides beside the items, such as the weights.
    """
    parts = [items[i : i + part_size] for i in range(0, len(items), part_size)]
    bar = tqdm(parts, name, unit=f"part of {part_size}", mininterval=5, disable=None)
    return np.concatenate([kept(folder, name, [*key, part], partial(compute, part)) for part in bar])


def kept_texts(
    folder: Path,
    name: str,
    key: Sequence[Any],
    token_ids: Sequence[Sequence[int]],
    encode: Callable[[Sequence[Sequence[int]]], NDArray[np.floating[Any]]],
) -> NDArray[np.float16]:
    """What `encode` makes of texts, given by their token ids: (T, C)."""
    return kept_in_parts(folder, name, key, list(map(list, token_ids)), encode, _PART)


def weights_sha256(module: nn.Module) -> str:
    """Hex digest of the names, types, shapes and values of a module's weights."""
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(tensor.cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()
