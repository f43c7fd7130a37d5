"""What an index of codes or of truncated embeddings finds, weighs and takes, beside the exact one.

    python benchmarks/index_bench.py --images DIR --pairs captions.tsv [--cache embeddings.npz]

Two galleries: the photos of Flickr8k embedded by the bundle, asked with the Azerbaijani captions of the test split, and
100,000 drawn vectors in 2,000 clusters. `ours` is `int8` and its peers are `float32`, `binary` and the engine's own
scalar int8, which `shard.py` does not use. The searches are those of `Shard`, of ten photos each with its payload.
"""

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import click

# before numpy is imported: with two threads its products of a few rows wait whenever another process has a core
os.environ["OPENBLAS_NUM_THREADS"] = "1"
import numpy as np
from index_peers import numpy_search, point_id, scalar_int8_search
from numpy.typing import NDArray
from result_file import row, write_result

from lowclip_runtime import LowClip
from lowclip_runtime.pairs import Pair, read_pairs
from lowclip_runtime.points import Point
from lowclip_runtime.shard import VECTORS, Shard, Vectors
from lowclip_runtime.stream import batches
from lowclip_runtime.truncation import truncated

Floats = NDArray[np.float32]
Search = Callable[[Floats], list[int]]  # a query (D,) → the rows found, best first
DIMS = (256, 128, 64)
K = 10
OURS = "int8"
SCALAR = "engine's scalar int8"
NUMPY = "numpy float32, one thread, no payload"
SYNTHETIC, CLUSTERS, QUERIES = 100_000, 2_000, 200
CURVES: dict[Vectors, tuple[int, ...]] = {"int8": (1, 2, 4), "binary": (4, 8, 16, 32, 64)}


@dataclass(frozen=True)
class Data:
    """A gallery (N, D) and its queries (Q, D); `targets` (Q,) are the rows of the right photos, where known."""

    name: str
    gallery: Floats
    queries: Floats
    targets: NDArray[np.int64] | None = None


@dataclass(frozen=True)
class Measured:
    """By kind: the rows found for each query, the median ms of a query, by the clock and of the processor, and the
    bytes a vector."""

    found: dict[str, list[list[int]]]
    ms: dict[str, float]
    processor_ms: dict[str, float]
    disk: dict[str, float]
    memory: dict[str, float]


@click.command()
@click.option("--images", type=click.Path(exists=True, file_okay=False, path_type=Path), required=True)
@click.option("--pairs", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=True)
@click.option("--bundle", default=None, help="Bundle folder [default: the shipped one].")
@click.option("--cache", type=click.Path(path_type=Path), default=None, help="Keeps the embeddings.")
@click.option("--rounds", default=10, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=None)
def main(
    images: Path, pairs: Path, bundle: str | None, cache: Path | None, rounds: int, out: Path | None
) -> None:
    """Measure both galleries at every number of dims and write the result."""
    rows: list[dict[str, Any]] = []
    everything, test_only = flickr8k(LowClip.open(bundle), images, read_pairs(pairs), cache)
    for dims in DIMS:
        rows += measured_rows(everything, dims, rounds)
        rows += right_photo_rows(test_only, dims)
        rows += curve_rows(everything, dims)
    drawn = synthetic()
    for dims in DIMS:
        rows += measured_rows(drawn, dims, rounds)
        rows += curve_rows(drawn, dims)
    click.echo(write_result("index", rows, out))


def flickr8k(clip: LowClip, images: Path, pairs: Sequence[Pair], cache: Path | None) -> tuple[Data, Data]:
    """All photos as gallery, and those of the test split alone; both with its Azerbaijani captions."""
    asked = [pair for pair in pairs if (pair.lang, pair.split) == ("az", "test")]
    names = sorted({pair.image for pair in pairs})
    kept = dict(np.load(cache)) if cache is not None and cache.is_file() else {}
    if (str(kept.get("bundle")), len(kept.get("gallery", ()))) != (clip.bundle_id, len(names)):
        kept = {
            "bundle": np.asarray(clip.bundle_id),
            "gallery": clip.embed_images([images / name for name in names]),
            "queries": clip.embed_texts([pair.caption for pair in asked]),
        }
        if cache is not None:
            np.savez(cache, **kept)
    gallery, queries = kept["gallery"], kept["queries"]
    number = {name: i for i, name in enumerate(names)}
    test = sorted({pair.image for pair in asked})
    number_in_test = {name: i for i, name in enumerate(test)}
    return (
        Data("flickr8k photos, az captions", gallery, queries, _rows(number, [p.image for p in asked])),
        Data(
            "flickr8k test photos, az captions",
            gallery[_rows(number, test)],
            queries,
            _rows(number_in_test, [p.image for p in asked]),
        ),
    )


def synthetic() -> Data:
    """Unit vectors around cluster centres, the same every time; queries come from the same clusters."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((CLUSTERS, DIMS[0])).astype(np.float32)

    def drawn(count: int) -> Floats:
        values = centres[random.integers(CLUSTERS, size=count)]
        values = values + random.standard_normal(values.shape, np.float32)
        return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True), np.float32)

    return Data(f"drawn vectors in {CLUSTERS} clusters", drawn(SYNTHETIC), drawn(QUERIES))


def measured_rows(data: Data, dims: int, rounds: int) -> list[dict[str, Any]]:
    """Recall against exact search of all dims and of these, R@10, bytes and speed of every kind."""
    gallery, queries = truncated(data.gallery, dims), truncated(data.queries, dims)
    measured = measure(gallery, queries, rounds)
    case = f"{data.name}, gallery {len(gallery)}, {dims} dims"
    of_all, of_these = exact(data.gallery, data.queries), exact(gallery, queries)
    founds = {kind: found for kind, found in measured.found.items() if kind != NUMPY}
    rows = [
        _row(case, f"recall@{K} of exact search with {DIMS[0]} dims", _each(recall, founds, of_all)),
        _row(case, f"recall@{K} of exact search with the same dims", _each(recall, founds, of_these)),
    ]
    if data.targets is not None:
        rows.append(_row(case, f"R@{K}, caption to photo", _each(right, founds, data.targets)))
    rows += [
        _row(case, "vector storage on disk", measured.disk, "bytes a vector", False),
        _row(case, "what a search scans, kept in memory", measured.memory, "bytes a vector", False),
        _row(case, "search, median by the clock", measured.ms, "ms", False, rounds),
        _row(case, "search, median of processor time", measured.processor_ms, "ms", False, rounds),
    ]
    return rows


def right_photo_rows(data: Data, dims: int) -> list[dict[str, Any]]:
    """R@10 in the gallery that the README's quality table has."""
    gallery, queries = truncated(data.gallery, dims), truncated(data.queries, dims)
    founds = measure(gallery, queries, 1).found
    del founds[NUMPY]
    case = f"{data.name}, gallery {len(gallery)}, {dims} dims"
    return [_row(case, f"R@{K}, caption to photo", _each(right, founds, data.targets))]


def curve_rows(data: Data, dims: int) -> list[dict[str, Any]]:
    """Recall by how many candidates are rescored for each one asked for; `ours` is what the runtime does."""
    gallery, queries = truncated(data.gallery, dims), truncated(data.queries, dims)
    best = exact(gallery, queries)
    rows = []
    for kind, curve in CURVES.items():
        with tempfile.TemporaryDirectory() as folder:
            shard = filled_shard(Path(folder) / "index" / "shard", kind, gallery)
            ours, found = shard.candidates, {}
            for candidates in curve:
                shard.candidates = candidates
                found[candidates] = recall([_searched(shard, query) for query in queries], best)
            shard.close()
        peers = {f"{n} rescored": round(value, 4) for n, value in found.items() if n != ours}
        if kind == OURS:
            peers |= {f"{SCALAR}, 1 rescored": round(recall(_scalar_once(gallery, queries), best), 4)}
        case = f"{data.name}, gallery {len(gallery)}, {dims} dims, {kind} with {ours} rescored for each asked"
        metric = f"recall@{K} of exact search with the same dims"
        rows.append(row(case, metric, round(found[ours], 4), peers=peers))
    return rows


def measure(gallery: Floats, queries: Floats, rounds: int) -> Measured:
    """Every kind of index on the same vectors; each round asks each of them the next part of the queries."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        searches: dict[str, Search] = {}
        for kind in VECTORS:
            shard = filled_shard(folder / kind / "shard", kind, gallery)
            stack.callback(shard.close)
            searches[kind] = partial(_searched, shard)
        searches[SCALAR] = scalar_int8_search(folder / SCALAR / "shard", gallery, K, 2, stack)
        weighed = {kind: weights(folder / kind, len(gallery)) for kind in searches}
        searches[NUMPY] = partial(numpy_search, gallery, K)
        found: dict[str, list[list[int]]] = {kind: [] for kind in searches}
        times: dict[str, list[tuple[float, float]]] = {kind: [] for kind in searches}
        for part in np.array_split(queries, rounds):
            for kind, search in searches.items():
                search(part[0])  # brings back to the caches what the kind before has put out
                for query in part:
                    started = (time.perf_counter(), time.process_time())
                    found[kind].append(search(query))
                    ended = (time.perf_counter(), time.process_time())
                    times[kind].append((ended[0] - started[0], ended[1] - started[1]))
    return Measured(
        found,
        *({kind: float(np.median(taken, 0)[i]) * 1e3 for kind, taken in times.items()} for i in (0, 1)),
        {kind: disk for kind, (disk, _) in weighed.items()},
        {kind: memory for kind, (_, memory) in weighed.items()},
    )


def filled_shard(path: Path, kind: Vectors, gallery: Floats) -> Shard:
    """A shard as `lowclip index` fills it, opened anew."""
    path.parent.mkdir(parents=True)
    Shard.create(path, gallery.shape[1], (), kind)
    shard = Shard.open(path, kind)
    for rows in batches(range(len(gallery)), 1000):
        shard.upsert([Point(point_id(i), {"row": i}, gallery[i]) for i in rows])
    shard.close()
    return Shard.open(path, kind)


def weights(index: Path, count: int) -> tuple[float, float]:
    """Bytes a vector on the disk, and of them what a search scans: the codes, or all where there are none.

    The files are sparse, so that their blocks are counted; the engine maps codes into memory in steps of 32 MiB.
    """
    files = [file for file in index.rglob("vector_storage/**/*") if file.is_file()]
    disk = sum(file.stat().st_blocks * 512 for file in files)
    codes = sum(file.stat().st_blocks * 512 for file in files if "/quantized" in file.as_posix())
    return disk / count, (codes or disk) / count


def exact(gallery: Floats, queries: Floats) -> list[set[int]]:
    """For each query the rows of the ten nearest by the matrix product, and those that tie with the tenth."""
    best = []
    for query in queries:
        scores = gallery @ query
        tenth = np.partition(scores, -K)[-K]
        best.append(
            set(np.flatnonzero(scores >= tenth - 1e-6).tolist())
        )  # copies of a photo, rounded otherwise
    return best


def recall(found: list[list[int]], best: list[set[int]]) -> float:
    """The share of the ten found that belong there, averaged over the queries."""
    return float(np.mean([len(set(one) & other) / K for one, other in zip(found, best, strict=True)]))


def right(found: list[list[int]], targets: NDArray[np.int64]) -> float:
    """The share of the queries whose own photo is among the ten found."""
    return float(np.mean([target in rows for rows, target in zip(found, targets, strict=True)]))


def _scalar_once(gallery: Floats, queries: Floats) -> list[list[int]]:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        search = scalar_int8_search(Path(folder) / "index" / "shard", gallery, K, 1, stack)
        return [search(query) for query in queries]


def _each(figure: Callable[..., float], founds: dict[str, list[list[int]]], truth: Any) -> dict[str, float]:
    return {kind: figure(found, truth) for kind, found in founds.items()}


def _row(
    case: str, metric: str, by_kind: dict[str, float], unit: str = "", higher: bool = True, rounds: int = 1
) -> dict[str, Any]:
    rounded = {kind: float(f"{value:.4g}") for kind, value in by_kind.items()}
    ours = rounded.pop(OURS)
    return row(case, metric, ours, unit=unit, higher_is_better=higher, peers=rounded, rounds=rounds)


def _searched(shard: Shard, query: Floats) -> list[int]:
    return [int(point.payload["row"]) for point in shard.search(query, K)]


def _rows(number: dict[str, int], names: Sequence[str]) -> NDArray[np.int64]:
    return np.asarray([number[name] for name in names], np.int64)


if __name__ == "__main__":
    main()
