"""Azerbaijani letters spelled by those of a foreign keyboard, read as themselves: ushaq and uwaq → uşaq, 4ay → çay.

The words come from the lists of `word_list.py`; what is left out altogether is `missing_diacritics.py`'s work.
"""

import re

from lowclip_runtime.diacritics import without_diacritics
from lowclip_runtime.missing_diacritics import lacks_letters_of
from lowclip_runtime.word_list import azerbaijani, is_english

_SPELLINGS = {"sh": "ş", "ch": "ç", "gh": "ğ", "kh": "x", "w": "ş", "4": "ç", "ä": "ə"}
_SPELLED = re.compile(r"[scgk]h|[wä]|4(?=[^\W\d_])")
_LETTER = r"[^\W\d_]"
_WORD = re.compile(rf"(?:{_LETTER}|(?:(?<!\S)|(?<={_LETTER}))4(?={_LETTER}))+")


def read_spelled_letters(text: str) -> str:
    """`text`, in small letters, with one letter for each that is spelled in words that are Azerbaijani only so.

    It is left as it is where no more words are Azerbaijani alone, those among them, than are English alone.
    """
    if not _SPELLED.search(text):
        return text
    typed = set(_WORD.findall(text))
    listed = {word for word in typed if azerbaijani(without_diacritics(word))}
    english = {word for word in typed if is_english(word)}
    read = {word: meant for word in typed - listed - english if (meant := _meant(word))}
    if not read or len(listed - english) + len(read) <= len(english - listed):
        return text
    return _WORD.sub(lambda match: read.get(match[0], match[0]), text)


def _meant(word: str) -> str | None:
    """The word of the list that `word` spells, some of whose diacritics may be missing; None where there is none."""
    single = _SPELLED.sub(lambda match: _SPELLINGS[match[0]], word)
    if single == word or len(single) < 2 or (len(word) < 3 and "w" in word):  # wi is no şi
        return None
    line = azerbaijani(without_diacritics(single))
    if line and (single == line.meant or single in line.others):
        return single
    return line.meant if line and lacks_letters_of(line.meant, single) else None
