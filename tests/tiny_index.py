"""What tests of an index do again and again."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lowclip_runtime.clip import LowClip
from lowclip_runtime.index import Index
from lowclip_runtime.indexing import IndexReport

Floats = NDArray[np.float32]


def add(path: Path, clip: LowClip, gallery: Path) -> IndexReport:
    with Index.open(path, clip) as index:
        return index.add_folder(gallery)


def names(path: Path, clip: LowClip) -> list[str]:
    """The file names of all photos in the index."""
    with Index.open(path, clip, create=False) as index:
        hits = index.search("it", k=1000)
        assert len(hits) == len(index)
    return sorted(Path(hit.path).name for hit in hits)


def counts(report: IndexReport) -> dict[str, int]:
    shown = {
        name: getattr(report, name) for name in ("added", "updated", "removed", "unchanged", "duplicates")
    }
    return {name: count for name, count in shown.items() if count}


def directions(count: int, seed: int, dims: int) -> Floats:
    """Unit-norm embeddings (count, dims) drawn by lot."""
    values = np.random.default_rng(seed).standard_normal((count, dims)).astype(np.float32)
    return np.asarray(values / np.linalg.norm(values, axis=1, keepdims=True), np.float32)
