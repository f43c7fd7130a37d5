"""The photos of a shard nearest to an embedding, ranked so that the same index always gives the same order."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lowclip_runtime.photo_record import PhotoRecord
from lowclip_runtime.points import ScoredPoint, Where
from lowclip_runtime.shard import Shard


@dataclass(frozen=True, slots=True)
class Hit:
    """One found photo: `rank` from 1 up, `score` the cosine with the query, `path` absolute."""

    rank: int
    score: float
    path: str
    payload: dict[str, Any] = field(hash=False)


def nearest_photos(
    shard: Shard, embeddings: NDArray[np.float32], k: int, where: Where | None
) -> list[list[Hit]]:
    """For each of `embeddings` (N, D) the `k` photos nearest to it, best first, equal scores in order of path."""
    if where and not all(where.values()):  # none of no values
        return [[] for _ in embeddings]
    limit = min(k, len(shard)) + 1
    at_once = shard.search_all(embeddings, limit, where)
    return [
        _hits(_with_ties(shard, embedding, k, where, found), k)
        for embedding, found in zip(embeddings, at_once, strict=True)
    ]


def _hits(found: list[ScoredPoint], k: int) -> list[Hit]:
    ranked = sorted(found, key=lambda point: (-point.score, _path_of(point)))[:k]
    return [Hit(rank, p.score, _path_of(p), p.payload) for rank, p in enumerate(ranked, start=1)]


def _with_ties(
    shard: Shard, embedding: NDArray[np.float32], k: int, where: Where | None, found: list[ScoredPoint]
) -> list[ScoredPoint]:
    """At least the `k` best points, with all that tie with the last of them: the paths then decide.

    An index of codes rescores a part of its photos, which may be a part of those that tie.

    Args:
        found: the best, one more than `k` where there are as many.
    """
    limit = len(found)
    while k < limit == len(found) and found[-1].score == found[k - 1].score:
        limit *= 2
        found = shard.search(embedding, limit, where)
    return found


def _path_of(point: ScoredPoint) -> str:
    return PhotoRecord.from_payload(point.payload).absolute_path
