"""How well two sets of embeddings of the same items agree, as pure functions: matrices in, numbers out."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Embeddings = NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Parity:
    """Agreement of one export stage with another.

    Attributes:
        centred_cosine: mean cosine once each side's mean embedding is taken away; it shows damage that a
            direction which all embeddings share would hide.
        top1_agreement: share of the items whose nearest other item is the same on both sides.
    """

    items: int
    mean_cosine: float
    min_cosine: float
    centred_cosine: float
    top1_agreement: float
    max_abs_difference: float


def compare(reference: Embeddings, found: Embeddings) -> Parity:
    """Both (N, D), N at least 1, row by row the same items."""
    if reference.shape != found.shape or reference.ndim != 2 or not len(reference):
        raise ValueError(f"parity needs two equal (N, D) matrices, not {reference.shape} and {found.shape}")
    cosines = row_cosines(reference, found)
    return Parity(
        items=len(reference),
        mean_cosine=float(cosines.mean()),
        min_cosine=float(cosines.min()),
        centred_cosine=float(centred_cosine(reference, found)),
        top1_agreement=float(top1_agreement(reference, found)),
        max_abs_difference=float(np.abs(reference - found).max()),
    )


def row_cosines(a: Embeddings, b: Embeddings) -> NDArray[np.float64]:
    """Cosine of each row of `a` with the same row of `b`, (N,)."""
    a64, b64 = a.astype(np.float64), b.astype(np.float64)
    norms = np.linalg.norm(a64, axis=1) * np.linalg.norm(b64, axis=1)
    return np.asarray((a64 * b64).sum(1) / np.maximum(norms, 1e-12))


def centred_cosine(a: Embeddings, b: Embeddings) -> float:
    """Mean cosine of the rows less their mean; one row alone has nothing left and counts as its cosine."""
    if len(a) < 2:
        return float(row_cosines(a, b).mean())
    return float(row_cosines(a - a.mean(0), b - b.mean(0)).mean())


def top1_agreement(a: Embeddings, b: Embeddings) -> float:
    """Share of items with the same nearest other item; 1.0 for fewer than three items."""
    if len(a) < 3:
        return 1.0
    return float(np.mean(_nearest_other(a) == _nearest_other(b)))


def _nearest_other(embeddings: Embeddings) -> NDArray[np.int64]:
    scores = embeddings @ embeddings.T
    np.fill_diagonal(scores, -np.inf)
    return np.asarray(scores.argmax(1), np.int64)
