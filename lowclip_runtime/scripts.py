"""Words that mix Latin and Cyrillic letters which look alike, in one script: mаşın with a Cyrillic а → maşın.

Which Cyrillic letters Azerbaijani has is told by `text.py`, which writes them in Latin afterwards.
"""

import re
from collections.abc import Container

_CYRILLIC = re.compile("[\u0400-\u04ff]")
_WORD = re.compile(r"[^\W\d_]+")
_LATIN_ALIKE, _CYRILLIC_ALIKE = "aeocpxyjəh", "аеосрхујәһ"
_TO_LATIN = str.maketrans(_CYRILLIC_ALIKE, _LATIN_ALIKE)
_TO_CYRILLIC = str.maketrans(_LATIN_ALIKE, _CYRILLIC_ALIKE)
_LATIN = frozenset("abcdefghijklmnopqrstuvwxyzəğışçöü")
# i says nothing of the script: Cyrillic і, which Azerbaijani never had, stands for it, and it for и
_ALIKE = frozenset(_LATIN_ALIKE + _CYRILLIC_ALIKE + "i")
_MUTE = re.compile(r"(?<=[^\W\d_])[ьъ]")


def in_one_script(text: str, cyrillic: Container[str]) -> str:
    """`text`, in small letters, without words of two scripts, where `cyrillic` are the letters that Azerbaijani had.

    The script with more letters that only it has wins, or else the one with more letters. ь and ъ are left out, as in
    today's spelling: фильм is film.
    """
    if not _CYRILLIC.search(text):
        return text
    return _WORD.sub(lambda match: _unmixed(match[0], cyrillic), _MUTE.sub("", text).replace("і", "i"))


def _unmixed(word: str, cyrillic: Container[str]) -> str:
    latins = [letter for letter in word if letter in _LATIN]
    cyrillics = [letter for letter in word if letter in cyrillic]
    if not latins or not cyrillics:
        return word
    return word.translate(_TO_LATIN if _weight(latins) >= _weight(cyrillics) else _TO_CYRILLIC)


def _weight(letters: list[str]) -> tuple[int, int]:
    return sum(letter not in _ALIKE for letter in letters), len(letters)
