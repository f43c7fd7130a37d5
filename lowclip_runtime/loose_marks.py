"""Marks that touch words, and letters drawn out in them, taken off: #it_qaçır → it qaçır, gözəəəl → gözəl."""

import re

from lowclip_runtime.diacritics import without_diacritics
from lowclip_runtime.word_list import azerbaijani, is_english

_LETTER = r"[^\W\d_]"
_PICTURES = "\u2300-\u23ff\u2600-\u27bf\u2b00-\u2bff\U0001f000-\U0001faff"
_ANY = re.compile(f"[#_/{_PICTURES}]")
_LOOSE = re.compile(f"#+(?={_LETTER})|(?<={_LETTER})[_/]+(?={_LETTER})")
_TOUCHING = re.compile(f"(?<={_LETTER})(?=[{_PICTURES}])|(?<=[{_PICTURES}])(?={_LETTER})")
_WORD = re.compile(f"{_LETTER}+")
_DRAWN_OUT = re.compile(r"([a-zəğışçöü])\1\1+")
_ROMAN = re.compile("m*(cm|cd|d?c*)(xc|xl|l?x*)(ix|iv|v?i*)")


def without_loose_marks(text: str) -> str:
    """`text` with a space for # before a letter and for _ and / between letters, and one between letter and emoji."""
    if not _ANY.search(text):
        return text
    return _TOUCHING.sub(" ", _LOOSE.sub(" ", text))


def without_drawn_out_letters(text: str) -> str:
    """`text`, in small letters, with one letter for three or more alike in a row: gözəəəl → gözəl.

    It is two where only that makes a word of the lists: loooking → looking. Roman numerals stay, and words of one
    letter alone, such as www.
    """
    if not _DRAWN_OUT.search(text):
        return text
    return _WORD.sub(lambda match: _shortened(match[0]), text)


def _shortened(word: str) -> str:
    if _ROMAN.fullmatch(word.replace("ı", "i")) or len(set(word)) == 1:
        return word
    single, double = _DRAWN_OUT.sub(r"\1", word), _DRAWN_OUT.sub(r"\1\1", word)
    return double if _is_listed(double) and not _is_listed(single) else single


def _is_listed(word: str) -> bool:
    return azerbaijani(without_diacritics(word)) is not None or is_english(word)
