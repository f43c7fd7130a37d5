"""What is asked of Qdrant Edge, in its own words: how embeddings are kept, graphs made, points found and filtered.

`shard.py` sends it. `int8` and `binary` shards keep small codes beside the embeddings: a search scans the codes in
memory and rescores the best of them with the embeddings, which stay on disk. What the engine really does was tried:
- Its scalar int8 quantization makes no codes until `optimize` rewrites the whole segment. Its TurboQuant with
  8 bits a number (a fixed rotation first, so that nothing is calibrated) makes them at every upsert and loses
  less; its binary quantization makes them at every upsert too. So these two, and `optimize` only makes graphs.
- `exact=True` ignores the codes, at every size; without a graph `exact=False` scans all of them.
- Rescored scores are the dot products with the embeddings, as in a float32 shard.
"""

import re
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import qdrant_edge
from numpy.typing import NDArray

from lowclip_runtime.errors import InputError
from lowclip_runtime.photo_facts import OF_THE_FILE
from lowclip_runtime.points import Where

Vectors: TypeAlias = Literal["float32", "int8", "binary"]
VECTORS: tuple[Vectors, ...] = get_args(Vectors)
# Points rescored for each one asked for: of 1, 2, 4, … the fewest that find the ten photos that an exact search
# finds among 7,848 with 256 dims (benchmarks/results/index.json has the curves, also for fewer dims).
CANDIDATES: dict[Vectors, int] = {"float32": 1, "int8": 2, "binary": 32}
_LEAST_ASKED = 10  # a search for the one best point rescores as many as one for ten, else it would miss more
_GRAPH_LINKS, _GRAPH_EFFORT, _SEARCH_EFFORT = 16, 128, 128  # m, ef_construct, ef
_NUMBER = re.compile(r"-?\d{1,18}")


def check_vectors(vectors: str | None) -> None:
    """Refuse what a shard cannot be made as; None is the default.

    Raises:
        InputError: naming the choices.
    """
    if vectors is not None and vectors not in VECTORS:
        raise InputError(f"vectors must be one of {', '.join(VECTORS)}, not {vectors!r}")


def vector_params(dims: int, vectors: Vectors) -> qdrant_edge.EdgeVectorParams:
    """How a shard keeps embeddings (D,) and their codes."""
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
        # mapped and read when touched, as fast once they are: read at once, the engine holds some of them twice, and a
        # process that has searched 100,000 takes 444 MB instead of 316
        memory=memory.Cold,
    )


def graph_config(dims: int, vectors: Vectors) -> qdrant_edge.EdgeConfig:
    """What a shard is opened with whose `optimize` shall put all points in one graph."""
    return qdrant_edge.EdgeConfig(
        vectors=vector_params(dims, vectors),
        hnsw_config=qdrant_edge.HnswIndexConfig(_GRAPH_LINKS, _GRAPH_EFFORT, full_scan_threshold=1),
        optimizers=qdrant_edge.EdgeOptimizersConfig(indexing_threshold=1, default_segment_number=1),
    )


def nearest(
    embedding: NDArray[np.float32], k: int, where: Where | None, *, candidates: int, exact: bool
) -> qdrant_edge.QueryRequest:
    """The `k` points nearest to `embedding` (D,), of those with these facts.

    Args:
        candidates: points of the codes' or the graph's order that are rescored for each one asked for.
        exact: scan the embeddings themselves.
    """
    rescored = candidates * max(k, _LEAST_ASKED)
    codes = qdrant_edge.QuantizationSearchParams(rescore=True, oversampling=rescored / k)
    return qdrant_edge.QueryRequest(
        limit=k,
        query=qdrant_edge.Query.Nearest(listed(embedding)),
        params=qdrant_edge.SearchParams(
            exact=exact, hnsw_ef=max(_SEARCH_EFFORT, rescored), quantization=codes
        ),
        filter=with_facts(where),
        with_payload=True,
    )


def with_facts(where: Where | None) -> qdrant_edge.Filter | None:
    """Points whose payload holds, under every key, one of the values: as text or as the number that it reads as.

    MEASURED with a million points, an album of 500: 0.5 ms by text, a second by text or number.
    """
    if not where:
        return None
    return qdrant_edge.Filter(must=[qdrant_edge.Filter(should=_matches(key, where[key])) for key in where])


def _matches(key: str, values: Sequence[str]) -> list[Any]:
    # a file's own facts are texts, and asked for as a number too, `album=2024` would not go by the index of albums: one
    # of a million photos took a second for that
    may_be_numbers = () if key in OF_THE_FILE else values
    numbers = [int(value) for value in may_be_numbers if _NUMBER.fullmatch(value)]
    matches = [qdrant_edge.MatchAny(some) for some in (list(values), numbers) if some]
    # unquoted, a name with a dot is a path into the payload, and one with a space is none at all
    return [qdrant_edge.FieldCondition(f'"{key}"', match=match) for match in matches]


def listed(embedding: NDArray[np.float32] | None) -> list[float]:
    """The embedding of a point, as the engine takes it."""
    assert embedding is not None, "a point is stored with its embedding"
    return embedding.tolist()  # type: ignore[no-any-return]
