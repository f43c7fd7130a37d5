"""What a split is called in our datasets, whatever a row or a file's name calls it."""

import re
from pathlib import Path

from lowclip_runtime.errors import DatasetError

# COCO's have their year behind them: val2017
_IN_NAME = re.compile(r"(?<![a-z0-9])(train|validation|val|dev|test)(?:20\d\d)?(?![a-z0-9])", re.IGNORECASE)
_OURS = {"validation": "val", "dev": "val", "restval": "train"}


def split_named(value: object, place: str) -> str:
    """The split that `value` names, in our words; empty where it names none.

    Raises:
        DatasetError: a number, which says nothing without the labels that it counts; `place` is where it stands.
    """
    name = "" if value is None else str(value).strip().lower()
    if name and (name.isdecimal() or not isinstance(value, str)):
        raise DatasetError(
            f"{place} must be a name such as train, val or test, not {value!r}; write names, or leave the column out"
        )
    return _OURS.get(name, name)


def split_of_file(path: Path, split: str) -> str:
    """The split that a file is named by (`test-00000-of-00002.parquet`, `test/0000.tar`), in our words, else `split`.

    A folder counts only by its whole name: many that hold data have `test` in theirs.
    """
    named = _IN_NAME.search(path.name) or _IN_NAME.fullmatch(path.absolute().parent.name)
    return split_named(named[1] if named else split, f"{path}: its split")
