"""Capitals written by software and keyboards that know no İ, read as if written with it: DƏNIZ → DƏNİZ.

The words come from the lists of `word_list.py`; lowering is `text.py`'s work.
"""

import re

from lowclip_runtime.diacritics import AZERBAIJANI_LETTERS, without_diacritics
from lowclip_runtime.word_list import azerbaijani

_WORD = re.compile(r"[^\W\d_]+")
_DOTLESS = str.maketrans("Ii", "ıı")
_FRONT_VOWELS = "eəiöü"
_VOWELS = _FRONT_VOWELS + "aıou"


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
    line = azerbaijani(without_diacritics(small))
    known = line.meant if line else ""
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
