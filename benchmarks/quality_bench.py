"""Retrieval quality of bundles side by side on four public tests: Flickr8k, Caltech-101, GCompris and Twemoji.

    python benchmarks/quality_bench.py DATA --bundle NAME=DIR[:DIMS] [--bundle NAME=DIR[:DIMS] ...]

The first bundle is ours, the others are its peers: the fp32 bundle of the same checkpoint, say, or its own first DIMS
dimensions, as `lowclip-export --dims` would cut them. DATA is the folder
of source material that `lowclip_train.shipped_recipe` trains from. Nothing here is trained or tuned on.
"""

import csv
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from result_file import row, write_result

from lowclip_runtime import LowClip
from lowclip_runtime.evaluate import distinct_images, embed_pairs, evaluate
from lowclip_runtime.metrics import retrieval_metrics
from lowclip_runtime.pairs import read_pairs
from lowclip_runtime.robustness import CLEAN, robustness
from lowclip_train.shipped_recipe import emoji_concepts, is_unseen

Figures = dict[tuple[str, str], float]  # (case, metric) → value
# how people type, by the runtime's names → as the cases of the result file and README's table are called
_TYPED = {
    "no diacritics": "without diacritics",
    "upper case": "in capitals",
    "Cyrillic": "in Cyrillic",
    "typo": "with a typing error",
}


@click.command()
@click.argument("data", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--bundle", "bundles", multiple=True, required=True, metavar="NAME=DIR[:DIMS]")
@click.option("--name", default="quality", show_default=True, help="Name of the result file.")
def main(data: Path, bundles: tuple[str, ...], name: str) -> None:
    """Measure every bundle on every test and write the result."""
    named = dict(bundle.split("=", 1) for bundle in bundles)
    opened = {label: _opened(*path.split(":")) for label, path in named.items()}
    with tempfile.TemporaryDirectory() as work:
        images = unpack(data, Path(work))
        figures = {label: measure(clip, data, images) for label, clip in opened.items()}
        agreement = compare_bundles(list(opened.values()), data, images)
    ours, *others = figures
    rows = [
        row(case, metric, value, higher_is_better=metric != "median_rank",
            peers={other: figures[other][case, metric] for other in others})
        for (case, metric), value in figures[ours].items()
    ]  # fmt: skip
    click.echo(write_result(name, rows + agreement))


class FirstDims(LowClip):
    """The first dimensions of a bundle's embeddings, of unit norm."""

    first = 0

    def embed_images(self, *args: Any, **kwargs: Any) -> NDArray[np.float32]:
        return self._cut(super().embed_images(*args, **kwargs))

    def embed_texts(self, *args: Any, **kwargs: Any) -> NDArray[np.float32]:
        return self._cut(super().embed_texts(*args, **kwargs))

    def _cut(self, embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
        first = embeddings[:, : self.first]
        return first / np.linalg.norm(first, axis=1, keepdims=True)


def _opened(path: str, dims: str = "") -> LowClip:
    if not dims:
        return LowClip.open(path)
    cut = FirstDims.open(path)
    cut.first = int(dims)
    return cut


def unpack(data: Path, work: Path) -> Path:
    """The photos of all four tests, unzipped into `work`."""
    for name, archive in {
        "flickr8k": "flickr8k/images_160.zip",
        "caltech101": "caltech101/images.zip",
        "gcompris94": "gcompris94/images.zip",
        "twitter": "az-emoji/twitter.zip",
    }.items():
        with zipfile.ZipFile(data / archive) as opened:
            opened.extractall(work / name)
    return work


def measure(clip: LowClip, data: Path, images: Path) -> Figures:
    """All figures of one bundle."""
    figures: Figures = {}
    for lang in ("az", "en"):
        pairs = read_pairs(data / "flickr8k/captions.tsv", lang=lang, split="test")
        result = evaluate(clip, pairs, images / "flickr8k", lang=lang, split="test")
        for direction in ("text_to_image", "image_to_text"):
            case = f"flickr8k test, {lang}, {direction}, gallery {result['gallery']}"
            figures |= {(case, metric): value for metric, value in result[direction].items()}
    figures |= as_people_type(clip, data, images)
    return figures | caltech(clip, data, images) | gcompris(clip, data, images) | twemoji(clip, data, images)


def as_people_type(clip: LowClip, data: Path, images: Path) -> Figures:
    """The Azerbaijani captions of the Flickr8k test as people type them → photo."""
    pairs = read_pairs(data / "flickr8k/captions.tsv", lang="az", split="test")
    told = robustness(clip, embed_pairs(clip, pairs, images / "flickr8k"))
    # DƏNIZ for dəniz, as software and keyboards that know no Azerbaijani write it
    capitals = [replace(pair, caption=pair.caption.upper()) for pair in pairs]
    kinds = {_TYPED[row["texts"]]: row["text_to_image"] for row in told["rows"] if row["texts"] != CLEAN}
    kinds["in capitals without dots"] = evaluate(clip, capitals, images / "flickr8k")["text_to_image"]
    return {
        (f"flickr8k test, az {kind}, gallery {told['gallery']}", metric): value
        for kind, metrics in kinds.items()
        for metric, value in metrics.items()
    }


def caltech(clip: LowClip, data: Path, images: Path) -> Figures:
    """Azerbaijani class label → photos of that class; precision@10 is over all photos at hand.

    Beside it each photo in place of the label → the other nine of its class.
    """
    labels = list(_table(data / "caltech101/labels_az.tsv"))
    photos = sorted((images / "caltech101").glob("*/*.jpg"))
    classes = np.array([photo.parent.name for photo in photos])
    of_photos = clip.embed_images(photos)
    of_labels = clip.embed_texts([label["az"] for label in labels])
    alike = of_photos @ of_photos.T - 2 * np.eye(len(photos), dtype=np.float32)  # none finds itself
    named = [label["class"] for label in labels]
    return {
        (f"caltech101, az label, gallery {len(photos)}", "precision@10"): _precision(
            of_labels @ of_photos.T, classes, named, 10
        ),
        (f"caltech101, photo, gallery {len(photos) - 1}", "precision@9"): _precision(
            alike, classes, classes, 9
        ),
    }


def gcompris(clip: LowClip, data: Path, images: Path) -> Figures:
    """Azerbaijani noun → its one drawing."""
    labels = list(_table(data / "gcompris94/labels.tsv"))
    drawings = [images / "gcompris94" / label["file"] for label in labels]
    case = f"gcompris94, az noun, gallery {len(labels)}"
    return _one_to_one(clip, case, [label["az"] for label in labels], drawings)


def twemoji(clip: LowClip, data: Path, images: Path) -> Figures:
    """CLDR name → its drawing by a vendor never trained on; concepts seen and unseen in other vendors' drawings."""
    concepts = [
        c for c in emoji_concepts(data / "az-emoji/labels.tsv") if "twitter" in c["vendors"].split(",")
    ]
    figures: Figures = {}
    for unseen in (False, True):
        some = [c for c in concepts if is_unseen(c["key"]) is unseen]
        drawings = [images / "twitter" / f"{c['key']}.webp" for c in some]
        case = f"twemoji, az name, {'unseen' if unseen else 'seen'} concepts, gallery {len(some)}"
        figures |= _one_to_one(clip, case, [c["az"] for c in some], drawings)
    return figures


def compare_bundles(clips: list[LowClip], data: Path, images: Path) -> list[dict[str, Any]]:
    """Of our bundle on Flickr8k test: cosine with the last peer, and how far an embedding depends on its batch."""
    pairs = read_pairs(data / "flickr8k/captions.tsv", split="test")
    photos = [images / "flickr8k" / image for image in distinct_images(pairs)]
    texts = [pair.caption for pair in pairs]
    rows = []
    for kind, items in (("image", photos), ("text", texts)):
        embed = [clip.embed_images if kind == "image" else clip.embed_texts for clip in clips]
        ours, reference = embed[0](items), embed[-1](items)
        alone = np.concatenate([embed[0]([item]) for item in items[:200]])
        together = embed[0](items[:200], 32)
        rows += [
            row(f"{kind} embeddings, flickr8k test", "mean cosine with the last peer", _mean_cosine(ours, reference)),
            row(
                f"{kind} embeddings, 200 items", "max abs difference, batch 1 to batch 32",
                float(np.abs(alone - together).max()), higher_is_better=False,
            ),
        ]  # fmt: skip
    return rows


def _precision(scores: NDArray[np.float32], classes: NDArray[Any], wanted: Sequence[str], k: int) -> float:
    """Of the `k` best photos (Q, N) for each query, the mean share that have the class wanted."""
    top = classes[np.argsort(-scores, axis=1, kind="stable")[:, :k]]  # (Q, k)
    return float((top == np.asarray(wanted)[:, None]).mean())


def _one_to_one(clip: LowClip, case: str, texts: list[str], images: list[Path]) -> Figures:
    relevant = [[i] for i in range(len(texts))]
    figures = retrieval_metrics(clip.embed_texts(texts), clip.embed_images(images), relevant)
    return {(case, metric): value for metric, value in figures.as_json().items()}


def _mean_cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    return float((a * b).sum(1).mean())


def _table(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE)


if __name__ == "__main__":
    main()
