"""What a split is called in our datasets, whatever a row or a file's name calls it."""

from lowclip_runtime.errors import DatasetError

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
