"""Shards of codes: recall, exact scores, and nothing left of what was replaced."""

from pathlib import Path

import numpy as np
from tiny_index import Floats, directions

from lowclip_runtime.photo_record import record_id
from lowclip_runtime.points import Point
from lowclip_runtime.shard import Shard, Vectors

DIMS = 64
POINTS = 3000
# of 30 queries for 10 of 3,000 directions drawn at random, the hardest case there is: 1.0, 1.0 and 0.943 were seen
LEAST_RECALL = {"float32": 1.0, "int8": 0.99, "binary": 0.9}


def recall_at_10(shard: Shard, stored: Floats, queries: Floats) -> float:
    """Checks on the way that each score is the dot product and that they descend."""
    shares = []
    for query in queries:
        exact = stored @ query
        found = shard.search(query, 10)
        rows = [point.payload["row"] for point in found]
        scores = [point.score for point in found]
        # float32 sums in another order: a few roundings
        np.testing.assert_allclose(scores, exact[rows], atol=1e-6)
        assert scores == sorted(scores, reverse=True) and len(set(rows)) == 10
        shares.append(len(set(rows) & set(np.argsort(-exact)[:10].tolist())) / 10)
    return float(np.mean(shares))


def filled_shard(path: Path, vectors: Vectors, stored: Floats) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Shard.create(path, stored.shape[1], (), vectors)
    shard = Shard.open(path, vectors)
    for start in range(0, len(stored), 500):
        rows = range(start, min(start + 500, len(stored)))
        shard.upsert([Point(record_id(f"/{row}"), {"row": row}, stored[row]) for row in rows])
        shard.flush()
    shard.close()
    return path


def test_recall_and_exact_scores_before_and_after_reopening(tmp_path: Path, vectors: Vectors) -> None:
    stored, queries = directions(POINTS, 1, DIMS), directions(30, 2, DIMS)
    path = filled_shard(tmp_path / "index" / "shard", vectors, stored)
    for _ in range(2):
        shard = Shard.open(path, vectors)
        assert recall_at_10(shard, stored, queries) >= LEAST_RECALL[vectors]
        rows = {point.payload["row"]: point.embedding for point in shard.scroll(with_embeddings=True)}
        shard.close()
    for row in (0, 1777, POINTS - 1):  # the originals are kept bit for bit
        np.testing.assert_array_equal(rows[row], stored[row])


def test_replaced_and_deleted_points_have_no_codes_left(tmp_path: Path, vectors: Vectors) -> None:
    stored, others = directions(POINTS, 1, DIMS), directions(POINTS, 3, DIMS)
    path = filled_shard(tmp_path / "index" / "shard", vectors, stored)
    shard = Shard.open(path, vectors)
    shard.upsert([Point(record_id(f"/{row}"), {"row": row}, others[row]) for row in range(1000)])
    shard.delete([record_id(f"/{row}") for row in range(1000, 1500)])
    shard.flush()
    for row in (0, 500, 999):
        assert shard.search(others[row], 1)[0].payload["row"] == row
        assert shard.search(stored[row], 1)[0].score < 0.9  # the old embedding is gone
        assert shard.search(stored[1000 + row // 2], 1)[0].score < 0.9
    shard.close()


def test_the_codes_are_scanned_and_rescored_as_many_times_as_told(tmp_path: Path) -> None:
    """An exact scan would find all, whatever the number of candidates."""
    stored, queries = directions(POINTS, 1, DIMS), directions(30, 2, DIMS)
    shard = Shard.open(filled_shard(tmp_path / "index" / "shard", "binary", stored), "binary")
    found = {}
    for candidates in (1, 4, 32):
        shard.candidates = candidates
        found[candidates] = recall_at_10(shard, stored, queries)
    shard.close()
    assert found[1] < 0.6 < found[32] and found[1] < found[4] < found[32], found


def test_a_search_for_one_misses_no_more_than_a_search_for_ten(tmp_path: Path, vectors: Vectors) -> None:
    stored, queries = directions(POINTS, 1, DIMS), directions(30, 2, DIMS)
    shard = Shard.open(filled_shard(tmp_path / "index" / "shard", vectors, stored), vectors)
    best = [shard.search(query, 1)[0].payload["row"] for query in queries]
    shard.close()
    right = np.mean(np.asarray(best) == np.argmax(queries @ stored.T, axis=1))
    assert right >= LEAST_RECALL[vectors]
