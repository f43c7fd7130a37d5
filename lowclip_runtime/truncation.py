"""Embeddings cut to their first numbers: smaller and faster to search, at a price in recall.

What an index keeps is `index.py`'s affair; the price is measured in `benchmarks/results/index.json`. Models
trained for it lose least (Kusupati et al. 2022, Matryoshka Representation Learning, arXiv 2205.13147).
"""

import numpy as np
from numpy.typing import NDArray

from lowclip_runtime.errors import InputError

LEAST_DIMS = 8


def truncated(embeddings: NDArray[np.float32], dims: int) -> NDArray[np.float32]:
    """Embeddings (..., D) → their first `dims` numbers, unit norm again: (..., dims); as they are if D = dims."""
    if embeddings.shape[-1] == dims:
        return embeddings
    kept = embeddings[..., :dims]
    norm = np.linalg.norm(kept, axis=-1, keepdims=True)
    return np.asarray(kept / np.maximum(norm, np.float32(1e-12)), np.float32)


def check_dims(dims: int | None, of_bundle: int) -> None:
    """Refuse a number of dims that embeddings of `of_bundle` numbers cannot be cut to; None is no cut.

    Raises:
        InputError: naming the range.
    """
    if dims is not None and not (isinstance(dims, int | np.integer) and LEAST_DIMS <= dims <= of_bundle):
        raise InputError(f"dims must be {LEAST_DIMS} to {of_bundle}, the bundle's own, not {dims!r}")
