"""Large indexes: searched by a graph, which is built once and finds nearly all that a scan finds."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from lowclip_runtime.photo_record import record_id
from lowclip_runtime.points import Point
from lowclip_runtime.shard import Shard, Vectors


@pytest.mark.parametrize("vectors", ["float32", "int8"])
def test_a_large_shard_gets_a_graph_and_finds_nearly_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, vectors: Vectors
) -> None:
    """What came after the graph is found too, and a filter holds; compacting below the limit scans again."""
    monkeypatch.setattr("lowclip_runtime.shard.EXACT_BELOW", 2000)
    random = np.random.default_rng(3)
    rows = random.standard_normal((3000, 32)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    points = [
        Point(record_id(f"/{i}"), {"row": i, "album": [("even", "odd")[i % 2]], "who": str(i % 50)}, row)
        for i, row in enumerate(rows)
    ]
    Shard.create(tmp_path / "shard", 32, ["album"], vectors)
    shard = Shard.open(tmp_path / "shard", vectors)
    shard.upsert(points[:1900])
    assert not shard.build_graph(32, ["album"]) and shard.is_exact == (vectors == "float32")
    shard.upsert(points[1900:2900])
    assert shard.build_graph(32, ["album"]) and not shard.is_exact
    shard.upsert(points[2900:])
    assert not shard.build_graph(32, ["album"])  # a scan of so few costs little
    shard.close()
    shard = Shard.open(tmp_path / "shard", vectors)
    assert len(shard) == 3000 and not shard.is_exact
    queries = rows[-50:] + 0.3 * random.standard_normal((50, 32)).astype(np.float32)
    for where, of in ((None, range(3000)), ({"album": ["odd"]}, range(1, 3000, 2)),
                      ({"who": ["7"]}, range(7, 3000, 50))):  # fmt: skip
        found = [{point.payload["row"] for point in shard.search(query, 10, where)} for query in queries]
        best = [set(sorted(of, key=lambda i, query=query: -float(rows[i] @ query))[:10]) for query in queries]
        recall = sum(len(a & b) for a, b in zip(found, best, strict=True)) / 500
        assert recall == 1 if where else recall > 0.97
    some = [point.id for point in points[5:8]]
    shard.set_payload([*some, some[0], record_id("/nowhere")], {"told": True})
    assert [payload.get("told") for payload in shard.retrieve(some).values()] == [True] * 3
    assert len(shard) == shard.count() == 3000  # those moved out of the graph's segment count once
    shard.delete([point.id for point in points[1000:]])
    shard.compact(32, ["album"])
    assert len(shard) == 1000 and shard.is_exact == (vectors == "float32")
    shard.close()


def test_what_is_asked_and_added_while_the_graph_is_made_is_answered_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lowclip_runtime.shard.EXACT_BELOW", 2000)
    rows = np.random.default_rng(3).standard_normal((8001, 32)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    points = [Point(record_id(f"/{i}"), {"row": i}, row) for i, row in enumerate(rows)]
    Shard.create(tmp_path / "shard", 32)
    shard = Shard.open(tmp_path / "shard")
    shard.upsert(points[:8000])
    with ThreadPoolExecutor(2) as pool:
        made = pool.submit(shard.build_graph, 32, [])
        added = pool.submit(shard.upsert, points[8000:])
        asked = 0
        while not made.done():
            row = asked % 8000
            assert [point.payload["row"] for point in shard.search(rows[row], 1)] == [row]
            asked += 1
        added.result()
        assert made.result() and asked > 1
    assert len(shard) == 8001 and not shard.is_exact
    assert [point.payload["row"] for point in shard.search(rows[8000], 1)] == [8000]
    shard.close()
