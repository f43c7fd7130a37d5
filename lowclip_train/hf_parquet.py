"""Reader of parquet files as Hugging Face datasets writes them: an image column with the bytes inside, and captions.

The image is a struct of `bytes` and `path`, or bytes; captions are a text or a list of them. Needs the extra `[data]`.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from lowclip_runtime.errors import DatasetError
from lowclip_runtime.pairs import Pair
from lowclip_train.bad_data import REFUSE, BadData, are_fields
from lowclip_train.extract import (
    CAPTION_NAMES,
    LANGUAGE_NAMES,
    captions_and_gaps,
    captions_in,
    is_safe_name,
    matching,
    pairs_of,
    put,
)
from lowclip_train.split_names import split_named, split_of_file

_IMAGE_NAMES = ("image", "img", "photo", "jpg")
_ROWS = 16  # read at once; with photos of 10 MB that is 160 MB
# A column is read in pieces of so much. MEASURED on 600 MB of photos, in row groups of 40 MB each: 340 MB at most with
# all of a process; left to itself pyarrow reads columns whole, and those of the next row groups ahead: 940 MB.
_BUFFER_BYTES = 1 << 20
_SUFFIXES = (
    (b"\xff\xd8", ".jpg"),
    (b"\x89PNG", ".png"),
    (b"GIF8", ".gif"),
    (b"RIFF", ".webp"),
    (b"BM", ".bmp"),
)


def extract_parquet(
    source: str | Path,
    images: Path,
    lang: str,
    split: str,
    bad: BadData = REFUSE,
    *,
    image_column: str | None = None,
    caption_columns: Sequence[str] = (),
) -> list[Pair]:
    """Write the images of all rows to `images/file/name`, and give their pairs.

    Rows that repeat an image, its bytes and its path, give it several captions. The language is that of the caption,
    else of its column, else of the row, else `lang`. The split is the row's `split`, else the one that the file is
    named by (`test-00000-of-00002.parquet`, `test/0000.parquet`), else `split`.

    Args:
        source: a file, a folder of `*.parquet`, or a glob.
        image_column: guessed where None.
        caption_columns: `COLUMN` or `LANG=COLUMN`, one for each language; guessed where empty.

    Raises:
        DatasetError: no pyarrow, no file, a damaged one, columns that are not there, or a bad row.
    """
    pairs: list[Pair] = []
    written = _Images(images)
    for path in _files(source):
        opened = _open(path)
        names = opened.schema_arrow.names
        image, captions = _columns(path, names, image_column, caption_columns)
        columns = [image, *(column for _, column in captions)]
        of_file = split_of_file(path, split)
        wanted = list(dict.fromkeys([*columns, *({"split", *LANGUAGE_NAMES} & set(names))]))
        for number, row in enumerate(_rows(path, opened, wanted)):
            found = [c for own, column in captions for c in _captions(row, column, own, lang)]
            place = f"{path}, row {number}"
            own = split_named(row.get("split"), f"{place}: split") or of_file
            if not any(caption for _, caption in found):
                bad(f"{place}: no caption in {', '.join(column for _, column in captions)}")
            elif are_fields(
                place, bad, own, *(text for lang_and_caption in found for text in lang_and_caption)
            ):
                name = _extract_image(place, path.stem, number, row[image], written, bad)
                if name:
                    pairs += pairs_of(name, found, own, written.number_captions(name, found))
    return pairs


def _captions(row: Mapping[str, Any], column: str, own: str, lang: str) -> list[tuple[str, str]]:
    return captions_and_gaps(row[column], own) if own else captions_in(row, row[column], lang)


class _Images:
    """The images written below a folder so far: the name of each, and how many captions it has."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._name_of: dict[tuple[str, bytes], str] = {}
        self._captions: dict[str, int] = {}

    def name_of(self, path: str, data: bytes, candidates: Iterable[str]) -> str | None:
        """The name that the image of this path and content has already, or the first of the candidates that is free."""
        key = path, hashlib.sha256(data).digest()
        if key not in self._name_of:
            free = next((name for name in candidates if put(self._folder, name, data)), None)
            if free is None:
                return None
            self._name_of[key] = free
        return self._name_of[key]

    def number_captions(self, name: str, captions: Sequence[tuple[str, str]]) -> int:
        """The number of the first of these (lang, caption) of a row: behind all of earlier rows, in any language."""
        first = self._captions.get(name, 0)
        self._captions[name] = first + max(Counter(lang for lang, _ in captions).values())
        return first


def _extract_image(
    place: str, file: str, number: int, value: Any, written: _Images, bad: BadData
) -> str | None:
    """The name the image got; None where the row holds none."""
    data = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(data, bytes) or not data:
        bad(f"{place}: the image's bytes are not inside the file")
        return None
    path = str(value.get("path") or "") if isinstance(value, dict) else ""
    base = PurePosixPath(path).name
    suffix = next((suffix for start, suffix in _SUFFIXES if data.startswith(start)), ".img")
    candidates = [f"{file}/{number:08d}{suffix}", f"{file}/row-{number:08d}{suffix}"]
    if base and is_safe_name(base):  # two photos may have it: both keep it, so that `--exclude` finds both
        candidates = [f"{file}/{base}", f"{file}/{number:08d}/{base}", *candidates]
    name = written.name_of(path, data, candidates)
    if name is None:
        bad(f"{place}: no free name for the image")
    return name


def _files(source: str | Path) -> list[Path]:
    files = matching(Path(source) / "*.parquet" if Path(source).is_dir() else source)
    if not files:
        raise DatasetError(f"{source}: no parquet file; name one, a folder of *.parquet or a glob")
    stems = [path.stem for path in files]
    twice = [path for path in files if stems.count(path.stem) > 1 or not is_safe_name(path.stem)]
    if twice:
        raise DatasetError(f"{twice[0]}: its name is another's too or not a plain one; rename it")
    return files


def _open(path: Path) -> Any:
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError as error:
        raise DatasetError("reading parquet needs pyarrow; run: pip install 'lowclip[data]'") from error
    try:
        return ParquetFile(path, buffer_size=_BUFFER_BYTES, pre_buffer=False)
    except (OSError, ArrowException) as error:
        raise DatasetError(f"{path}: not a parquet file that can be read ({error})") from error


def _rows(path: Path, opened: Any, columns: list[str]) -> Any:
    from pyarrow import ArrowException

    try:
        for batch in opened.iter_batches(batch_size=_ROWS, columns=columns):
            yield from batch.to_pylist()
    except (OSError, ArrowException, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: the file is damaged ({error}); get it anew") from error


def _columns(
    path: Path, names: Sequence[str], image: str | None, options: Sequence[str]
) -> tuple[str, list[tuple[str, str]]]:
    """The column of the images, and (lang or empty, column) of the captions: as named, else guessed."""
    image = image or _guess(path, names, _IMAGE_NAMES, "--image-column")
    captions = [_lang_and_column(option) for option in options]
    captions = captions or [("", _guess(path, names, CAPTION_NAMES, "--caption-column"))]
    unknown = [column for column in (image, *(column for _, column in captions)) if column not in names]
    if unknown:
        raise DatasetError(f"{path} has no column {', '.join(unknown)}; it has {', '.join(names)}")
    return image, captions


def _guess(path: Path, names: Sequence[str], usual: Sequence[str], option: str) -> str:
    for name in usual:
        if name in names:
            return name
    raise DatasetError(
        f"{path} has no column {' or '.join(usual)}; name one of {', '.join(names)} with {option}"
    )


def _lang_and_column(option: str) -> tuple[str, str]:
    before, equals, column = option.partition("=")
    return (before, column) if equals else ("", option)
