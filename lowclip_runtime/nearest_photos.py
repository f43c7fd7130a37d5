"""The photos of a shard nearest to an embedding, ranked so that the same index always gives the same order."""

from dataclasses import dataclass
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
    payload: dict[str, Any]


def nearest_photos(shard: Shard, embedding: NDArray[np.float32], k: int, where: Where | None) -> list[Hit]:
    """The `k` photos nearest to `embedding` (D,), best first, equal scores in order of path."""
    found = sorted(_with_ties(shard, embedding, k, where), key=lambda point: (-point.score, _path_of(point)))
    return [Hit(rank, p.score, _path_of(p), p.payload) for rank, p in enumerate(found[:k], start=1)]


def _with_ties(
    shard: Shard, embedding: NDArray[np.float32], k: int, where: Where | None
) -> list[ScoredPoint]:
    """At least the `k` best points, with all that tie with the last of them: the paths then decide.

    An index of codes rescores a part of its photos, which may be a part of those that tie.
    """
    if where and not all(where.values()):  # none of no values
        return []
    limit = min(k, len(shard)) + 1
    while True:
        found = shard.search(embedding, limit, where)
        if len(found) < limit or found[-1].score < found[k - 1].score:
            return found
        limit *= 2


def _path_of(point: ScoredPoint) -> str:
    return PhotoRecord.from_payload(point.payload).absolute_path
