"""Rows of a tab-separated UTF-8 file with their line numbers; what its columns mean is the caller's.

`pairs.py` and the labels of `zero_shot.py` are read through here.
"""

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path

from lowclip_runtime.errors import DatasetError
from lowclip_runtime.folder import os_reason

_MOST_CHARACTERS = 131_072  # of a cell that the csv module reads, unless it is told another limit


def refuse(problem: str) -> None:
    """What is done with a bad row unless a caller has something else in mind.

    Raises:
        DatasetError: always, in the words of `problem`.
    """
    raise DatasetError(problem)


def cell_problem(text: str) -> str:
    """Why no cell can hold `text`, to put behind its name; empty where one can."""
    if "\0" in text:
        return f"{text[:60]!r} holds a NUL character, which is no text"
    if len(text) > _MOST_CHARACTERS:
        return f"{text[:60]!r}… has {len(text):,} characters, and at most {_MOST_CHARACTERS:,} can be read"
    return ""


def numbered_rows(
    path: str | Path, of: str, on_bad_row: Callable[[str], None] = refuse
) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of each row, the header first; a blank line is a row without cells.

    Args:
        of: what the file should hold, for the message of one that cannot be read.
        on_bad_row: called with what is wrong with a row and in which line; if it returns, the row is left out.

    Raises:
        DatasetError: the file or its header cannot be read, or one of its lines, which is named.
    """
    try:
        text = Path(path).read_text("utf-8-sig")
    except OSError as error:
        raise DatasetError(f"{path}: {os_reason(error)}; name a tab-separated UTF-8 file of {of}") from error
    except UnicodeDecodeError as error:
        raise DatasetError(f"{path}: expected a tab-separated UTF-8 file of {of} ({error})") from error
    # captions hold quotation marks as themselves, so the csv module's quoting is off
    reader = csv.reader(io.StringIO(text, newline=""), delimiter="\t", quoting=csv.QUOTE_NONE)
    while True:
        try:
            row = next(reader)
        except StopIteration:
            return
        except csv.Error as error:  # the reader goes on with the next line
            problem = f"expected a row of {of}, found what cannot be one ({error})"
        else:
            problem = "it holds a NUL byte" if any("\0" in cell for cell in row) else ""
        line = reader.line_num
        if not problem:
            yield line, row
        else:  # without its header no row can be understood
            (refuse if line == 1 else on_bad_row)(f"{path}, line {line}: {problem}")
