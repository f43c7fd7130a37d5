"""What goes into a shard and comes out of it."""

import unicodedata
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lowclip_runtime.errors import InputError
from lowclip_runtime.folder import is_utf8

# A fact's name → the value, or one of the values, that a photo must have: as people write it, as a shard reads it
Filter: TypeAlias = Mapping[str, str | int | Sequence[str | int] | Set[str | int]]
Where: TypeAlias = Mapping[str, Sequence[str]]
_ONE = (str, bytes, bytearray, memoryview)  # sequences, of characters or numbers, that are meant as a whole


@dataclass(frozen=True, slots=True)
class Point:
    """What a shard stores under one id; `embedding` (D,) float32 is None where it was not asked for."""

    id: str
    payload: dict[str, Any]
    embedding: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class ScoredPoint:
    """A search result: `score` is the dot product with the query."""

    id: str
    score: float
    payload: dict[str, Any]


def checked_where(where: Filter | None) -> Where | None:
    """A filter as a person may write it, every value as a list of texts: `{"year": 2024}` → `{"year": ["2024"]}`.

    Raises:
        InputError: a name that no fact can have, or a value that is neither text, a whole number, true, false, nor a
            list of these.
    """
    if where is None:
        return None
    if not isinstance(where, Mapping):
        raise InputError(f"a filter must be a mapping of a fact's name to its value, not {where!r}")
    checked = {}
    for name, value in where.items():
        is_list = isinstance(value, Sequence | Set) and not isinstance(value, _ONE)
        values: list[Any] = list(value) if is_list else [value]  # type: ignore[arg-type]
        if not is_fact_name(name) or not all(map(_is_fact_value, values)):
            raise InputError(
                f"a filter must be a fact's name with a text, a whole number or a list of these, "
                f"not {name!r}: {value!r}"
            )
        checked[composed(name)] = [
            str(one).lower() if isinstance(one, bool) else composed(_text_of(one)) for one in values
        ]
    return checked


def _text_of(value: str | int) -> str:
    """A member of an Enum that is a text, or a number, is what it is worth."""
    return str.__str__(value) if isinstance(value, str) else str(int(value))


def composed(text: str) -> str:
    """As facts are kept and asked for: one letter has several forms in Unicode (NFC)."""
    return unicodedata.normalize("NFC", text)


def is_fact_name(name: object) -> bool:
    """Whether a shard can be asked for a fact of that name: it has no way to write `"` and `\\` in one."""
    return isinstance(name, str) and name != "" and not set('"\\') & set(name) and is_utf8(name)


def _is_fact_value(value: object) -> bool:
    return isinstance(value, int | np.integer) or (isinstance(value, str) and is_utf8(value))
