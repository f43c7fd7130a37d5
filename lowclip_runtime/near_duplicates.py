"""Groups of embeddings that lie near each other: shots of one moment, resized and edited copies of one photo."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from lowclip_runtime.errors import InputError
from lowclip_runtime.photo_record import PhotoRecord
from lowclip_runtime.shard import Shard

LEAST_SCORE = 0.95
_ROUNDING = 1e-5  # the cosine of a float32 vector with itself may be so much less than 1
_BLOCK = 1024  # rows against as many: 4 MB of scores at a time
_MORE = 1024  # rows


def near_photos(shard: Shard, dims: int, least_score: float) -> list[list[str]]:
    """Groups of two and more absolute paths, in order of path; `dims` is the length D of the shard's embeddings."""
    paths: list[str] = []
    embeddings = np.empty((len(shard), dims), np.float32)  # (N, D)
    for row, point in enumerate(shard.scroll(with_embeddings=True)):
        if row == len(embeddings):  # another thread adds photos
            embeddings = np.concatenate([embeddings, np.empty((_MORE, dims), np.float32)])
        paths.append(PhotoRecord.from_payload(point.payload).absolute_path)
        embeddings[row] = point.embedding
    groups = near_groups(embeddings[: len(paths)], least_score)
    return sorted(sorted(paths[i] for i in group) for group in groups)


def near_groups(embeddings: NDArray[np.float32], least_score: float) -> list[list[int]]:
    """Rows of `embeddings` (N, D), unit norm, in groups of two and more, in order.

    Two rows are in one group where a chain of rows leads from one to the other, each at least `least_score`
    (cosine) from the next. Compares all pairs: N² · D products.

    Raises:
        InputError: `least_score` is not above 0 and at most 1.
    """
    if not (isinstance(least_score, int | float | np.floating) and 0 < least_score <= 1):
        raise InputError(f"the least score must be above 0 and at most 1, not {least_score!r}")
    leader = list(range(len(embeddings)))
    unit = embeddings / np.maximum(np.linalg.norm(embeddings, axis=1, keepdims=True), 1e-12)
    for one, other in _near_pairs(unit, least_score - _ROUNDING):
        first, second = sorted((_top(leader, one), _top(leader, other)))
        leader[second] = first
    groups: dict[int, list[int]] = {}
    for row in range(len(leader)):
        groups.setdefault(_top(leader, row), []).append(row)
    return [group for group in groups.values() if len(group) > 1]


def _near_pairs(embeddings: NDArray[np.float32], least_score: float) -> Iterator[tuple[int, int]]:
    for start in range(0, len(embeddings), _BLOCK):
        for other in range(start, len(embeddings), _BLOCK):
            scores = (
                embeddings[start : start + _BLOCK] @ embeddings[other : other + _BLOCK].T
            )  # (block, block)
            for i, j in zip(*np.nonzero(scores >= least_score), strict=True):
                if start + i < other + j:
                    yield int(start + i), int(other + j)


def _top(leader: list[int], row: int) -> int:
    """The first row of the group; the way there is cut short for the next who asks."""
    while leader[row] != row:
        leader[row] = leader[leader[row]]
        row = leader[row]
    return row
