"""The dataset manifest: what `lowclip-train prepare` writes and training reads.

A folder with `manifest.json` (where the images are, counts, the hash of the pairs) and `pairs.tsv`. Readers of the
field's caption formats are `prepare.py`.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lowclip_runtime.errors import ConfigError, DatasetError
from lowclip_runtime.files import sha256_of, whole_folder
from lowclip_runtime.pairs import Pair, read_pairs, write_pairs
from lowclip_runtime.schema import dumps, from_dict

SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class DatasetManifest:
    """Everything `manifest.json` says; `images` is the folder that `Pair.image` is relative to."""

    schema_version: int
    name: str
    images: str
    pairs_sha256: str
    captions: dict[str, int]
    image_count: int


@dataclass(frozen=True)
class Dataset:
    """An opened dataset: `images` with the captions of each, in file order."""

    manifest: DatasetManifest
    pairs: list[Pair]

    def image_path(self, image: str) -> Path:
        """Where the photo of `Pair.image` lies."""
        return Path(self.manifest.images) / image

    def captions_by_image(self, split: str) -> dict[str, list[Pair]]:
        """Image → its captions in `split`; images without any are left out."""
        grouped: dict[str, list[Pair]] = {}
        for pair in self.pairs:
            if pair.split == split:
                grouped.setdefault(pair.image, []).append(pair)
        return grouped


def write_dataset(
    folder: str | Path, name: str, images: str | Path, pairs: Sequence[Pair], *, overwrite: bool = False
) -> DatasetManifest:
    """Check that every image is there and no photo stands in two splits, then write the dataset whole.

    Raises:
        DatasetError: nothing to write, missing images (the first few are named), or a leak between splits.
    """
    images = Path(images).resolve()
    _check_images(images, pairs)
    _check_splits(images, pairs)
    with whole_folder(folder, overwrite=overwrite) as work:
        write_pairs(work / "pairs.tsv", pairs)
        manifest = DatasetManifest(
            schema_version=SCHEMA_VERSION,
            name=name,
            images=str(images),
            pairs_sha256=sha256_of(work / "pairs.tsv"),
            captions=dict(sorted(Counter(f"{p.split}/{p.lang}" for p in pairs).items())),
            image_count=len({p.image for p in pairs}),
        )
        (work / "manifest.json").write_text(dumps(manifest), "utf-8")
    return manifest


def read_dataset(folder: str | Path) -> Dataset:
    """Open a dataset folder.

    Raises:
        DatasetError: not a dataset, or its pairs were changed after it was written.
    """
    folder = Path(folder)
    path = folder / "manifest.json"
    try:
        manifest = from_dict(DatasetManifest, json.loads(path.read_text("utf-8")), str(path))
    except FileNotFoundError as error:
        raise DatasetError(f"{folder} is not a dataset; make one with: lowclip-train prepare") from error
    except (OSError, ValueError, ConfigError) as error:
        raise DatasetError(f"{path} is not a dataset's manifest ({error}); run prepare again") from error
    if manifest.schema_version > SCHEMA_VERSION:
        raise DatasetError(f"{path} has schema version {manifest.schema_version}; upgrade lowclip")
    if sha256_of(folder / "pairs.tsv") != manifest.pairs_sha256:
        raise DatasetError(f"{folder / 'pairs.tsv'} was changed after it was written; run prepare again")
    return Dataset(manifest, read_pairs(folder / "pairs.tsv"))


def _check_images(images: Path, pairs: Sequence[Pair]) -> None:
    if not pairs:
        raise DatasetError("there are no captions to write")
    names = dict.fromkeys(p.image for p in pairs)
    missing = [name for name in names if not (images / name).is_file()]
    if missing:
        shown = ", ".join(missing[:3])
        raise DatasetError(
            f"{len(missing)} of {len(names)} images are not in {images} (first: {shown}); "
            "give the right --images folder or pass --skip-missing"
        )


def _check_splits(images: Path, pairs: Sequence[Pair]) -> None:
    """The same photo, by content, in two splits would make every figure a lie."""
    split_of: dict[str, tuple[str, str]] = {}
    for image, split in dict.fromkeys((p.image, p.split) for p in pairs):
        digest = hashlib.sha256((images / image).read_bytes()).hexdigest()
        first_image, first_split = split_of.setdefault(digest, (image, split))
        if first_split != split:
            raise DatasetError(
                f"{first_image} ({first_split}) and {image} ({split}) are the same photo in two splits; "
                "remove one of them"
            )
