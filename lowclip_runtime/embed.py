"""Bulk embedding into a file: a folder or list of photos, or lines of text, in one pass with flat memory.

What cannot be read is reported and left out. The file's form is `vector_file.py`, the embedding `clip.py`.
"""

import itertools
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from lowclip_runtime.clip import BATCH_SIZE, LowClip
from lowclip_runtime.errors import ImageError, InputError, TextError
from lowclip_runtime.folder import gallery_root, printable, walk
from lowclip_runtime.stream import batches
from lowclip_runtime.text import normalize_text
from lowclip_runtime.vector_file import check_target, vector_file

_WRITE_ROWS = (
    1024  # rows a write: a megabyte in a Parquet row group; texts are sorted by length among as many
)
Row: TypeAlias = tuple[
    str, NDArray[np.float32] | InputError
]  # its id, and its embedding (D,) or why it has none


@dataclass(frozen=True, kw_only=True)
class EmbedReport:
    """How many rows were written, and how many items were left out."""

    written: int
    failed: int


@dataclass(frozen=True, kw_only=True)
class Watch:
    """Who is told: `on_failed(id, reason)`, and `on_progress(items done, their number if known)`."""

    on_failed: Callable[[str, str], None] = lambda _id, _reason: None
    on_progress: Callable[[int, int | None], None] = lambda _done, _total: None


def embed_folder_to(
    clip: LowClip,
    folder: str | Path,
    out: str | Path,
    *,
    batch_size: int = BATCH_SIZE,
    watch: Watch | None = None,
) -> EmbedReport:
    """Embed every photo below `folder` into `out`; an id is the photo's path from there, with `/` in it.

    Raises:
        InputError: no such folder, no readable photo in it, or `out` is not a file that can be written.
    """
    check_target(out)
    root = gallery_root(folder)
    listing = walk(root)
    photos = [(file.path, root / file.path) for file in listing.files]
    problems = ((path, InputError(reason)) for path, reason in listing.problems)
    total = len(photos) + len(listing.problems)
    return _write(clip, itertools.chain(problems, _image_rows(clip, photos, batch_size)), out, total, watch)


def embed_images_to(
    clip: LowClip,
    paths: Iterable[str],
    out: str | Path,
    *,
    batch_size: int = BATCH_SIZE,
    watch: Watch | None = None,
) -> EmbedReport:
    """Embed the images at `paths` into `out`; an id is the path as given.

    Raises:
        InputError: none of the images can be read, or `out` is not a file that can be written.
    """
    check_target(out)
    photos = ((path, Path(path)) for path in paths)
    return _write(clip, _image_rows(clip, photos, batch_size), out, None, watch)


def embed_texts_to(
    clip: LowClip,
    texts: Iterable[str],
    out: str | Path,
    *,
    batch_size: int | None = None,
    watch: Watch | None = None,
) -> EmbedReport:
    """Embed `texts` into `out`, each text its own id; an empty one is left out and told as `line 3`.

    Raises:
        InputError: all of the texts are empty, or `out` is not a file that can be written.
    """
    check_target(out)
    return _write(clip, _text_rows(clip, texts, batch_size), out, None, watch)


def _image_rows(clip: LowClip, photos: Iterable[tuple[str, Path]], batch_size: int) -> Iterator[Row]:
    for_ids, for_paths = itertools.tee(photos)
    embeddings = clip.embed_each((path for _, path in for_paths), batch_size)
    for (one, path), value in zip(for_ids, embeddings, strict=True):
        if isinstance(value, ImageError):  # its message names the path, which the id says already
            value = ImageError(str(value).removeprefix(f"{printable(path)}: "))
        yield one, value


def _text_rows(clip: LowClip, texts: Iterable[str], batch_size: int | None) -> Iterator[Row]:
    numbered = enumerate(texts, start=1)
    for some in batches(numbered, _WRITE_ROWS):
        checked = [(number, text, _refusal(clip, text)) for number, text in some]
        good = [text for _, text, refused in checked if refused is None]
        embeddings = iter(clip.embed_texts(good, batch_size))
        for number, text, refused in checked:
            yield (f"line {number}", refused) if refused else (text, next(embeddings))


def _refusal(clip: LowClip, text: str) -> TextError | None:
    try:
        normalize_text(text, clip.manifest.text)
    except TextError as error:
        return error
    return None


def _write(
    clip: LowClip, rows: Iterable[Row], out: str | Path, total: int | None, watch: Watch | None
) -> EmbedReport:
    watch = watch or Watch()
    if Path(out).suffix == ".npy":
        rows = map(_check_id, rows)
    written = failed = 0
    with vector_file(out, clip.dims, {"bundle": f"{clip.name}@{clip.bundle_id}"}) as writer:
        for some in batches(_told(rows, total, watch), _WRITE_ROWS):
            good = [(one, value) for one, value in some if not isinstance(value, InputError)]
            if good:
                writer.add([one for one, _ in good], np.stack([value for _, value in good]))
            written, failed = written + len(good), failed + len(some) - len(good)
        if not written:
            raise InputError(_nothing(failed, out))
    return EmbedReport(written=written, failed=failed)


def _told(rows: Iterable[Row], total: int | None, watch: Watch) -> Iterator[Row]:
    for done, (one, value) in enumerate(rows, start=1):
        if isinstance(value, InputError):
            watch.on_failed(one, str(value))
        watch.on_progress(done, total)
        yield one, value


def _check_id(row: Row) -> Row:
    one, value = row
    if "\n" in one or "\r" in one:
        return one, InputError("its name has a line break, which a list of ids cannot hold; rename it")
    return one, value


def _nothing(failed: int, out: str | Path) -> str:
    if failed:
        return (
            f"none of the {failed} items can be read, so {out} was not written; the reasons are given above"
        )
    return (
        f"there is nothing to embed, so {out} was not written; name a folder of photos or a list with entries"
    )
