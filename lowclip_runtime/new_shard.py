"""The files of an empty shard, as Qdrant Edge makes them and then as we want them: two segments and a small log.

The engine reads and maps its whole log of updates when a shard is opened, two files of 32 MB by default. Here they are
a 32nd of that: 100,000 points open in 49 MB less. Without a log it would take as little, but a kill between update
and flush then left points with the payload of one version and the embedding of another.
"""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import qdrant_edge

from lowclip_runtime.engine_requests import Vectors, vector_params
from lowclip_runtime.shard_errors import engine_errors
from lowclip_runtime.shared_engine import load_engine

_LOG_BYTES = 2**20  # of one file of the log; a larger update gets a larger one
# The engine adds points to the smallest segment and searches each in a thread of its own: on 2 cores 100,000 are
# scanned in 0.62 of the time. A segment costs 5 MB of memory, and 12 ms of every flush.
_SEGMENTS = 2


def make_shard(path: Path, dims: int, lookup_keys: Sequence[str], vectors: Vectors) -> None:
    """Write the files into `path`, a folder that is empty or does not exist yet; see `Shard.create`."""
    with engine_errors(path):
        config = qdrant_edge.EdgeConfig(vectors=vector_params(dims, vectors))
        qdrant_edge.EdgeShard.create(str(path), config).close()
        for _ in range(_SEGMENTS - 1):
            _add_segment(path, config)
        _limit_log(path)
        engine = load_engine(path)
        for key in lookup_keys:
            schema = qdrant_edge.KeywordIndexParams(on_disk=True)
            engine.update(qdrant_edge.UpdateOperation.create_field_index(key, schema))
        engine.flush()
        engine.close()


def _add_segment(path: Path, config: qdrant_edge.EdgeConfig) -> None:
    """That of another new shard, which the engine takes for its own when it loads this one."""
    other = path / "another"
    qdrant_edge.EdgeShard.create(str(other), config).close()
    for segment in (other / "segments").iterdir():
        segment.rename(path / "segments" / segment.name)
    shutil.rmtree(other)


def _limit_log(path: Path) -> None:
    """Before the first update: the empty files that the engine has made go, and it makes smaller ones."""
    file = path / "edge_config.json"
    log = {
        "segment_capacity": _LOG_BYTES,
        "segment_queue_len": 0,
        "retain_closed": 1,
    }  # all but the first as it has it
    file.write_text(json.dumps({**json.loads(file.read_text("utf-8")), "wal_options": log}), "utf-8")
    for empty in (path / "wal").iterdir():
        empty.unlink()
