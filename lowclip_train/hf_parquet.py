"""Reader of parquet files as Hugging Face datasets writes them: an image column with the bytes inside, and captions.

The image is a struct of `bytes` and `path`, or bytes; captions are a text or a list of them. Needs the extra `[data]`.
"""

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from lowclip_runtime.errors import DatasetError
from lowclip_runtime.pairs import Pair
from lowclip_train.bad_data import REFUSE, BadData
from lowclip_train.extract import CAPTION_NAMES, captions_of, is_safe_name, matching, pairs_of, put

_IMAGE_NAMES = ("image", "img", "photo", "jpg")
_SPLIT_OF_FILE = re.compile(r"(train|validation|val|test)\b", re.IGNORECASE)
_OUR_SPLIT = {"validation": "val", "restval": "train", "dev": "val"}
_ROWS = 16  # read at once; with photos of 10 MB that is 160 MB
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

    The split is the row's `split`, else the one the file is named by (`test-00000-of-00002.parquet`), else `split`.

    Args:
        source: a file, a folder of `*.parquet`, or a glob.
        image_column: guessed where None.
        caption_columns: `COLUMN` or `LANG=COLUMN`, one for each language; guessed where empty.

    Raises:
        DatasetError: no pyarrow, no file, a damaged one, columns that are not there, or a bad row.
    """
    pairs: list[Pair] = []
    for path in _files(source):
        opened = _open(path)
        names = opened.schema_arrow.names
        image = image_column or _guess(path, names, _IMAGE_NAMES, "--image-column")
        captions = [_lang_and_column(c, lang) for c in caption_columns]
        captions = captions or [(lang, _guess(path, names, CAPTION_NAMES, "--caption-column"))]
        columns = [image, *(column for _, column in captions)]
        _check_columns(path, names, columns)
        of_file = _split_of_file(path, split)
        wanted = [*columns, "split"] if "split" in names else columns
        for number, row in enumerate(_rows(path, opened, wanted)):
            found = [c for of_lang, column in captions for c in captions_of(row[column], of_lang)]
            own = str(row.get("split") or of_file)
            place = f"{path}, row {number}"
            name = _extract_image(place, path.stem, number, row[image], images, bad) if found else None
            if not found:
                bad(f"{place}: no caption in {', '.join(column for _, column in captions)}")
            elif name:
                pairs += pairs_of(name, found, _OUR_SPLIT.get(own, own))
    return pairs


def _extract_image(place: str, file: str, number: int, value: Any, images: Path, bad: BadData) -> str | None:
    """The name the image got; None where the row holds none."""
    data = value.get("bytes") if isinstance(value, dict) else value
    if not isinstance(data, bytes) or not data:
        bad(f"{place}: the image's bytes are not inside the file")
        return None
    path = value.get("path") if isinstance(value, dict) else None
    base = PurePosixPath(str(path or "")).name
    suffix = next((suffix for start, suffix in _SUFFIXES if data.startswith(start)), ".img")
    candidates = [base] if base and is_safe_name(base) else []
    for candidate in (*candidates, f"{number:08d}{suffix}", f"row-{number:08d}{suffix}"):
        if put(images, f"{file}/{candidate}", data):
            return f"{file}/{candidate}"
    bad(f"{place}: no free name for the image")
    return None


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
        return ParquetFile(path)
    except (OSError, ArrowException) as error:
        raise DatasetError(f"{path}: not a parquet file that can be read ({error})") from error


def _rows(path: Path, opened: Any, columns: list[str]) -> Any:
    from pyarrow import ArrowException

    try:
        for batch in opened.iter_batches(batch_size=_ROWS, columns=columns):
            yield from batch.to_pylist()
    except (OSError, ArrowException) as error:
        raise DatasetError(f"{path}: the file is damaged ({error}); get it anew") from error


def _guess(path: Path, names: Sequence[str], usual: Sequence[str], option: str) -> str:
    for name in usual:
        if name in names:
            return name
    raise DatasetError(
        f"{path} has no column {' or '.join(usual)}; name one of {', '.join(names)} with {option}"
    )


def _check_columns(path: Path, names: Sequence[str], columns: Sequence[str]) -> None:
    unknown = [column for column in columns if column not in names]
    if unknown:
        raise DatasetError(f"{path} has no column {', '.join(unknown)}; it has {', '.join(names)}")


def _lang_and_column(option: str, lang: str) -> tuple[str, str]:
    before, equals, column = option.partition("=")
    return (before, column) if equals else (lang, option)


def _split_of_file(path: Path, split: str) -> str:
    named = _SPLIT_OF_FILE.match(path.name)
    return named[1].lower() if named else split
