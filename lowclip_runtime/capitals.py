"""Capitals written by software and keyboards that know no İ, read as if written with it: DƏNIZ → DƏNİZ.

The words come from the lists of `word_list.py`; lowering is `text.py`'s work.
"""

import re

from lowclip_runtime.diacritics import AZERBAIJANI_LETTERS, without_diacritics
from lowclip_runtime.word_list import azerbaijani, is_english

_WORD = re.compile(r"[^\W\d_]+")
_AS_WRITTEN = str.maketrans("Iİ", "ıi")
_DOTTED = str.maketrans("Iİ", "ii")
_DOTLESS = str.maketrans("i", "ı")
_FRONT_VOWELS = "eəiöü"
_BACK_VOWELS = "aıou"
_VOWELS = _FRONT_VOWELS + _BACK_VOWELS


def dotted_capitals(text: str) -> str:
    """`text` with İ for each I that stands for one: DƏNIZ, as software and foreign keyboards write it, → DƏNİZ.

    English words get it, too, as the text is lowered by Azerbaijani rules. Else the word's letters in the list decide,
    or else vowel harmony. Where the text holds İ as well, a word stays as it is unless the list alone knows better: who
    writes İ tells the two apart, but software makes İKI IT of İki it. A text without a letter that only Azerbaijani has
    is left as it is, as it may be English.
    """
    if "I" not in text or not AZERBAIJANI_LETTERS.search(text):
        return text
    tells_apart = "İ" in text
    return _WORD.sub(lambda match: _dotted(match[0], tells_apart) if "I" in match[0] else match[0], text)


def _dotted(word: str, tells_apart: bool) -> str:
    small = word.translate(_AS_WRITTEN).lower()
    line = azerbaijani(without_diacritics(small))
    is_word = line is not None and len(word) > 1 and (small == line.meant or small in line.others)
    if not is_word and is_english(word.translate(_DOTTED).lower()):
        return word.replace("I", "İ")
    if line is not None and line.meant.translate(_DOTLESS) == small.translate(_DOTLESS):
        meant = small if tells_apart and is_word else line.meant
    elif tells_apart:
        return word
    else:  # not in the list, or other letters are meant there
        meant = _harmonious(small, [place for place, letter in enumerate(word) if letter == "I"])
    return "".join("İ" if was == "I" and now == "i" else was for was, now in zip(word, meant, strict=True))


def _harmonious(word: str, places: list[int]) -> str:
    """`word` with i for ı at those places where the vowel before it, or else the one after it, is a front one.

    The first letter is i as well where no back vowel follows: few words begin with ı.
    """
    letters = list(word)
    for place in places:
        before = [letter for letter in letters[:place] if letter in _VOWELS]
        after = [letter for letter in letters[place + 1 :] if letter in _VOWELS and letter != "ı"]
        if (before[-1:] or after[:1] or ["ı"])[0] in _FRONT_VOWELS:
            letters[place] = "i"
    if 0 in places and not any(letter in _BACK_VOWELS for letter in letters[1:]):
        letters[0] = "i"
    return "".join(letters)
