"""The shard: exact search against numpy, reopening, replacing, looking up, and refusals in one sentence."""

import contextlib
import itertools
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from lowclip_runtime import shard as shard_module
from lowclip_runtime.errors import IndexFileError
from lowclip_runtime.photo_record import record_id
from lowclip_runtime.points import Point
from lowclip_runtime.shard import ENGINE, Shard
from lowclip_runtime.stream import batches

DIMS = 16


def embeddings(count: int) -> NDArray[np.float32]:
    values: NDArray[np.float32] = np.random.default_rng(7).standard_normal((count, DIMS)).astype(np.float32)
    values /= np.linalg.norm(values, axis=1, keepdims=True)
    return values


def points(count: int) -> list[Point]:
    rows = enumerate(embeddings(count))
    return [Point(record_id(f"/{i}"), {"sha256": f"hash{i % 5}", "number": i}, row) for i, row in rows]


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Shard]:
    shard = Shard.open(path)
    try:
        yield shard
    finally:
        shard.close()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "index" / "shard"
    path.parent.mkdir()
    Shard.create(path, DIMS, ["sha256"])
    with opened(path) as shard:
        for some in batches(points(40), 8):  # each goes to one segment
            shard.upsert(some)
        shard.flush()
    return path


def test_the_pinned_engine_is_the_one_the_format_is_named_after() -> None:
    major, minor, _ = metadata.version("qdrant-edge-py").split(".")
    assert f"qdrant-edge {major}.{minor}" == ENGINE


def test_search_gives_what_numpy_gives(path: Path) -> None:
    query = embeddings(41)[40]
    scores = embeddings(40) @ query
    with opened(path) as shard:
        found = shard.search(query, 7)
    assert [point.payload["number"] for point in found] == np.argsort(-scores)[:7].tolist()
    # the engine sums the 16 products in another order: a few roundings of float32
    np.testing.assert_allclose([point.score for point in found], np.sort(scores)[::-1][:7], atol=1e-6)


def test_points_are_spread_so_that_threads_share_a_scan(path: Path) -> None:
    ids = sorted(file.stat().st_size for file in path.glob("segments/*/mutable_id_tracker.mappings"))
    assert len(ids) == 2
    assert 0 < ids[1] <= 2 * ids[0]  # 16 points and 24


def test_searching_for_several_gives_what_each_gives(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_module, "_QUERIES", 3)
    queries = embeddings(50)[40:]
    with opened(path) as shard:
        assert shard.search_all(queries, 7) == [shard.search(query, 7) for query in queries]
        assert shard.search_all([], 7) == []


def test_what_comes_back_is_bit_for_bit_what_was_stored(path: Path) -> None:
    with opened(path) as shard:
        stored = {point.id: point for point in shard.scroll(with_embeddings=True)}
    assert sorted(stored) == sorted(point.id for point in points(40))
    for point in points(40):
        np.testing.assert_array_equal(stored[point.id].embedding, point.embedding)
        assert stored[point.id].payload == point.payload


def test_the_same_id_is_replaced_and_deleted_ones_are_gone(path: Path) -> None:
    first, second, *_ = points(40)
    with opened(path) as shard:
        shard.upsert([Point(first.id, {"number": 1000}, second.embedding)])
        shard.delete([second.id, record_id("/never stored")])
        shard.flush()
        assert len(shard) == 39
    with opened(path) as shard:
        assert len(shard) == 39
        assert {point.id: point.payload for point in shard.scroll()}[first.id] == {"number": 1000}
        assert second.id not in {point.id for point in shard.scroll()}


def test_fetch_gives_points_with_their_embeddings(path: Path) -> None:
    first, _, third, *_ = points(40)
    with opened(path) as shard:
        found = {point.id: point for point in shard.fetch([third.id, record_id("/never stored"), first.id])}
        assert shard.fetch([]) == []
    assert sorted(found) == sorted([first.id, third.id])
    assert found[third.id].payload == third.payload
    np.testing.assert_array_equal(found[third.id].embedding, third.embedding)


def test_the_log_stays_small_whatever_is_stored(path: Path) -> None:
    """The engine reads all of it when the shard is opened."""
    with opened(path) as shard:
        for start in range(0, 30_000, 1000):
            some = [
                Point(record_id(f"/{i}"), {"text": "x" * 500}, embeddings(1)[0])
                for i in range(start, start + 1000)
            ]
            shard.upsert(some)
            shard.flush()
    assert sum(file.stat().st_size for file in (path / "wal").iterdir()) <= 16 << 20  # 96 MB by default
    with opened(path) as shard:
        assert len(shard) == 30_000


def test_scroll_reads_page_after_page(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shard_module, "_PAGE", 7)
    with opened(path) as shard:
        assert sorted(point.payload["number"] for point in shard.scroll()) == list(range(40))


def test_a_second_process_is_refused_until_the_first_closes(path: Path) -> None:
    program = f"from lowclip_runtime.shard import Shard; Shard.open({str(path)!r}).close()"

    def second_process() -> str:
        return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stderr

    with opened(path):
        last_line = second_process().strip().splitlines()[-1]
        assert last_line.endswith(
            "index is open in another process; close that one, or wait until it is done, and try again"
        )
    assert second_process() == ""


def test_a_shard_that_fails_to_close_is_let_go_all_the_same(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class FullDisk:
        def close(self) -> None:
            raise Exception("No space left on device")

    shard = Shard.open(path)
    shard._engine.close()
    monkeypatch.setattr(shard._engine, "_engine", FullDisk())
    with pytest.raises(IndexFileError, match="is full"):
        shard.close()
    with opened(path) as again:
        assert len(again) == 40


def test_it_is_compacted_and_closed_while_threads_read_all_of_it(path: Path) -> None:
    def read(shard: Shard) -> list[int]:
        counts = []
        with contextlib.suppress(IndexFileError):  # it is closed
            while not done.is_set():
                counts.append(sum(1 for _ in shard.scroll(with_embeddings=True)))
        return counts

    with opened(path) as shard:
        shard.upsert(points(3000))  # with fewer, the engine is hardly ever asked when it is closed
    for _ in range(5):
        done = threading.Event()
        with ThreadPoolExecutor(2) as pool, opened(path) as shard:
            reading = [pool.submit(read, shard) for _ in range(2)]
            try:
                shard.compact(DIMS, ["sha256"])
                shard.close()
            finally:
                done.set()
            assert {count for one in reading for count in one.result()} <= {3000}


def test_threads_search_and_add_while_it_is_compacted_and_nothing_is_refused_or_lost(path: Path) -> None:
    def search(shard: Shard) -> int:
        asked = 0
        while not done.is_set():
            assert [point.id for point in shard.search(first.embedding, 1)] == [first.id]
            asked += 1
        return asked

    def add(shard: Shard) -> int:
        for number in itertools.count(1000):
            shard.upsert([Point(record_id(f"/{number}"), {"number": number}, embeddings(2)[1])])
            if done.is_set():
                return number - 999
        return 0

    first = points(1)[0]
    assert first.embedding is not None
    done = threading.Event()
    with opened(path) as shard, ThreadPoolExecutor(3) as pool:
        searching, adding = [pool.submit(search, shard) for _ in range(2)], pool.submit(add, shard)
        try:
            for _ in range(5):
                shard.compact(DIMS, ["sha256"])
        finally:
            done.set()
        assert all(one.result() for one in searching)
        added = adding.result()
        assert len(shard) == 40 + added
        assert len({point.id for point in shard.scroll()}) == len(shard)


@pytest.mark.parametrize("damage", ["garbage", "missing", "cut"])
@pytest.mark.parametrize("name", ["segment.json", "payload_storage/config.json", "payload_index/config.json"])
def test_a_damaged_file_is_one_sentence_or_heals(path: Path, name: str, damage: str) -> None:
    file, *_ = path.glob(f"segments/*/{name}")
    if damage == "garbage":
        file.write_bytes(b"\xff" * file.stat().st_size)
    elif damage == "cut":
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    else:
        file.unlink()
    if (name, damage) == ("payload_index/config.json", "missing"):  # the engine writes a new one
        with opened(path) as shard:
            assert len(shard) == 40
        return
    with pytest.raises(
        IndexFileError, match=r"^\S+/index is damaged \(.+\); delete it and build it again with"
    ):
        Shard.open(path)


def test_a_panic_of_the_engine_is_one_sentence(path: Path) -> None:
    status, *_ = path.glob("segments/*/vector_storage/deleted/status.dat")
    status.write_bytes(b"")
    with pytest.raises(IndexFileError, match="is damaged"):
        Shard.open(path)


def test_a_missing_shard_is_refused_and_leaves_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(IndexFileError, match=rf"holds no embeddings; delete {tmp_path} and"):
        Shard.open(tmp_path / "none")
    assert list(tmp_path.iterdir()) == []


def test_embeddings_of_another_length_are_refused(path: Path) -> None:
    with opened(path) as shard, pytest.raises(IndexFileError, match="expected dim: 16, got 5"):
        shard.search(np.ones(5, np.float32), 3)


def test_closed_while_it_is_compacted_it_stays_closed(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(path) as open_one:
        monkeypatch.setattr(shard_module, "flush_tree", lambda _: open_one.close())  # as another thread may
        with pytest.raises(IndexFileError, match="is closed; open it again"):
            open_one.compact(DIMS, ["sha256"])
    with opened(path) as again:
        assert len(again) == 40


def test_an_almost_full_disk_stops_before_the_engine_writes(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(path) as shard:
        usage = shutil.disk_usage(path)._replace(free=10 << 20)
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
        with pytest.raises(IndexFileError, match="has only 10 MB left"):
            shard.upsert(points(41))
        assert len(shard) == 40
        gone = [point.id for point in points(2)]
        shard.delete(gone[:1])
        assert len(shard) == 39
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=2 << 20))
        with pytest.raises(IndexFileError, match="has only 2 MB left, 8 are needed"):
            shard.delete(gone)
        assert len(shard) == 39
