"""One shard of Qdrant Edge: a folder of embeddings with ids and payloads, searched by scanning all of them.

The only file that imports `qdrant_edge`, whose errors it turns into ours. What the payload means is
`photo_record.py`, which bundle the embeddings belong to `index_manifest.py`.

Measured with qdrant-edge-py 0.9.0 (32 points of 256 dims a batch, 2 cores): upsert 1 ms, flush 9 ms, load
70 ms. A folder looks like 138 MB but its files are sparse: 0.1 MB when empty, 27 MB with 9,600 points.

`int8` and `binary` shards keep small codes beside the embeddings: a search scans the codes in memory and
rescores the best of them with the embeddings, which stay on disk. What the engine really does was tried:
- Its scalar int8 quantization makes no codes until `optimize` rewrites the whole segment. Its TurboQuant with
  8 bits a number (a fixed rotation first, so that nothing is calibrated) makes them at every upsert and loses
  less; its binary quantization makes them at every upsert too. So these two, and `optimize` is never called.
- `exact=True` ignores the codes, at every size; without an HNSW graph `exact=False` scans all of them.
- Rescored scores are the dot products with the embeddings, as in a float32 shard.
"""

import contextlib
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias, get_args

import numpy as np
import qdrant_edge
from numpy.typing import NDArray

from lowclip_runtime.errors import IndexFileError
from lowclip_runtime.files import bytes_on_disk, whole_folder
from lowclip_runtime.stream import batches

ENGINE = "qdrant-edge 0.9"  # the format on disk is beta and tied to the release
Vectors: TypeAlias = Literal["float32", "int8", "binary"]
VECTORS: tuple[Vectors, ...] = get_args(Vectors)
Where: TypeAlias = Mapping[str, Sequence[str]]  # payload key → the values of which it must hold one
# Points rescored for each one asked for: of 1, 2, 4, … the fewest that find the ten photos that an exact search
# finds among 7,848 with 256 dims (benchmarks/results/index.json has the curves, also for fewer dims).
_CANDIDATES: dict[Vectors, int] = {"float32": 1, "int8": 2, "binary": 32}
_LEAST_ASKED = 10  # a search for the one best point rescores as many as one for ten, else it would miss more
_NUMBER = re.compile(r"-?\d{1,18}")
_PAGE = 1024  # points read at a time, so that memory stays flat for any number of them
# The engine writes through memory maps of sparse files in steps of 32 MiB: on a full disk the process would
# die of SIGBUS without a word, so we stop while a step still fits.
_LEAST_FREE_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Point:
    """What a shard stores under one id; `embedding` (D,) float32 is None where it was not asked for."""

    id: str
    payload: dict[str, Any]
    embedding: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class ScoredPoint:
    """A search result: `score` is the dot product with the query."""

    id: str
    score: float
    payload: dict[str, Any]


class Shard:
    """An open shard; make one with `create`, open it with `open`, and close it.

    Every method raises `IndexFileError` where the files are damaged, locked or cannot be written.

    Attributes:
        path: its folder.
        vectors: what a search scans.
        candidates: how many points a search of codes rescores for each one asked for.
    """

    def __init__(self, path: Path, engine: qdrant_edge.EdgeShard, vectors: Vectors) -> None:
        self.path = path
        self.vectors = vectors
        self.candidates = _CANDIDATES[vectors]
        self._engine = engine

    @staticmethod
    def create(
        path: str | Path, dims: int, lookup_keys: Sequence[str] = (), vectors: Vectors = "float32"
    ) -> None:
        """Make an empty shard at `path`, a folder that does not exist yet.

        Args:
            dims: length D of its embeddings. They have unit norm, so the dot product is the cosine.
            lookup_keys: payload keys of text that `find` shall look up without reading everything.
            vectors: what a search scans: the embeddings, or codes of a byte or a bit a number.
        """
        with _engine_errors(Path(path)):
            config = qdrant_edge.EdgeConfig(vectors=_vector_params(dims, vectors))
            engine = qdrant_edge.EdgeShard.create(str(path), config)
            for key in lookup_keys:
                schema = qdrant_edge.KeywordIndexParams(on_disk=True)
                engine.update(qdrant_edge.UpdateOperation.create_field_index(key, schema))
            engine.flush()
            engine.close()

    @classmethod
    def open(cls, path: str | Path, vectors: Vectors = "float32") -> Self:
        """Open the shard at `path` for this process alone.

        Args:
            vectors: as it was created; `float32` scans the embeddings of any shard.
        """
        path = Path(path)
        if not (path / "segments").is_dir():  # the engine would create this folder before it fails
            raise IndexFileError(f"{path} holds no embeddings; build the index again with: lowclip index")
        with _engine_errors(path):
            return cls(path, qdrant_edge.EdgeShard.load(str(path)), vectors)

    def close(self) -> None:
        """Write what is pending and let others open the shard; closing twice is allowed."""
        with _engine_errors(self.path):
            self._engine.close()

    def upsert(self, points: Iterable[Point]) -> None:
        """Add `points` or replace those with the same id; durable once `flush` returns."""
        self._check_free_space()
        with _engine_errors(self.path):
            rows = [qdrant_edge.Point(p.id, _listed(p.embedding), p.payload) for p in points]
            if rows:
                self._engine.update(qdrant_edge.UpdateOperation.upsert_points(rows))

    def delete(self, ids: Sequence[str]) -> None:
        """Remove the points with these ids; ids that are not there are no error."""
        with _engine_errors(self.path):
            if ids:
                self._engine.update(qdrant_edge.UpdateOperation.delete_points(list(ids)))

    def flush(self) -> None:
        """Force to the disk all that was upserted and deleted: it survives a kill from here on."""
        with _engine_errors(self.path):
            self._engine.flush()

    def __len__(self) -> int:
        return self.count()

    def search(self, embedding: NDArray[np.float32], k: int, where: Where | None = None) -> list[ScoredPoint]:
        """The `k` points nearest to `embedding` (D,), best first; equal scores come in no certain order.

        A shard of codes may miss some of them; the scores of those found are exact.

        Args:
            where: only points whose payload holds, under every key, one of the values: as text, as the whole
                number that it reads as, or as one of a list.
        """
        rescored = self.candidates * max(k, _LEAST_ASKED)
        codes = qdrant_edge.QuantizationSearchParams(rescore=True, oversampling=rescored / k)
        request = qdrant_edge.QueryRequest(
            limit=k,
            query=qdrant_edge.Query.Nearest(_listed(embedding)),
            params=qdrant_edge.SearchParams(exact=self.vectors == "float32", quantization=codes),
            filter=_filter(where),
            with_payload=True,
        )
        with _engine_errors(self.path):
            found = self._engine.query(request)
        return [ScoredPoint(str(point.id), point.score, point.payload or {}) for point in found]

    def find(self, key: str, values: Sequence[str], *, with_embeddings: bool = False) -> Iterator[Point]:
        """The points whose payload holds one of `values` under `key`."""
        if not values:
            return iter(())
        match = qdrant_edge.FieldCondition(key, match=qdrant_edge.MatchAny(list(values)))
        return self._pages(qdrant_edge.Filter(must=[match]), with_embeddings)

    def scroll(self, *, with_embeddings: bool = False) -> Iterator[Point]:
        """Every point, in the order of the ids."""
        return self._pages(None, with_embeddings)

    def retrieve(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """The payloads of the points with these ids, by id; ids that are not there are left out."""
        with _engine_errors(self.path):
            found = self._engine.retrieve(list(ids), with_payload=True, with_vector=False) if ids else []
        return {str(point.id): point.payload or {} for point in found}

    def set_payload(self, id: str, values: Mapping[str, Any]) -> None:
        """Set these keys in the payload of one point, which keeps its others; durable once `flush` returns."""
        self._check_free_space()
        with _engine_errors(self.path):
            self._engine.update(qdrant_edge.UpdateOperation.set_payload([id], dict(values)))

    def count(self, where: Where | None = None) -> int:
        """How many points have such a payload."""
        with _engine_errors(self.path):
            return int(self._engine.count(qdrant_edge.CountRequest(exact=True, filter=_filter(where))))

    def compact(self, dims: int, lookup_keys: Sequence[str]) -> int:
        """Write every point into a new shard that takes the place of this one, and say the bytes saved on disk.

        What deletions and replacements left behind is gone then; a kill leaves the old shard or the new one.
        The engine's own `optimize` also clears up, but takes more room than before (measured: 53 → 91 MB).

        Args:
            dims, lookup_keys: as the shard was created.
        """
        before = bytes_on_disk(self.path)
        self._check_free_space()
        with whole_folder(self.path, overwrite=True) as work:
            Shard.create(work, dims, lookup_keys, self.vectors)
            with contextlib.closing(Shard.open(work, self.vectors)) as new:
                for points in batches(self.scroll(with_embeddings=True), _PAGE):
                    new.upsert(points)
            self.close()
        with _engine_errors(self.path):
            self._engine = qdrant_edge.EdgeShard.load(str(self.path))
        return before - bytes_on_disk(self.path)

    def _pages(self, condition: qdrant_edge.Filter | None, with_embeddings: bool) -> Iterator[Point]:
        offset: Any = None
        while True:
            request = qdrant_edge.ScrollRequest(
                offset, limit=_PAGE, filter=condition, with_payload=True, with_vector=with_embeddings
            )
            with _engine_errors(self.path):
                records, offset = self._engine.scroll(request)
            for record in records:
                embedding = np.asarray(record.vector, np.float32) if with_embeddings else None
                yield Point(str(record.id), record.payload or {}, embedding)
            if offset is None:
                return

    def _check_free_space(self) -> None:
        free = shutil.disk_usage(self.path).free
        if free < _LEAST_FREE_BYTES:
            raise IndexFileError(
                f"the disk of {self.path.parent} has only {free >> 20} MB left, {_LEAST_FREE_BYTES >> 20} "
                "are needed; free some space and run the command again, what is indexed is kept"
            )


def _vector_params(dims: int, vectors: Vectors) -> qdrant_edge.EdgeVectorParams:
    memory = qdrant_edge.Memory
    codes: Any = None
    if vectors == "int8":
        bits = qdrant_edge.TurboQuantBitSize.Bits8
        codes = qdrant_edge.TurboQuantQuantizationConfig(bits=bits, memory=memory.Pinned)
    elif vectors == "binary":
        # the query keeps 8 bits a number: half as many candidates give the same recall
        query = qdrant_edge.BinaryQuantizationQueryEncoding.Scalar8Bits
        codes = qdrant_edge.BinaryQuantizationConfig(query_encoding=query, memory=memory.Pinned)
    return qdrant_edge.EdgeVectorParams(
        size=dims,
        distance=qdrant_edge.Distance.Dot,
        quantization_config=codes,
        memory=None if codes is None else memory.Cold,
    )


def _filter(where: Where | None) -> qdrant_edge.Filter | None:
    if not where:
        return None
    return qdrant_edge.Filter(must=[qdrant_edge.Filter(should=_matches(key, where[key])) for key in where])


def _matches(key: str, values: Sequence[str]) -> list[Any]:
    numbers = [int(value) for value in values if _NUMBER.fullmatch(value)]
    matches = [qdrant_edge.MatchAny(some) for some in (list(values), numbers) if some]
    return [qdrant_edge.FieldCondition(key, match=match) for match in matches]


def _listed(embedding: NDArray[np.float32] | None) -> list[float]:
    assert embedding is not None, "a point is stored with its embedding"
    return embedding.tolist()  # type: ignore[no-any-return]


@contextlib.contextmanager
def _engine_errors(path: Path) -> Iterator[None]:
    """Say in one sentence what the engine means by its bare `Exception`s and panics."""
    try:
        yield
    except BaseException as error:
        # a panic of the engine's Rust code derives from BaseException, and its class cannot be imported
        if type(error) is not Exception and type(error).__name__ != "PanicException":
            raise
        raise IndexFileError(_sentence(path.parent, str(error))) from error


def _sentence(index: Path, said: str) -> str:
    if "WouldBlock" in said:
        return f"{index} is open in another process; close that one, or wait until it is done, and try again"
    if "No space left" in said:
        return (
            f"the disk of {index} is full; free some space and run the command again, what is indexed is kept"
        )
    if "ermission denied" in said or "Read-only file system" in said:
        return f"{index} cannot be written, and searching needs that too; change its permissions or copy it"
    first_line = said.strip().splitlines()[0] if said.strip() else "no reason given"
    return f"{index} is damaged ({first_line}); delete it and build it again with: lowclip index"
