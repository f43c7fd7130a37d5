"""Retrieval metrics as pure functions: matrices in, numbers out.

The protocol (one query a caption, the whole gallery, ties counted against us) is that of `lowclip eval` and
`lowclip-train eval`; reading pairs is `pairs.py`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Scores of unit vectors that differ by less are equal: embeddings of one thing may differ by rounding.
_TIE = 4 * float(np.finfo(np.float32).eps)
_CHUNK = 1 << 22  # scores held at a time, 32 MB, so that memory stays flat for any number of them


@dataclass(frozen=True, kw_only=True)
class RetrievalMetrics:
    """Fractions in 0..1, and the median rank of the best relevant item (1 is the top)."""

    recall_at_1: float
    recall_at_5: float
    recall_at_10: float
    mean_average_precision: float
    median_rank: float

    def as_json(self) -> dict[str, float]:
        """The field's own names, as DESIGN §6 prints them."""
        return {
            "R@1": self.recall_at_1,
            "R@5": self.recall_at_5,
            "R@10": self.recall_at_10,
            "mAP": self.mean_average_precision,
            "median_rank": self.median_rank,
        }


@dataclass(frozen=True, kw_only=True)
class QueryResults:
    """What each query found: the rank of its best relevant item, from 1, and its average precision; (Q,) both."""

    best_ranks: NDArray[np.float64]
    average_precisions: NDArray[np.float64]

    def metrics(self) -> RetrievalMetrics:
        """All queries in five numbers."""
        return RetrievalMetrics(
            recall_at_1=recall_at_k(self.best_ranks, 1),
            recall_at_5=recall_at_k(self.best_ranks, 5),
            recall_at_10=recall_at_k(self.best_ranks, 10),
            mean_average_precision=float(np.mean(self.average_precisions)),
            median_rank=float(np.median(self.best_ranks)),
        )


def both_directions(
    image_embeddings: NDArray[np.float32],
    text_embeddings: NDArray[np.float32],
    image_of_caption: Sequence[int],
) -> dict[str, dict[str, float]]:
    """`text_to_image` and `image_to_text` metrics, as DESIGN §6 prints them.

    Args:
        image_embeddings: (G, D), the gallery; every image has a caption.
        text_embeddings: (Q, D), one row a caption; image_of_caption: the gallery row of each.
    """
    results = results_of_both(image_embeddings, text_embeddings, image_of_caption)
    return {direction: found.metrics().as_json() for direction, found in results.items()}


def results_of_both(
    image_embeddings: NDArray[np.float32],
    text_embeddings: NDArray[np.float32],
    image_of_caption: Sequence[int],
) -> dict[str, QueryResults]:
    """`text_to_image`, whose queries are the captions, and `image_to_text`, whose are the images; as above."""
    captions_of_image: list[list[int]] = [[] for _ in image_embeddings]
    for caption, image in enumerate(image_of_caption):
        captions_of_image[image].append(caption)
    to_image = query_results(text_embeddings, image_embeddings, [[image] for image in image_of_caption])
    to_text = query_results(image_embeddings, text_embeddings, captions_of_image)
    return {"text_to_image": to_image, "image_to_text": to_text}


def retrieval_metrics(
    queries: NDArray[np.float32], gallery: NDArray[np.float32], relevant: list[list[int]]
) -> RetrievalMetrics:
    """Metrics of ranking `gallery` (G, D) for each of `queries` (Q, D) by dot product.

    Args:
        relevant: for each query, the gallery rows that answer it; none may be empty.
    """
    return query_results(queries, gallery, relevant).metrics()


def query_results(
    queries: NDArray[np.float32], gallery: NDArray[np.float32], relevant: list[list[int]]
) -> QueryResults:
    """Of each query what `retrieval_metrics` takes the mean or median of."""
    if len(relevant) != len(queries) or not all(relevant):
        raise ValueError("retrieval_metrics wants at least one relevant gallery row for every query")
    best_ranks: list[float] = []
    average_precisions: list[float] = []
    for scores, rows in zip(scores_of_each(queries, gallery), relevant, strict=True):
        ranks = relevant_ranks(scores, rows)
        best_ranks.append(float(ranks[0]))
        average_precisions.append(average_precision(ranks))
    return QueryResults(best_ranks=np.asarray(best_ranks), average_precisions=np.asarray(average_precisions))


def scores_of_each(
    queries: NDArray[np.float32], gallery: NDArray[np.float32]
) -> Iterator[NDArray[np.float64]]:
    """For each of `queries` (Q, D) its dot products (G,) with `gallery` (G, D)."""
    # of equal rows a BLAS rounds float32 products by where they stand: MEASURED by up to 8 of its steps, with AVX2
    exact = gallery.astype(np.float64)
    at_once = max(1, _CHUNK // max(1, len(gallery)))
    for start in range(0, len(queries), at_once):
        scores = queries[start : start + at_once].astype(np.float64) @ exact.T  # (q, G)
        if not np.isfinite(scores).all():
            raise ValueError("retrieval_metrics wants finite embeddings, and a score is not finite")
        yield from scores


def relevant_ranks(scores: NDArray[np.floating], relevant: list[int]) -> NDArray[np.int64]:
    """Ranks (R,) from 1 up of the relevant items, ascending; an irrelevant one of equal score goes before.

    Args:
        scores: (G,) dot products of unit vectors; a few of their last bits are rounding and make no difference.
    """
    of_relevant = np.sort(scores[relevant])[::-1]  # (R,)
    irrelevant = np.sort(np.delete(scores, relevant))  # (G - R,)
    ahead = len(irrelevant) - np.searchsorted(irrelevant, of_relevant - _TIE, side="left")
    return np.asarray(ahead + np.arange(1, len(of_relevant) + 1), np.int64)


def average_precision(ranks: NDArray[np.int64]) -> float:
    """Mean over the relevant items of precision at their rank; `ranks` ascending from 1."""
    return float(np.mean(np.arange(1, len(ranks) + 1) / ranks))


def recall_at_k(best_ranks: NDArray[np.float64], k: int) -> float:
    """Share of queries whose best relevant item is among the first `k`."""
    return float(np.mean(best_ranks <= k))
