"""Azerbaijani typed without its letters, read as if typed with them: qirmizi masin → qırmızı maşın.

`words/azerbaijani.txt.gz` has one line for each word as it is typed on a foreign keyboard, in the order of that: the
word that is meant, the likeliest where several are typed alike, and `?` where what is typed may be meant too: bez is
cloth, bəz none. `words/english.txt.gz` says which words are English. `lowclip_train/word_lists.py` makes both.
"""

import gzip
import re
from functools import cache, lru_cache
from pathlib import Path

AZERBAIJANI_LETTERS = re.compile("[əğışçöüƏĞİŞÇÖÜ]")
_NO_DIACRITICS = str.maketrans("əğışçöüƏĞİŞÇÖÜ", "egiscouEGISCOU")
_WORD = re.compile(r"[^\W\d_]+")
_ALSO_AS_TYPED = "?"
_DOTLESS = str.maketrans("Ii", "ıı")
_FRONT_VOWELS = "eəiöü"
_VOWELS = _FRONT_VOWELS + "aıou"
_WORDS = Path(__file__).parent / "words"


def without_diacritics(text: str) -> str:
    """Azerbaijani as it is typed on a foreign keyboard: qırmızı maşın → qirmizi masin."""
    return text.translate(_NO_DIACRITICS)


def restore_diacritics(text: str) -> str:
    """`text`, in small letters, with the letters that its Azerbaijani words would have been typed with.

    It is left as it is where it holds a letter that only Azerbaijani has, where no word of it can only have been typed
    without diacritics, or where no more words are Azerbaijani alone than are English alone.
    """
    if AZERBAIJANI_LETTERS.search(text):
        return text
    typed = set(_WORD.findall(text))
    lines = {word: line for word in typed if (line := _line_of("azerbaijani", word))}
    if all(line == word or line.endswith(_ALSO_AS_TYPED) for word, line in lines.items()):
        return text
    english = {word for word in typed if _line_of("english", word)}
    if len(lines.keys() - english) <= len(english - lines.keys()):
        return text
    return _WORD.sub(lambda match: lines.get(match[0], match[0]).rstrip(_ALSO_AS_TYPED), text)


def dotted_capitals(text: str) -> str:
    """`text` with İ for each I that stands for one: DƏNIZ, as software and foreign keyboards write it, → DƏNİZ.

    The word's letters in the list decide, or else vowel harmony. `text` is left as it is where it holds İ, as whoever
    wrote it tells the two apart, or no letter that only Azerbaijani has, as it may be English.
    """
    if "I" not in text or "İ" in text or not AZERBAIJANI_LETTERS.search(text):
        return text
    return _WORD.sub(lambda match: _dotted(match[0]) if "I" in match[0] else match[0], text)


def _dotted(word: str) -> str:
    small = word.translate(_DOTLESS).lower()
    known = (_line_of("azerbaijani", without_diacritics(small)) or "").rstrip(_ALSO_AS_TYPED)
    if known.translate(_DOTLESS) != small.translate(
        _DOTLESS
    ):  # not in the list, or other letters are meant there
        known = _harmonious(small, [place for place, letter in enumerate(word) if letter == "I"])
    return "".join(
        "İ" if was == "I" and meant == "i" else was for was, meant in zip(word, known, strict=True)
    )


def _harmonious(word: str, places: list[int]) -> str:
    """`word` with i for ı at those places where the vowel before it, or else the one after it, is a front one."""
    letters = list(word)
    for place in places:
        before = [letter for letter in letters[:place] if letter in _VOWELS]
        after = [letter for letter in letters[place + 1 :] if letter in _VOWELS and letter != "ı"]
        if (before[-1:] or after[:1] or ["ı"])[0] in _FRONT_VOWELS:
            letters[place] = "i"
    return "".join(letters)


@lru_cache(4096)
def _line_of(name: str, typed: str) -> str | None:
    """The line of the word that is typed so, by halves: all lines as Python objects would take ten times the memory."""
    words = _read(name)
    wanted = typed.encode("utf-8")
    low, high = 0, len(words)  # where lines begin
    while low < high:
        start = words.rfind(b"\n", low, (low + high) // 2) + 1 or low
        end = words.index(b"\n", start)
        line = words[start:end].decode("utf-8")
        found = without_diacritics(line).rstrip(_ALSO_AS_TYPED).encode("utf-8")
        if found == wanted:
            return line
        if found < wanted:
            low = end + 1
        else:
            high = start
    return None


@cache
def _read(name: str) -> bytes:
    return gzip.decompress((_WORDS / f"{name}.txt.gz").read_bytes())
