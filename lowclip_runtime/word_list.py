"""The lists of words that queries are read by: which Azerbaijani word is meant by what was typed, and what is English.

`words/azerbaijani.txt.xz` has one line for each word as it is typed on a foreign keyboard, in the order of that: the
word that is meant, the likeliest where several are typed alike, and `?` where what is typed may be meant too: bez is
cloth, bəz none. `words/english.txt.xz` says which words are English. `lowclip_train/word_lists.py` makes both.
"""

from functools import cache, lru_cache
from pathlib import Path

from lowclip_runtime.diacritics import without_diacritics

ALSO_AS_TYPED = "?"
_WORDS = Path(__file__).parent / "words"


@lru_cache(4096)
def line_of(name: str, typed: str) -> str | None:
    """The line of the word that is typed so, by halves: all lines as Python objects would take ten times the memory."""
    words = _read(name)
    wanted = typed.encode("utf-8")
    low, high = 0, len(words)  # where lines begin
    while low < high:
        start = words.rfind(b"\n", low, (low + high) // 2) + 1 or low
        end = words.index(b"\n", start)
        line = words[start:end].decode("utf-8")
        found = without_diacritics(line).rstrip(ALSO_AS_TYPED).encode("utf-8")
        if found == wanted:
            return line
        if found < wanted:
            low = end + 1
        else:
            high = start
    return None


@cache
def _read(name: str) -> bytes:
    import lzma  # only the first query needs it

    return lzma.decompress((_WORDS / f"{name}.txt.xz").read_bytes())
