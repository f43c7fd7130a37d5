"""What tests of an index do again and again."""

from pathlib import Path

from lowclip_runtime.clip import LowClip
from lowclip_runtime.index import Index
from lowclip_runtime.indexing import IndexReport


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
