"""The lists of words that queries are read by: which Azerbaijani word is meant by what was typed, and what is English.

`words/azerbaijani.words` has one line for each way to type words on a foreign keyboard, in the order of that: the word
that is meant, the likeliest where several are typed alike, `?` where what is typed may be meant too (gor is a grave,
gör means see), and after it the others that may be meant: şəhər is a town, səhər the morning. `words/english.words`
says which words are English. `lowclip_train/word_lists.py` makes both.
"""

from functools import cache, lru_cache
from pathlib import Path
from typing import NamedTuple

from lowclip_runtime.diacritics import without_diacritics
from lowclip_runtime.packed_lines import PackedLines

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
    """The line of a list, by its name, of the words that are typed so."""
    return lines_of(_WORDS / f"{name}.words").get(typed)


def typed_as(line: str) -> str:
    """How the words of a line of either list are typed without diacritics, which the lines are in the order of."""
    return without_diacritics(line.partition(" ")[0]).rstrip(_ALSO_AS_TYPED)


@cache
def lines_of(path: Path) -> PackedLines:
    """The lines of the file of a list."""
    return PackedLines(path, typed_as)
