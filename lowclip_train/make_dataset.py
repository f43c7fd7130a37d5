"""`lowclip-train prepare` as a library call: a known format read, cut to what is wanted, checked, written whole."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lowclip_runtime.errors import DatasetError
from lowclip_runtime.files import by_its_name, check_file_target, check_free
from lowclip_runtime.pairs import Pair
from lowclip_train.bad_data import BadData
from lowclip_train.dataset import DatasetManifest, check_replaceable, write_dataset, write_extracted
from lowclip_train.hf_parquet import extract_parquet
from lowclip_train.prepare import READERS, assign_splits, exclude, places
from lowclip_train.split_names import split_named
from lowclip_train.webdataset import extract_shards

EXTRACTED = ("webdataset", "parquet")  # formats with the images inside
FORMATS = (*READERS, *EXTRACTED)


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """What of a source becomes the dataset.

    Attributes:
        lang, split: of captions and images that do not say theirs.
        split_lists: (split, file that lists images of it); images in none are dropped.
        excluded: file that names images to leave out.
        skip_bad: leave out what cannot be used, instead of refusing the whole.
        image_column, caption_columns: of parquet, guessed where not given.
    """

    lang: str = "en"
    split: str = "train"
    split_lists: Sequence[tuple[str, Path]] = ()
    excluded: Path | None = None
    skip_bad: bool = False
    image_column: str | None = None
    caption_columns: Sequence[str] = ()


@dataclass(frozen=True)
class Made:
    """What became of a source: the manifest, what was left out as bad, and how many images by name."""

    manifest: DatasetManifest
    left_out: list[str]
    excluded_images: int


def make_dataset(
    format_name: str,
    source: Path,
    out: Path,
    *,
    images: Path | None = None,
    name: str | None = None,
    wanted: Wanted | None = None,
    overwrite: bool = False,
) -> Made:
    """Turn captions of a known format (one of `FORMATS`) into the dataset folder `out`.

    Args:
        images: folder of the images, for formats that only name them [default: the source's own].

    Raises:
        DatasetError: bad data, which is named with its file and place; or `overwrite` would delete what is no dataset.
        FileExistsError: `out` exists and may not be overwritten.
        InputError: `out` cannot be written.
    """
    wanted = _in_our_words(wanted or Wanted())
    if format_name != "parquet" and (wanted.image_column or wanted.caption_columns):
        raise DatasetError(
            f"{format_name} has no columns to choose; leave --image-column and --caption-column out"
        )
    name = name or by_its_name(out).name
    if overwrite:
        read = (source, images, wanted.excluded, *(path for _, path in wanted.split_lists))
        check_replaceable(out, [path for path in read if path is not None])
    check_free(out, overwrite=overwrite)  # before every image is decoded, not after
    if not out.exists():
        check_file_target(out)  # a folder needs the same
    bad = BadData(skip=wanted.skip_bad)
    excluded: set[str] = set()

    def cut(pairs: list[Pair]) -> list[Pair]:
        if not pairs:
            raise DatasetError(f"{source} holds no caption that can be used{bad.last}")
        if wanted.split_lists:
            pairs = assign_splits(pairs, wanted.split_lists)
        kept = exclude(pairs, wanted.excluded) if wanted.excluded else pairs
        if not kept:
            raise DatasetError(f"{wanted.excluded} names every image of {source}; exclude fewer")
        excluded.update({p.image for p in pairs} - {p.image for p in kept})
        return kept

    if format_name in EXTRACTED:
        if images:
            raise DatasetError(f"{format_name} has its images inside; leave --images out")
        manifest = write_extracted(
            out,
            name,
            lambda folder: cut(_extract(format_name, source, folder, wanted, bad)),
            overwrite=overwrite,
            bad=bad,
            place=lambda image: f"{source}: {image}",
        )
    else:
        folder = images or (source if source.is_dir() else source.parent)
        pairs = cut(READERS[format_name](source, wanted.lang, wanted.split, bad))
        manifest = write_dataset(out, name, folder, pairs, overwrite=overwrite, bad=bad, place=places(source))
    return Made(manifest, bad.left_out, len(excluded))


def _in_our_words(wanted: Wanted) -> Wanted:
    """Splits are called what training looks for, as those are that a file names itself."""
    lists = [(split_named(split, f"the split of {path}"), path) for split, path in wanted.split_lists]
    return replace(wanted, split=split_named(wanted.split, "the split"), split_lists=lists)


def _extract(format_name: str, source: Path, folder: Path, wanted: Wanted, bad: BadData) -> list[Pair]:
    if format_name == "webdataset":
        return extract_shards(source, folder, wanted.lang, wanted.split, bad)
    return extract_parquet(
        source, folder, wanted.lang, wanted.split, bad,
        image_column=wanted.image_column, caption_columns=wanted.caption_columns,
    )  # fmt: skip
