"""Sorted lines of text in a small file, and the one that is asked for found without unpacking all of them.

Lines are packed some hundreds together, each without what it shares with the one before it (front coding). A process
holds the packed file and a few unpacked blocks: of 1.6 MB of words a fifth.
"""

import itertools
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

_LINES = 512  # of a block: MEASURED 0.2 ms to unpack, and as small as all words of a list in one piece
_BLOCKS = 16  # that stay unpacked
_NONE, _MOST_SHARED = ord("0"), 48  # letters, told by one letter from 0 to `
_SIZE_BYTES = 4  # of a number, the lowest byte first


class PackedLines:
    """The lines of a file, whose content `pack` made.

    Args:
        key: of a line; the lines are in the order of it, and no two have the same.
    """

    def __init__(self, path: Path, key: Callable[[str], str]) -> None:
        self._key = key
        self._data = path.read_bytes()
        self._places: list[slice] = []
        self._first: list[str] = []  # key of each block
        at = 0
        while at < len(self._data):
            sizes = self._data[at : at + 2 * _SIZE_BYTES]
            first, block = (int.from_bytes(sizes[i : i + _SIZE_BYTES], "little") for i in (0, _SIZE_BYTES))
            at += 2 * _SIZE_BYTES
            self._first.append(self._data[at : at + first].decode("utf-8"))
            self._places.append(slice(at + first, at + first + block))
            at += first + block
        self._block = lru_cache(_BLOCKS)(self._unpacked)

    def __iter__(self) -> Iterator[str]:
        for number in range(len(self._places)):
            yield from self._unpacked(number)

    def get(self, key: str) -> str | None:
        """The line with this key, None where there is none."""
        number = bisect_right(self._first, key) - 1
        if number < 0:
            return None
        block = self._block(number)
        place = bisect_left(block, key, key=self._key)
        return block[place] if place < len(block) and self._key(block[place]) == key else None

    def _unpacked(self, number: int) -> list[str]:
        coded = zlib.decompress(self._data[self._places[number]], -zlib.MAX_WBITS).decode("utf-8")
        lines = itertools.accumulate(
            coded.split("\n"), lambda last, line: last[: ord(line[0]) - _NONE] + line[1:], initial=""
        )
        return list(lines)[1:]


def pack(lines: Sequence[str], key: Callable[[str], str]) -> bytes:
    """The content of a file of `lines`, which are in the order of `key`: the same bytes for the same lines."""
    packed = b""
    for start in range(0, len(lines), _LINES):
        some = lines[start : start + _LINES]
        coded = "\n".join(_front_coded(before, line) for before, line in itertools.pairwise(["", *some]))
        block = zlib.compress(coded.encode("utf-8"), 9, wbits=-zlib.MAX_WBITS)
        first = key(some[0]).encode("utf-8")
        packed += (
            b"".join(len(part).to_bytes(_SIZE_BYTES, "little") for part in (first, block)) + first + block
        )
    return packed


def _front_coded(before: str, line: str) -> str:
    alike = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(before, line, strict=False))
    shared = min(sum(1 for _ in alike), _MOST_SHARED)
    return chr(_NONE + shared) + line[shared:]
