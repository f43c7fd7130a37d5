"""Queries a second and from text to answer, over 100,000 and 1,000,000 vectors, beside numpy, faiss and usearch.

    python benchmarks/search_bench.py

Vectors are drawn in clusters. One query at a time, ten results each; ours also read their payloads, and follow a graph
where `lowclip index` makes one (from 200,000 on). The text queries
are words of the shipped tokenizer, each asked once, so that none is remembered.
"""

import statistics
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from result_file import row, write_result

from lowclip_runtime import Index, LowClip
from lowclip_runtime.cores import available_cores
from lowclip_runtime.indexing import STORE_BATCH
from lowclip_runtime.photo_record import PhotoRecord
from lowclip_runtime.points import Point
from lowclip_runtime.shard import Shard, Vectors
from lowclip_runtime.stream import batches

Floats = NDArray[np.float32]
Search = Callable[[Floats], list[int]]
K, QUERIES, CLUSTER = 10, 100, 50
_WORDS = (
    "dənizdə",
    "qırmızı",
    "uşaq",
    "it",
    "maşın",
    "dağ",
    "qar",
    "top",
    "ağac",
    "küçə",
    "göy",
    "at",
    "ev",
    "çay",
    "gül",
)


@click.command()
@click.option("--sizes", default="100000,1000000", show_default=True)
@click.option("--rounds", default=5, show_default=True)
def main(sizes: str, rounds: int) -> None:
    """Measure and write the result."""
    rows: list[dict[str, Any]] = []
    for size in map(int, sizes.split(",")):
        gallery, queries = drawn(size)
        with tempfile.TemporaryDirectory() as work:
            rows += engine_rows(gallery, queries, Path(work), rounds)
            if size == 100_000:
                rows += text_rows(gallery, Path(work))
    click.echo(write_result("search", rows))


def drawn(size: int) -> tuple[Floats, Floats]:
    """(size, D) vectors in clusters and (QUERIES, D) queries near some of them, unit norm."""
    random = np.random.default_rng(0)
    centres = random.standard_normal((size // CLUSTER, 256)).astype(np.float32)
    gallery = np.repeat(centres, CLUSTER, axis=0)
    for some in np.array_split(gallery, 50):
        some += 0.7 * random.standard_normal(some.shape).astype(np.float32)
    near = gallery[random.integers(0, size, QUERIES)]
    queries = near + 0.7 * random.standard_normal(near.shape).astype(np.float32)
    return unit(gallery), unit(queries)


def unit(vectors: Floats) -> Floats:
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def engine_rows(gallery: Floats, queries: Floats, folder: Path, rounds: int) -> list[dict[str, Any]]:
    searches: dict[str, Search] = {"numpy": numpy_search(gallery), "faiss, flat": faiss_search(gallery)}
    searches["usearch, exact"] = usearch_search(gallery)
    shards = {}
    for vectors in ("float32", "int8"):
        shards[vectors] = filled(folder / vectors, gallery, vectors)
        searches[f"ours, {vectors}"] = shard_search(shards[vectors])
    ms: dict[str, list[float]] = {name: [] for name in searches}
    found: dict[str, list[list[int]]] = {}
    for _ in range(rounds):
        for name, search in searches.items():
            start = time.perf_counter()
            found[name] = [search(query) for query in queries]
            ms[name].append((time.perf_counter() - start) / len(queries) * 1e3)
            click.echo(f"{len(gallery):,} {name}: {ms[name][-1]:.2f} ms")
    for shard in shards.values():
        shard.close()
    case = f"{len(gallery):,} vectors of 256 dims"
    recall = {
        name: sum(len(set(a) & set(b)) for a, b in zip(some, found["numpy"], strict=True))
        / (K * len(queries))
        for name, some in found.items()
    }
    median = {name: statistics.median(some) for name, some in ms.items()}
    ours = "ours, float32"
    return [
        row(
            case,
            "one query",
            median.pop(ours),
            unit="ms",
            higher_is_better=False,
            peers=median,
            rounds=rounds,
        ),
        row(case, f"recall@{K}", recall.pop(ours), peers=recall),
    ]


def text_rows(gallery: Floats, folder: Path) -> list[dict[str, Any]]:
    """From the text to the hits in a process that is warm."""
    clip = LowClip.open(towers=("text",))
    rows = []
    texts = [f"{a} {b} {c}" for a in _WORDS for b in _WORDS for c in _WORDS[:3]]
    for vectors in ("float32", "int8"):
        path = folder / f"{vectors}.index"
        Index.open(path, clip, vectors=vectors).close()
        shard = Shard.open(path / "shard", vectors)
        fill(shard, gallery)
        shard.close()
        with Index.open(path, clip) as index:
            for text in texts[:50]:
                index.search(text)
            clip.embed_texts(["it", "at"])
            ms = []
            for text in texts[50:]:
                start = time.perf_counter()
                assert len(index.search(text, K)) == K
                ms.append((time.perf_counter() - start) * 1e3)
        case = f"text to top {K} over {len(gallery):,} photos, {vectors}"
        for name, share in (("p50", 50), ("p99", 99)):
            value = float(np.percentile(ms, share))
            rows.append(row(case, name, value, unit="ms", higher_is_better=False, rounds=len(ms)))
    ms = []
    for text in texts:
        start = time.perf_counter()
        clip._embed_tokens(clip.tokenizer.token_ids([text]))
        ms.append((time.perf_counter() - start) * 1e3)
    rows.append(
        row("text alone", "p50", statistics.median(ms), unit="ms", higher_is_better=False, rounds=len(ms))
    )
    return rows


def filled(path: Path, gallery: Floats, vectors: Vectors) -> Shard:
    path.mkdir()
    Shard.create(path / "shard", gallery.shape[1], (), vectors)
    shard = Shard.open(path / "shard", vectors)
    fill(shard, gallery)
    shard.build_graph(gallery.shape[1], ())  # as `lowclip index` does; small ones are scanned
    return shard


def fill(shard: Shard, gallery: Floats) -> None:
    for rows in batches(range(len(gallery)), STORE_BATCH):  # as `lowclip index` does
        shard.upsert(Point(str(uuid.UUID(int=i)), payload(i), gallery[i]) for i in rows)
    shard.flush()


def payload(number: int) -> dict[str, Any]:
    return PhotoRecord("/photos", f"{number}.jpg", 1, 1, "0" * 64).to_payload()


def shard_search(shard: Shard) -> Search:
    return lambda query: [uuid.UUID(point.id).int for point in shard.search(query, K)]


def numpy_search(gallery: Floats) -> Search:
    def search(query: Floats) -> list[int]:
        scores = gallery @ query
        best = np.argpartition(-scores, K)[:K]
        return [int(i) for i in best[np.argsort(-scores[best])]]

    return search


def faiss_search(gallery: Floats) -> Search:
    import faiss

    faiss.omp_set_num_threads(available_cores())
    index = faiss.IndexFlatIP(gallery.shape[1])
    index.add(gallery)
    return lambda query: [int(i) for i in index.search(query[None], K)[1][0]]


def usearch_search(gallery: Floats) -> Search:
    from usearch.index import MetricKind, search

    def found(query: Floats) -> list[int]:
        matches = search(gallery, query, K, MetricKind.IP, exact=True, threads=available_cores())
        return [int(i) for i in matches.keys]

    return found


if __name__ == "__main__":
    main()
