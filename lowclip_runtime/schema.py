"""Strict conversion between frozen dataclasses and JSON: the reader behind every manifest, spec and config.

Unknown keys, missing keys and wrong types are all reported at once, each with its dotted place and, for a
misspelt key, the likely one. Value rules (ranges, choices) belong to the dataclasses: a `ValueError` raised
by a `__post_init__` is reported at the place of that dataclass.
"""

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from lowclip_runtime.errors import ConfigError

T = TypeVar("T")


def from_dict(cls: type[T], data: object, where: str) -> T:
    """Build dataclass `cls` from parsed JSON or TOML; `where` names the file in the error message.

    Raises:
        ConfigError: with every problem found, not only the first.
    """
    problems: list[str] = []
    value = _convert(cls, data, "", problems)
    if problems:
        raise ConfigError(f"{where}: " + "; ".join(problems))
    return typing.cast(T, value)


def to_dict(value: Any) -> Any:
    """Dataclasses, tuples and paths → plain JSON values; the inverse of `from_dict`."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_dict(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {key: to_dict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_dict(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def dumps(value: Any) -> str:
    """The one JSON style of our manifests: UTF-8, two-space indent, a final newline."""
    return json.dumps(to_dict(value), ensure_ascii=False, indent=2, allow_nan=False) + "\n"


def _convert(kind: Any, data: object, place: str, problems: list[str]) -> Any:
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return _convert_dataclass(kind, data, place, problems)
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return _convert_optional(arguments, data, place, problems)
    if origin is typing.Literal:
        return _check(data in arguments, data, f"one of {', '.join(map(repr, arguments))}", place, problems)
    if origin is tuple:
        return _convert_tuple(arguments, data, place, problems)
    if origin is dict:
        return _convert_mapping(arguments[1], data, place, problems)
    if kind is Any:
        return data
    if kind is float and isinstance(data, int) and not isinstance(data, bool):
        try:
            return float(data)
        except OverflowError:
            return _check(False, data, "a number of at most 1e308", place, problems)
    right_type = isinstance(data, kind) and not (isinstance(data, bool) and kind is not bool)
    return _check(right_type, data, _type_name(kind), place, problems)


def _convert_dataclass(kind: type, data: object, place: str, problems: list[str]) -> Any:
    if not isinstance(data, Mapping):
        return _check(False, data, "a table of keys", place, problems)
    fields = {f.name: f for f in dataclasses.fields(kind)}
    hints = typing.get_type_hints(kind)
    for key in data:
        if key not in fields:
            problems.append(_unknown_key(str(key), list(fields), place))
    before = len(problems)  # an unknown key hides no wrong value
    values = {}
    for name, field in fields.items():
        here = f"{place}.{name}" if place else name
        if name in data:
            values[name] = _convert(hints[name], data[name], here, problems)
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            problems.append(f"missing key {here!r}")
    if len(problems) > before:
        return None
    try:
        return kind(**values)
    except ValueError as error:
        problems.append(f"{place}: {error}" if place else str(error))
        return None


def _convert_optional(arguments: tuple[Any, ...], data: object, place: str, problems: list[str]) -> Any:
    if data is None and type(None) in arguments:
        return None
    rest = [kind for kind in arguments if kind is not type(None)]
    assert len(rest) == 1, "schema supports only `X | None` unions"
    return _convert(rest[0], data, place, problems)


def _convert_tuple(arguments: tuple[Any, ...], data: object, place: str, problems: list[str]) -> Any:
    if not isinstance(data, list | tuple):
        return _check(False, data, "a list", place, problems)
    if arguments[-1] is Ellipsis:
        kinds = [arguments[0]] * len(data)
    else:
        kinds = list(arguments)
        if len(kinds) != len(data):
            return _check(False, data, f"a list of {len(kinds)}", place, problems)
    pairs = zip(kinds, data, strict=True)
    return tuple(_convert(kind, item, f"{place}[{i}]", problems) for i, (kind, item) in enumerate(pairs))


def _convert_mapping(kind: Any, data: object, place: str, problems: list[str]) -> Any:
    if not isinstance(data, Mapping):
        return _check(False, data, "a table of keys", place, problems)
    return {str(key): _convert(kind, item, f"{place}.{key}", problems) for key, item in data.items()}


def _check(right: bool, data: object, expected: str, place: str, problems: list[str]) -> object:
    if not right:
        problems.append(f"{place or 'top level'} must be {expected}, not {_shown(data)}")
    return data


def _unknown_key(key: str, known: list[str], place: str) -> str:
    import difflib  # which a manifest without mistakes does not need

    here = f"{place}.{key}" if place else key
    close = difflib.get_close_matches(key, known, n=1)
    return f"unknown key {here!r}" + (f" (did you mean {close[0]!r}?)" if close else "")


def _type_name(kind: type) -> str:
    names: dict[type, str] = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}
    return names.get(kind, kind.__name__)


def _shown(data: object) -> str:
    text = repr(data)
    return text if len(text) <= 60 else text[:57] + "..."
