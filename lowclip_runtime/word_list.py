"""The lists of words that queries are read by: which Azerbaijani word is meant by what was typed, and what is English.

`words/azerbaijani.txt.xz` has one line for each way to type words on a foreign keyboard, in the order of that: the word
that is meant, the likeliest where several are typed alike, `?` where what is typed may be meant too (gor is a grave,
gör means see), and after it the others that may be meant: şəhər is a town, səhər the morning. `words/english.txt.xz`
says which words are English. `lowclip_train/word_lists.py` makes both.
"""

from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

from lowclip_runtime.diacritics import without_diacritics

_ALSO_AS_TYPED = "?"
_WORDS = Path(__file__).parent / "words"


class Line(NamedTuple):
    """The words that are typed alike without diacritics: the one that is meant, and others that may be."""

    meant: str
    others: tuple[str, ...]


@lru_cache(4096)
def azerbaijani(typed: str) -> Line | None:
    """What is meant by a word that was `typed` without diacritics; None where it is no Azerbaijani."""
    line = line_of("azerbaijani", typed)
    if line is None:
        return None
    first, *others = line.split(" ")
    if first.endswith(_ALSO_AS_TYPED):
        others.append(typed)
    return Line(first.rstrip(_ALSO_AS_TYPED), tuple(others))


@lru_cache(4096)
def is_english(word: str) -> bool:
    """Whether `word`, in small letters, is in the texts that the list of English words was made from."""
    return line_of("english", word) is not None


def line_of(name: str, typed: str) -> str | None:
    """The line of the word that is typed so, by halves: all lines as Python objects would take ten times the memory."""
    words = _read(name)
    wanted = typed.encode("utf-8")
    low, high = 0, len(words)  # where lines begin
    while low < high:
        start = words.rfind(b"\n", low, (low + high) // 2) + 1 or low
        end = words.index(b"\n", start)
        line = words[start:end].decode("utf-8")
        found = typed_as(line).encode("utf-8")
        if found == wanted:
            return line
        if found < wanted:
            low = end + 1
        else:
            high = start
    return None


def typed_as(line: str) -> str:
    """How the words of a line of either list are typed without diacritics, which the lines are in the order of."""
    return without_diacritics(line.partition(" ")[0]).rstrip(_ALSO_AS_TYPED)


@cache
def _read(name: str) -> bytes:
    import lzma  # only the first query needs it

    return lzma.decompress((_WORDS / f"{name}.txt.xz").read_bytes())
