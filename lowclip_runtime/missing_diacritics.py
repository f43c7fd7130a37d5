"""Azerbaijani typed with none or some of its letters, read as if typed with all: qirmizi maşin → qırmızı maşın.

The words come from the lists of `word_list.py`.
"""

import re
from collections.abc import Mapping

from lowclip_runtime.diacritics import AZERBAIJANI_LETTERS, without_diacritics
from lowclip_runtime.word_list import Line, azerbaijani, is_english

_WORD = re.compile(r"[^\W\d_]+")


def restore_diacritics(text: str) -> str:
    """`text`, in small letters, with the letters that its Azerbaijani words would have been typed with.

    It is left as it is where every word of it may be meant as it is typed, or where no more words are Azerbaijani alone
    than are English alone.
    """
    typed = set(_WORD.findall(text))
    lines = {word: line for word in typed if (line := azerbaijani(without_diacritics(word)))}
    restored = _of_some_letters(text, lines) if AZERBAIJANI_LETTERS.search(text) else _of_no_letters(lines)
    if not restored or not _is_azerbaijani(typed, lines):
        return text
    return _WORD.sub(lambda match: restored.get(match[0], match[0]), text)


def _is_azerbaijani(typed: set[str], lines: Mapping[str, Line]) -> bool:
    english = {word for word in typed if is_english(word)}
    return len(lines.keys() - english) > len(english - lines.keys())


def _of_no_letters(lines: Mapping[str, Line]) -> dict[str, str]:
    """All words of a text without diacritics, where one of them can only have been typed without."""
    if all(line.meant == word or word in line.others for word, line in lines.items()):
        return {}
    return {word: line.meant for word, line in lines.items()}


def _of_some_letters(text: str, lines: Mapping[str, Line]) -> dict[str, str]:
    """Words of a text with some diacritics that lack others, and cannot be meant as they are typed, as səhər can.

    Those that can, follow where the text lacks throughout what they lack, as far as the others tell: in gozel gor ağ,
    gor is gör.
    """
    lacking = {word: line.meant for word, line in lines.items() if lacks_letters_of(line.meant, word)}
    surely = {word for word in lacking if word not in lines[word].others and not is_english(word)}
    missing = {letter for word in surely for letter in _gained(word, lacking[word])} - set(text)
    return {
        word: meant for word, meant in lacking.items() if word in surely or _gained(word, meant) <= missing
    }


def lacks_letters_of(meant: str, word: str) -> bool:
    """Whether `word`, of as many letters, is `meant` but for diacritics, and no diacritic is another's or too many."""
    return word != meant and all(
        typed in (letter, without_diacritics(letter)) for typed, letter in zip(word, meant, strict=True)
    )


def _gained(word: str, meant: str) -> set[str]:
    return {letter for typed, letter in zip(word, meant, strict=True) if typed != letter}
