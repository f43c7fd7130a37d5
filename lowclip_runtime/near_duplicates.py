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
_Rows = NDArray[np.int64]


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
    label = np.arange(len(embeddings))  # (N,) of each row the first row of its group, as far as is known
    for rows, others in _near_pairs(embeddings, least_score - _ROUNDING):
        _join(label, rows, others)
    order = np.argsort(label, kind="stable")
    groups = np.split(order, np.flatnonzero(np.diff(label[order])) + 1)
    return [group.tolist() for group in groups if len(group) > 1]


def _near_pairs(embeddings: NDArray[np.float32], least_score: float) -> Iterator[tuple[_Rows, _Rows]]:
    """Rows and, in the same places, rows that are so near to them.

    Unit norm is given block by block: of a million rows a copy would take a gigabyte.
    """
    norms = np.maximum(np.sqrt(np.einsum("nd,nd->n", embeddings, embeddings)), 1e-12)[:, None]  # (N, 1)
    for start in range(0, len(embeddings), _BLOCK):
        some = slice(start, start + _BLOCK)
        unit = embeddings[some] / norms[some]
        for other in range(start, len(embeddings), _BLOCK):
            some = slice(other, other + _BLOCK)
            near = unit @ (embeddings[some] / norms[some]).T >= least_score  # (block, block)
            if near.any():  # most blocks have none, which takes a twentieth of the time to see
                rows, others = np.nonzero(near)
                yield start + rows, other + others


def _join(label: _Rows, rows: _Rows, others: _Rows) -> None:
    """Put each pair in one group.

    All pairs at once, since n copies of a photo are n² of them. Of two labels that meet in a pair the higher is led to
    the lowest that it meets, and so on, until none differ.
    """
    while (apart := label[rows] != label[others]).any():
        rows, others = rows[apart], others[apart]
        one, other = label[rows], label[others]
        np.minimum.at(label, np.maximum(one, other), np.minimum(one, other))
        while not np.array_equal(shorter := label[label], label):
            label[:] = shorter
