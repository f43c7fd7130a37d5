"""Marks that touch words, and letters drawn out in them, taken off: #it_qaçır, "pişik". → it qaçır, pişik.

Tokenizers know words by the blank before them, and a name with marks is another one. MEASURED with the shipped model
and 1,493 drawings by a vendor never trained on, found by name in ten in 0.904: 0.589 with quotation marks, 0.610 with
brackets, 0.816 with a full stop, of names of two words 0.905, 0.615 with a comma for the blank. Sentences, which are
learned with their full stops, keep them: mAP 0.348 of captions of Flickr8k's val split, 0.341 without.
"""

import re

from lowclip_runtime.diacritics import without_diacritics
from lowclip_runtime.word_list import azerbaijani, is_english

_LETTER = r"[^\W\d_]"
PICTURES = "\u2300-\u23ff\u2600-\u27bf\u2b00-\u2bff\U0001f000-\U0001faff"
_LOOSE = re.compile(
    rf"""["()\[\]{{}}]|(?<![\w-])'|'(?![\w-])"""  # an apostrophe has a letter, digit or hyphen on both sides
    # each run of marks from its first one on: else it is looked through as often as it has marks
    rf"|(?<!#)#+(?={_LETTER})|(?<={_LETTER})[_/]+(?={_LETTER})|(?<![\d+&|\\,;:])[+&|\\,;:]+(?={_LETTER})"
)
_WITH_ENDING = re.compile(rf'(?<!\w)"([^"]*\w)"(?={_LETTER})')  # "Titanik"in is titanikin
_AFTER_A_NAME = re.compile(r"(?<=\w)\s*[.,:;?]+\s*$")
_WORDS_OF_A_SENTENCE = 3
_TOUCHING = re.compile(f"(?<={_LETTER})(?=[{PICTURES}])|(?<=[{PICTURES}])(?={_LETTER})")
_WORD = re.compile(f"{_LETTER}+")
_DRAWN_OUT = re.compile(r"([a-zəğışçöü])\1\1+")
_ROMAN = re.compile("m*(cm|cd|d?c*)(xc|xl|l?x*)(ix|iv|v?i*)")


def without_loose_marks(text: str) -> str:
    """`text` with a space for each mark that touches a word as none of its own, and one between letter and emoji.

    These are quotation marks, brackets, # and , and the like before a letter, and _ and / between letters. What stands
    at the end goes where so few words are no sentence. A text of marks alone stays as it is.
    """
    if text.replace(" ", "").isalnum():
        return text
    apart = _TOUCHING.sub(" ", _LOOSE.sub(" ", _WITH_ENDING.sub(r" \1", text)))
    if len(apart.split()) < _WORDS_OF_A_SENTENCE:
        apart = _AFTER_A_NAME.sub("", apart)
    return text if apart.isspace() else apart


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
