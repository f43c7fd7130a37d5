"""Rows of a tab-separated UTF-8 file with their line numbers; what its columns mean is the caller's.

`pairs.py` and the labels of `zero_shot.py` are read through here.
"""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

from lowclip_runtime.errors import DatasetError


def numbered_rows(path: str | Path, of: str) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of each row, the header first; a blank line is a row without cells.

    Args:
        of: what the file should hold, for the message of one that cannot be read.

    Raises:
        DatasetError: the file cannot be read, or one of its lines, which is named.
    """
    try:
        text = Path(path).read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DatasetError(f"{path}: expected a tab-separated UTF-8 file of {of} ({error})") from error
    # captions hold quotation marks as themselves, so the csv module's quoting is off
    reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t", quoting=csv.QUOTE_NONE)
    try:
        for row in reader:
            if any("\0" in cell for cell in row):
                raise DatasetError(f"{path}, line {reader.line_num}: it holds a NUL byte; mend the file")
            yield reader.line_num, row
    except csv.Error as error:
        raise DatasetError(
            f"{path}, line {reader.line_num}: expected a row of {of}, found what cannot be one ({error})"
        ) from error
