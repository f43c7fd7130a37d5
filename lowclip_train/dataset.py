"""The dataset manifest: what `lowclip-train prepare` writes and training reads.

A folder with `manifest.json` (where the images are, counts, hashes), `pairs.tsv`, `images.sha256` (as `sha256sum`
writes it) and, where the images came inside of files, `images/`. How it is made from the field's formats is
`make_dataset.py`.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lowclip_runtime.errors import ConfigError, DatasetError
from lowclip_runtime.files import sha256_of, whole_folder
from lowclip_runtime.manifest_kind import mixed_up
from lowclip_runtime.pairs import Pair, read_pairs, write_pairs
from lowclip_runtime.schema import dumps, from_dict
from lowclip_train.bad_data import REFUSE, BadData
from lowclip_train.image_check import check_images
from lowclip_train.leaks import check_splits

SCHEMA_VERSION = 2  # 1 had no hashes of images; it is still read


@dataclass(frozen=True, kw_only=True)
class DatasetManifest:
    """Everything `manifest.json` says.

    Attributes:
        images: the folder that `Pair.image` is relative to; absolute, or relative to the dataset's folder.
        images_sha256: hash of `images.sha256`, which holds that of every image (empty in version 1).
    """

    schema_version: int
    name: str
    images: str
    pairs_sha256: str
    captions: dict[str, int]
    image_count: int
    images_sha256: str = ""


@dataclass(frozen=True)
class Dataset:
    """An opened dataset: `images` with the captions of each, in file order."""

    manifest: DatasetManifest
    pairs: list[Pair]
    folder: Path

    @property
    def label(self) -> str:
        """What errors call it."""
        return f"the dataset {self.manifest.name!r}"

    @property
    def images_dir(self) -> Path:
        """The folder that `Pair.image` is relative to, wherever the dataset lies."""
        return self.folder / self.manifest.images

    def image_path(self, image: str) -> Path:
        """Where the photo of `Pair.image` lies."""
        return self.images_dir / image

    def image_hashes(self) -> dict[str, str]:
        """Image → SHA-256 of its file when it was prepared; a dataset of version 1 has its images hashed now.

        Raises:
            DatasetError: the list of hashes was changed or is gone, or an image is.
        """
        if self.manifest.images_sha256:
            return _read_hashes(self.folder / "images.sha256", self.manifest.images_sha256)
        names = dict.fromkeys(p.image for p in self.pairs)
        try:
            return {name: sha256_of(self.image_path(name)) for name in names}
        except OSError as error:
            raise DatasetError(f"{error.filename}: {error.strerror}; run prepare again") from error

    def captions_by_image(self, split: str) -> dict[str, list[Pair]]:
        """Image → its captions in `split`; images without any are left out."""
        grouped: dict[str, list[Pair]] = {}
        for pair in self.pairs:
            if pair.split == split:
                grouped.setdefault(pair.image, []).append(pair)
        return grouped


def write_dataset(
    folder: str | Path,
    name: str,
    images: str | Path,
    pairs: Sequence[Pair],
    *,
    overwrite: bool = False,
    bad: BadData = REFUSE,
    place: Callable[[str], str] = str,
) -> DatasetManifest:
    """Check that every image can be read and no file stands in two splits, then write the dataset whole.

    Args:
        bad: what is done with images that are missing or cannot be decoded; place: image → where it is named.

    Raises:
        DatasetError: nothing to write, missing images (the first few are named), a leak between splits, or
            overwriting would lose an image or what is no dataset.
    """
    images = Path(images).resolve()
    kept, hashes = check_images(images, pairs, bad, place)
    check_splits(kept, hashes)
    if overwrite:
        check_replaceable(folder, [images, *(images / name for name in hashes)])
    with whole_folder(folder, overwrite=overwrite) as work:
        return _write(work, name, str(images), kept, hashes)


def write_extracted(
    folder: str | Path,
    name: str,
    extract: Callable[[Path], Sequence[Pair]],
    *,
    overwrite: bool = False,
    bad: BadData = REFUSE,
    place: Callable[[str], str] = str,
) -> DatasetManifest:
    """The same for images that come inside of files: `extract` puts them into the given folder and returns the pairs.

    Raises:
        DatasetError: as for `write_dataset`, or what `extract` raises; nothing is left then.
    """
    if overwrite:
        check_replaceable(folder, [])
    with whole_folder(folder, overwrite=overwrite) as work:
        images = work / "images"
        images.mkdir()
        kept, hashes = check_images(images, extract(images), bad, place)
        check_splits(kept, hashes)
        for path in [p for p in images.rglob("*") if p.is_file()]:
            if str(path.relative_to(images)) not in hashes:
                path.unlink()
        return _write(work, name, "images", kept, hashes)


def read_dataset(folder: str | Path) -> Dataset:
    """Open a dataset folder.

    Raises:
        DatasetError: not a dataset, or its pairs were changed after it was written.
    """
    folder = Path(folder)
    path = folder / "manifest.json"
    try:
        manifest = _read_manifest(path)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DatasetError(f"{folder} is not a dataset; make one with: lowclip-train prepare") from error
    except (OSError, ValueError, RecursionError, ConfigError) as error:
        raise DatasetError(f"{path} is not a dataset's manifest ({error}); run prepare again") from error
    if sha256_of(folder / "pairs.tsv") != manifest.pairs_sha256:
        raise DatasetError(f"{folder / 'pairs.tsv'} was changed after it was written; run prepare again")
    return Dataset(manifest, read_pairs(folder / "pairs.tsv"), folder)


def check_replaceable(folder: str | Path, needed: Iterable[Path]) -> None:
    """May `folder` be overwritten? Where something is, only an older dataset or an empty folder may.

    Args:
        needed: files and folders that the new dataset is made of; a pattern of shards stands for its folder.

    Raises:
        DatasetError: the folder is something else, or holds one of these.
    """
    folder = Path(folder)
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    try:
        _read_manifest(folder / "manifest.json")
    except (OSError, ValueError, RecursionError, ConfigError, DatasetError) as error:
        raise DatasetError(
            f"{folder} is not a dataset that prepare wrote, so it is not overwritten; name another folder"
        ) from error
    resolved = folder.resolve()
    lost = next((path for path in needed if path.resolve().is_relative_to(resolved)), None)
    if lost is not None:
        raise DatasetError(
            f"{folder} holds {lost}, which overwriting would delete; name another folder for the dataset"
        )


def _read_manifest(path: Path) -> DatasetManifest:
    data = json.loads(path.read_text("utf-8"))
    if told := mixed_up(data, "dataset"):
        raise DatasetError(f"{path} {told}")
    version = data.get("schema_version") if isinstance(data, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:  # whose keys are not known here
        raise DatasetError(
            f"{path} has schema version {version}, this lowclip reads up to {SCHEMA_VERSION}; upgrade lowclip"
        )
    return from_dict(DatasetManifest, data, str(path))


def _write(
    work: Path, name: str, images: str, pairs: Sequence[Pair], hashes: Mapping[str, str]
) -> DatasetManifest:
    write_pairs(work / "pairs.tsv", pairs)
    lines = [f"{sha256}  {image}\n" for image, sha256 in sorted(hashes.items())]
    (work / "images.sha256").write_text("".join(lines), "utf-8")
    manifest = DatasetManifest(
        schema_version=SCHEMA_VERSION,
        name=name,
        images=images,
        pairs_sha256=sha256_of(work / "pairs.tsv"),
        captions=dict(sorted(Counter(f"{p.split}/{p.lang}" for p in pairs).items())),
        image_count=len(hashes),
        images_sha256=sha256_of(work / "images.sha256"),
    )
    (work / "manifest.json").write_text(dumps(manifest), "utf-8")
    return manifest


def _read_hashes(path: Path, expected: str) -> dict[str, str]:
    try:
        if sha256_of(path) != expected:
            raise DatasetError(f"{path} was changed after it was written; run prepare again")
        lines = path.read_text("utf-8").splitlines()
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror}; run prepare again") from error
    return {image: sha256 for sha256, _, image in (line.partition("  ") for line in lines)}
