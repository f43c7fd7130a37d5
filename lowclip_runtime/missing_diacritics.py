"""Azerbaijani typed without its letters, read as if typed with them: qirmizi masin → qırmızı maşın.

The words come from the lists of `word_list.py`.
"""

import re

from lowclip_runtime.diacritics import AZERBAIJANI_LETTERS
from lowclip_runtime.word_list import ALSO_AS_TYPED, line_of

_WORD = re.compile(r"[^\W\d_]+")


def restore_diacritics(text: str) -> str:
    """`text`, in small letters, with the letters that its Azerbaijani words would have been typed with.

    It is left as it is where it holds a letter that only Azerbaijani has, where no word of it can only have been typed
    without diacritics, or where no more words are Azerbaijani alone than are English alone.
    """
    if AZERBAIJANI_LETTERS.search(text):
        return text
    typed = set(_WORD.findall(text))
    lines = {word: line for word in typed if (line := line_of("azerbaijani", word))}
    if all(line == word or line.endswith(ALSO_AS_TYPED) for word, line in lines.items()):
        return text
    english = {word for word in typed if line_of("english", word)}
    if len(lines.keys() - english) <= len(english - lines.keys()):
        return text
    return _WORD.sub(lambda match: lines.get(match[0], match[0]).rstrip(ALSO_AS_TYPED), text)
