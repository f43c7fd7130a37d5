"""One shard of Qdrant Edge: a folder of embeddings with ids and payloads, scanned or searched by a graph.

How embeddings are kept and what a search asks for is `engine_requests.py`, the files of an empty shard `new_shard.py`,
threads `shared_engine.py`; what the engine's errors mean is `shard_errors.py`. What the payload means is
`photo_record.py`, which bundle the embeddings belong to `index_manifest.py`.

Measured with qdrant-edge-py 0.9.0 (32 points of 256 dims a batch, 2 cores): upsert 1 ms, flush 9 ms, load
70 ms. Its files look larger than they are, since they are sparse.

From `EXACT_BELOW` points on `build_graph` makes an HNSW graph (Malkov & Yashunin 2016, arXiv 1603.09320), and searches
follow it instead of scanning. Points that come later are scanned until it is built again.
"""

import contextlib
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np
import qdrant_edge
from numpy.typing import NDArray

from lowclip_runtime.engine_requests import (
    CANDIDATES,
    VECTORS,
    Vectors,
    check_vectors,
    graph_config,
    listed,
    nearest,
    with_facts,
)
from lowclip_runtime.errors import IndexFileError
from lowclip_runtime.files import bytes_on_disk, flush_tree, hold, let_go, mend, whole_folder
from lowclip_runtime.new_shard import make_shard
from lowclip_runtime.points import Point, ScoredPoint, Where
from lowclip_runtime.shard_errors import TO_DELETE_BYTES, check_free_space, engine_errors
from lowclip_runtime.shared_engine import SharedEngine
from lowclip_runtime.stream import batches

__all__ = ["ENGINE", "EXACT_BELOW", "VECTORS", "Shard", "Vectors", "check_vectors"]

ENGINE = "qdrant-edge 0.9"  # the format on disk is beta and tied to the release
EXACT_BELOW = 200_000  # points; a scan of so many takes 20 ms
_QUERIES = 64  # searched at a time, so that memory stays flat for any number of them
_PAGE = 1024  # points read at a time, so that memory stays flat for any number of them
# Times what it takes up must be free for a shard to be written anew beside itself, and for it to get a graph there:
# the engine then holds all points twice for a while. MEASURED 2.02 with float32 and 1.80 with int8.
_REWRITING, _REWRITING_WITH_GRAPH = 1.5, 2.2
_IN_GRAPH = 0.8  # of the points; the rest is scanned, which takes as long as the graph saves from there on


class Shard:
    """An open shard; make one with `create`, open it with `open`, and close it.

    Threads may use it at the same time. While one rewrites it, by `compact` or `build_graph`, others may search, and
    those that change points wait.

    Every method raises `IndexFileError` where the files are damaged, locked or cannot be written.

    Attributes:
        path: its folder.
        vectors: what a search scans.
        candidates: how many points a search of codes rescores for each one asked for.
        writing, updating: give what is held while points are changed by what they were, and while all of a folder are.
    """

    def __init__(self, path: Path, vectors: Vectors) -> None:
        self.path = path
        self.vectors = vectors
        self.candidates = CANDIDATES[vectors]
        self._engine = SharedEngine(path)  # before what cannot be copied and does not say why
        self._let_go: Callable[[], object] = lambda: None
        self.writing, self.updating = self._engine.writing, self._engine.updating
        self._look_for_graph()

    @staticmethod
    def create(
        path: str | Path, dims: int, lookup_keys: Sequence[str] = (), vectors: Vectors = "float32"
    ) -> None:
        """Make an empty shard at `path`, a folder that is empty or does not exist yet.

        Args:
            dims: length D of its embeddings. They have unit norm, so the dot product is the cosine.
            lookup_keys: payload keys that a search shall filter by without reading everything.
            vectors: what a search scans: the embeddings, or codes of a byte or a bit a number.
        """
        make_shard(Path(path), dims, lookup_keys, vectors)

    @classmethod
    def open(cls, path: str | Path, vectors: Vectors = "float32") -> Self:
        """Open the shard at `path` for this process alone: its parent folder is held until it is closed.

        The engine holds the files too, but not while `compact` and `build_graph` have them closed.

        Args:
            vectors: as it was created; `float32` scans the embeddings of any shard.
        """
        path = Path(path)
        with engine_errors(path):
            held = hold(path.parent)
        try:
            mend(path)
            shard = cls._open(path, vectors)
        except BaseException:
            let_go(held)
            raise
        shard._let_go = weakref.finalize(shard, let_go, held)  # called once, by whoever comes first
        return shard

    @classmethod
    def _open(cls, path: Path, vectors: Vectors) -> Self:
        if not (path / "segments").is_dir():  # the engine would create this folder before it fails
            raise IndexFileError(
                f"{path} holds no embeddings; delete {path.parent} and build it again with: lowclip index"
            )
        return cls(path, vectors)

    def close(self) -> None:
        """Write what is pending and let others open the shard; closing twice is allowed."""
        try:
            self._engine.close()
        finally:
            self._let_go()

    def upsert(self, points: Iterable[Point]) -> None:
        """Add `points` or replace those with the same id; durable once `flush` returns."""
        check_free_space(self.path.parent)
        rows = [qdrant_edge.Point(p.id, listed(p.embedding), p.payload) for p in points]
        if rows:
            self._engine.update(qdrant_edge.UpdateOperation.upsert_points(rows))

    def delete(self, ids: Sequence[str]) -> None:
        """Remove the points with these ids; ids that are not there are no error."""
        if ids:
            check_free_space(self.path.parent, least=TO_DELETE_BYTES)
            self._engine.update(qdrant_edge.UpdateOperation.delete_points(list(ids)))

    def flush(self) -> None:
        """Force to the disk all that was upserted and deleted: it survives a kill from here on."""
        self._engine.ask(lambda engine: engine.flush())

    def __len__(self) -> int:
        """As the segments tell; `count` makes a set of all ids, which of 100,000 takes 20 ms and 6 MB."""
        return int(self._engine.ask(lambda engine: engine.info().points_count))

    def search(self, embedding: NDArray[np.float32], k: int, where: Where | None = None) -> list[ScoredPoint]:
        """The `k` points nearest to `embedding` (D,), best first; equal scores come in no certain order.

        Where the shard is not `is_exact`, some may be missed; the scores of those found are exact. With `where`
        none is missed: the engine follows a graph badly to the few that fit.

        Args:
            where: only points whose payload holds, under every key, one of the values: as text, as the whole
                number that it reads as, or as one of a list.
        """
        return self.search_all([embedding], k, where)[0]

    def search_all(
        self, embeddings: Iterable[NDArray[np.float32]], k: int, where: Where | None = None
    ) -> list[list[ScoredPoint]]:
        """`search` for each of `embeddings`, which share a scan: 32 take a third of the time of one after another."""
        exact = self.is_exact or bool(where)
        found: list[list[ScoredPoint]] = []
        for some in batches(embeddings, _QUERIES):
            request = qdrant_edge.QueryBatchRequest(
                [nearest(one, k, where, candidates=self.candidates, exact=exact) for one in some]
            )
            results = self._engine.ask(partial(qdrant_edge.EdgeShard.query_batch, request=request))
            found.extend(
                [ScoredPoint(str(p.id), p.score, p.payload or {}) for p in points] for points in results
            )
        return found

    def scroll(self, *, with_embeddings: bool = False) -> Iterator[Point]:
        """Every point, in the order of the ids."""
        offset: Any = None
        while True:
            request = qdrant_edge.ScrollRequest(
                offset, limit=_PAGE, with_payload=True, with_vector=with_embeddings
            )
            records, offset = self._engine.ask(partial(qdrant_edge.EdgeShard.scroll, scroll=request))
            yield from (_point(record, with_embeddings) for record in records)
            if offset is None:
                return

    @property
    def is_exact(self) -> bool:
        """Whether searches find the very nearest: the embeddings are scanned, no codes and no graph."""
        return self.vectors == "float32" and not self._has_graph

    def build_graph(self, dims: int, lookup_keys: Sequence[str]) -> bool:
        """Make the graph of a large shard, where a fifth of its points and more are not in one; whether it did.

        It is `compact`, which makes the graph too. Takes minutes: MEASURED 40 s for each 100,000 points of 256 dims on
        2 cores.

        Args:
            dims, lookup_keys: as the shard was created.
        """
        with self.writing():
            if not self.wants_graph():
                return False
            self.compact(dims, lookup_keys)
        return True

    def wants_graph(self) -> bool:
        """Whether `build_graph` would make one."""
        count = len(self)
        return count >= EXACT_BELOW and self._in_graph() < _IN_GRAPH * count

    def _look_for_graph(self) -> None:
        self._has_graph = self._in_graph() > 0

    def _in_graph(self) -> int:
        """How many points are in the graph, with those deleted since, which the engine does not tell apart."""
        return int(self._engine.ask(lambda engine: engine.info().indexed_vectors_count))

    def retrieve(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The payloads of the points with these ids, by id; ids that are not there are left out."""
        return {point.id: point.payload for point in self._retrieve(ids, with_embeddings=False)}

    def fetch(self, ids: Sequence[str]) -> list[Point]:
        """The points with these ids and their embeddings; ids that are not there are left out."""
        return self._retrieve(ids, with_embeddings=True)

    def _retrieve(self, ids: Sequence[str], *, with_embeddings: bool) -> list[Point]:
        if not ids:
            return []
        found = self._engine.ask(
            lambda engine: engine.retrieve(list(ids), with_payload=True, with_vector=with_embeddings)
        )
        return [_point(record, with_embeddings) for record in found]

    def set_payload(self, ids: Sequence[str], values: Mapping[str, Any]) -> None:
        """Set these keys in the payload of points, which keep their others; durable once `flush` returns.

        Ids that are not there are no error.
        """
        check_free_space(self.path.parent)
        with self.writing():
            # the engine calls an id that is not there, or is given twice, an error
            there: list[Any] = [*self.retrieve(ids)]
            if there:
                self._engine.update(qdrant_edge.UpdateOperation.set_payload(there, dict(values)))

    def count(self, where: Where | None = None) -> int:
        """How many points have such a payload."""
        request = qdrant_edge.CountRequest(exact=True, filter=with_facts(where))
        return int(self._engine.ask(lambda engine: engine.count(request)))

    def compact(self, dims: int, lookup_keys: Sequence[str]) -> None:
        """Write every point into a new shard that takes the place of this one, with a graph if there are many.

        What deletions and replacements left behind is gone then; a kill, or an error, leaves the old shard or the new
        one. The engine's own `optimize` also clears up, but takes more room than before (measured: 53 → 91 MB), and
        killed in place it left points in two segments, which counted twice.

        Args:
            dims, lookup_keys: as the shard was created.
        """
        with self.writing():
            is_large = len(self) >= EXACT_BELOW
            room = _REWRITING_WITH_GRAPH if is_large else _REWRITING
            check_free_space(self.path.parent, room * bytes_on_disk(self.path))
            self._replace(dims, lookup_keys, with_graph=is_large)
        self._look_for_graph()

    def _replace(self, dims: int, lookup_keys: Sequence[str], *, with_graph: bool) -> None:
        with (
            engine_errors(self.path),
            contextlib.ExitStack() as swapping,
            whole_folder(self.path, overwrite=True) as work,
        ):
            Shard.create(work, dims, lookup_keys, self.vectors)
            with contextlib.closing(Shard._open(work, self.vectors)) as new:
                for points in batches(self.scroll(with_embeddings=True), _PAGE):
                    new.upsert(points)
                if with_graph:
                    new._optimize(dims)
            flush_tree(work)  # once more before the swap, so that this is closed for a moment only
            swapping.enter_context(self._engine.reopened())

    def _optimize(self, dims: int) -> None:
        """Put all points in a graph; a kill meanwhile would leave some in two segments."""
        with self._engine.reopened(graph_config(dims, self.vectors)):
            pass
        self._engine.ask(lambda engine: engine.optimize())
        with self._engine.reopened():  # only that removes the segments that were replaced
            pass


def _point(record: Any, with_embedding: bool) -> Point:
    embedding = np.asarray(record.vector, np.float32) if with_embedding else None
    return Point(str(record.id), record.payload or {}, embedding)
