"""What `index_bench.py` sets beside our indexes: the engine's own scalar int8, and a matrix product in numpy."""

import uuid
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import qdrant_edge
from numpy.typing import NDArray

from lowclip_runtime.stream import batches

Floats = NDArray[np.float32]


def scalar_int8_search(
    path: Path, gallery: Floats, k: int, rescored: int, stack: ExitStack
) -> Callable[[Floats], list[int]]:
    """The engine's scalar quantization: no graph (m = 0), codes made by `optimize`, `rescored` for each asked."""
    codes = qdrant_edge.ScalarQuantizationConfig(
        qdrant_edge.ScalarType.Int8, memory=qdrant_edge.Memory.Pinned
    )
    config = qdrant_edge.EdgeConfig(
        vectors=qdrant_edge.EdgeVectorParams(
            size=gallery.shape[1], distance=qdrant_edge.Distance.Dot, quantization_config=codes,
            memory=qdrant_edge.Memory.Cold,
        ),
        hnsw_config=qdrant_edge.HnswIndexConfig(m=0, ef_construct=100, full_scan_threshold=10),
        optimizers=qdrant_edge.EdgeOptimizersConfig(indexing_threshold=1),
    )  # fmt: skip
    path.parent.mkdir(parents=True)
    engine = qdrant_edge.EdgeShard.create(str(path), config)
    for rows in batches(range(len(gallery)), 1000):
        points = [qdrant_edge.Point(point_id(i), gallery[i].tolist(), {"row": i}) for i in rows]
        engine.update(qdrant_edge.UpdateOperation.upsert_points(points))
    engine.flush()
    engine.optimize()
    engine.close()  # only opening it anew removes the segment that `optimize` has replaced
    engine = qdrant_edge.EdgeShard.load(str(path))
    stack.callback(engine.close)
    rescore = qdrant_edge.QuantizationSearchParams(rescore=True, oversampling=rescored)

    def search(query: Floats) -> list[int]:
        request = qdrant_edge.QueryRequest(
            limit=k, query=qdrant_edge.Query.Nearest(query.tolist()), with_payload=True,
            params=qdrant_edge.SearchParams(quantization=rescore),
        )  # fmt: skip
        return [int((point.payload or {})["row"]) for point in engine.query(request)]

    return search


def numpy_search(gallery: Floats, k: int, query: Floats) -> list[int]:
    """The rows of the `k` best by a matrix product and a partial sort."""
    scores = gallery @ query
    best = np.argpartition(-scores, k)[:k]
    return [int(i) for i in best[np.argsort(-scores[best])]]


def point_id(number: int) -> str:
    """The engine wants UUIDs."""
    return str(uuid.UUID(int=number))
