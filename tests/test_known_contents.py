"""`KnownContents` against a plain dictionary, below and above the number that it puts in order at a time."""

import hashlib
import uuid
from collections import defaultdict

import numpy as np
import pytest

from lowclip_runtime.known_contents import _RECENT, KnownContents
from lowclip_runtime.photo_record import record_id


def sha256(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


@pytest.mark.parametrize("count", [0, 1, 100, _RECENT - 1, _RECENT, 2 * _RECENT + 300])
def test_all_photos_of_a_content_are_found(count: int) -> None:
    contents, expected = KnownContents(), defaultdict(set)
    numbers = np.random.default_rng(0).integers(0, max(1, count // 2), count)
    for i, number in enumerate(numbers):
        contents.add(sha256(number), record_id(f"/{i}"))
        expected[sha256(number)].add(record_id(f"/{i}"))
    asked = [sha256(number) for number in (*numbers[:300], *numbers[-300:])]
    assert [set(contents.ids(one, 1000)) for one in asked] == [expected[one] for one in asked]
    assert contents.ids(sha256(-1), 10) == []


def test_a_photo_that_is_told_twice_is_there_once_and_no_more_than_asked_for_come() -> None:
    contents = KnownContents()
    for i in range(_RECENT + 20):
        contents.add(sha256(1), record_id(f"/{i % 50}"))
    assert len(contents.ids(sha256(1), 16)) <= 16
    contents = KnownContents()
    for i in range(100):
        contents.add(sha256(1), record_id(f"/{i % 2}"))
    assert sorted(contents.ids(sha256(1), 16)) == sorted({record_id("/0"), record_id("/1")})


def test_many_photos_of_one_content_are_not_all_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    contents, made = KnownContents(), []
    for number in range(3000):
        contents.add("same", str(uuid.UUID(int=number)))
    real = uuid.UUID

    def counted(**given: bytes) -> uuid.UUID:
        made.append(given)
        return real(**given)

    monkeypatch.setattr("lowclip_runtime.known_contents.uuid.UUID", counted)
    assert contents.ids("same", 16) == [str(real(int=number)) for number in range(16)]
    assert len(made) == 16
