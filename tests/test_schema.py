"""The strict reader behind every manifest: what it accepts, what it refuses and how it says so."""

import json
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from lowclip_runtime.errors import ConfigError
from lowclip_runtime.schema import dumps, from_dict, to_dict
from lowclip_runtime.spec import PreprocessSpec, TextSpec


@dataclass(frozen=True, kw_only=True)
class Inner:
    size_px: int
    ratio: float = 0.5

    def __post_init__(self) -> None:
        if self.size_px < 1:
            raise ValueError(f"size_px must be 1 or more, not {self.size_px}")


@dataclass(frozen=True, kw_only=True)
class Outer:
    name: str
    inner: Inner
    mode: Literal["fast", "slow"] = "fast"
    limit: int | None = None
    point: tuple[float, float] = (0.0, 0.0)
    names: tuple[str, ...] = ()
    parts: dict[str, Inner] = field(default_factory=dict)
    anything: dict[str, Any] = field(default_factory=dict)
    flag: bool = False


FULL = {
    "name": "a",
    "inner": {"size_px": 3, "ratio": 2},
    "mode": "slow",
    "limit": 5,
    "point": [1, 2.5],
    "names": ["x", "y"],
    "parts": {"p": {"size_px": 1, "ratio": 1.0}},
    "anything": {"deep": [1, {"er": None}]},
    "flag": True,
}


def test_json_and_back() -> None:
    value = from_dict(Outer, FULL, "f.json")
    assert value.inner == Inner(size_px=3, ratio=2.0)
    assert isinstance(value.inner.ratio, float)
    assert value.parts["p"] == Inner(size_px=1, ratio=1.0)
    assert to_dict(value) == FULL
    assert from_dict(Outer, json.loads(dumps(value)), "f.json") == value


def test_defaults_fill_what_is_left_out() -> None:
    assert from_dict(Outer, {"name": "a", "inner": {"size_px": 1}}, "f") == Outer(
        name="a", inner=Inner(size_px=1)
    )


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"nmae": "b"}, "unknown key 'nmae' (did you mean 'name'?)"),
        ({"zzz": 1}, "unknown key 'zzz'"),
        ({"inner": {"size_px": 1, "rato": 1}}, "unknown key 'inner.rato' (did you mean 'ratio'?)"),
        ({"inner": {}}, "missing key 'inner.size_px'"),
        ({"inner": 3}, "inner must be a table of keys, not 3"),
        ({"inner": {"size_px": 0}}, "inner: size_px must be 1 or more, not 0"),
        ({"inner": {"size_px": True}}, "inner.size_px must be a whole number, not True"),
        ({"inner": {"size_px": 1.5}}, "inner.size_px must be a whole number, not 1.5"),
        ({"inner": {"size_px": 1, "ratio": "x"}}, "inner.ratio must be a number, not 'x'"),
        ({"name": None}, "name must be text, not None"),
        ({"mode": "medium"}, "mode must be one of 'fast', 'slow', not 'medium'"),
        ({"limit": "5"}, "limit must be a whole number, not '5'"),
        ({"point": [1]}, "point must be a list of 2, not [1]"),
        ({"point": 1}, "point must be a list, not 1"),
        ({"names": ["x", 2]}, "names[1] must be text, not 2"),
        ({"parts": {"p": {"size_px": -1}}}, "parts.p: size_px must be 1 or more, not -1"),
        ({"parts": []}, "parts must be a table of keys, not []"),
        ({"flag": 1}, "flag must be true or false, not 1"),
    ],
)
def test_a_wrong_value_is_named_by_its_place(change: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_dict(Outer, {**FULL, **change}, "f.json")
    assert str(caught.value) == f"f.json: {problem}"


def test_all_problems_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        from_dict(Outer, {"nmae": "a", "inner": {"size_px": "1"}, "mode": "x"}, "f.json")
    for problem in ("'nmae'", "missing key 'name'", "inner.size_px must be", "mode must be"):
        assert problem in str(caught.value)


def test_a_misspelt_key_hides_no_wrong_value() -> None:
    with pytest.raises(ConfigError) as caught:
        from_dict(Outer, {**FULL, "inner": {"size_px": 0, "rato": 1}}, "f.json")
    assert str(caught.value) == (
        "f.json: unknown key 'inner.rato' (did you mean 'ratio'?); inner: size_px must be 1 or more, not 0"
    )


def test_none_is_only_for_what_may_be_none() -> None:
    assert from_dict(Outer, {**FULL, "limit": None}, "f").limit is None


def test_not_a_number_is_not_written() -> None:
    with pytest.raises(ValueError, match="JSON"):
        dumps(Inner(size_px=1, ratio=float("nan")))


def test_text_is_written_as_itself() -> None:
    assert '"qırmızı"' in dumps({"a": "qırmızı"})


@pytest.mark.parametrize(
    ("data", "named"),
    [
        ({"size_px": 0}, ["size_px"]),
        ({"crop_pct": 0.875}, ["crop_pct", "squash"]),
        ({"resize_mode": "shortest", "crop_pct": 0.0}, ["crop_pct"]),
        ({"std": [0.5, 0.0, 0.5], "decode_scale": 9}, ["std", "decode_scale"]),
    ],
)
def test_preprocess_spec_checks_its_values(data: dict[str, Any], named: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        from_dict(PreprocessSpec, data, "spec")
    for name in named:
        assert name in str(caught.value)


def test_text_spec_checks_its_values() -> None:
    with pytest.raises(ConfigError, match=r"max_tokens.*pad_token_id"):
        from_dict(TextSpec, {"max_tokens": 2, "pad_token_id": -1}, "spec")
