"""The whole runtime on what travels with the package: the shipped bundle searches the sample photos.

No network and no torch. Printing is `cli/demo_command.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lowclip_runtime.clip import LowClip
from lowclip_runtime.index import Hit, Index, IndexReport
from lowclip_runtime.sheet import Section, write_sheet
from lowclip_runtime.shipped import shipped_bundle, shipped_photos

# query, and what it means for those who do not read Azerbaijani
QUERIES = (
    ("xallı it", "a spotted dog"),
    ("yelkənli qayıq", "a sailing boat"),
    ("havada uçan təyyarə", "an aeroplane flying in the sky"),
    ("qırmızı motosiklet", "a red motorcycle"),
    ("futbol topu", "a football"),
)
PHOTOS_PER_QUERY = 5


@dataclass(frozen=True)
class Answer:
    """The photos found for one query; `english` is its meaning."""

    query: str
    english: str
    hits: list[Hit]


@dataclass(frozen=True)
class DemoResult:
    """What the demo made: the index and the contact sheet on disk, and the answers on it."""

    index: Path
    sheet: Path
    report: IndexReport
    answers: list[Answer]


def run_demo(
    out: str | Path, progress: Callable[[int, int], None] = lambda _done, _total: None
) -> DemoResult:
    """Index the sample photos in `out/photos.index`, answer `QUERIES` and draw them in `out/sheet.png`.

    Raises:
        BundleError: this installation has no shipped bundle.
        IndexFileError: `out/photos.index` is there and cannot be used.
    """
    index_path, sheet_path = Path(out) / "photos.index", Path(out) / "sheet.png"
    clip = LowClip.open(shipped_bundle())
    with Index.open(index_path, clip) as index:
        report = index.add_folder(shipped_photos(), progress=progress)
        found = index.search_all([query for query, _ in QUERIES], PHOTOS_PER_QUERY)
    answers = [Answer(query, english, hits) for (query, english), hits in zip(QUERIES, found, strict=True)]
    write_sheet(sheet_path, [Section(f"{one.query}  ({one.english})", one.hits) for one in answers])
    return DemoResult(index_path, sheet_path, report, answers)
