"""One caption as people type it: in capitals, in Cyrillic, with a typing error (`diacritics.py`: without diacritics).

Each is a function of the text, and where it draws, of a random generator. Training draws which caption gets which in
`lowclip_train/text_noise.py`; `robustness.py` measures what each costs.
"""

import numpy as np

from lowclip_runtime.diacritics import AZERBAIJANI_LETTERS
from lowclip_runtime.text import AZERBAIJANI_CYRILLIC, lower_azerbaijani

CYRILLIC_LANGS = ("az", "")  # captions of no named language are taken for Azerbaijani
_DOTTED = ("az", "tr")  # languages whose i is İ in capitals
_UPPER = str.maketrans({"i": "İ", "ı": "I"})
# the alphabet's own letters come before those of Russian that are written alike
_TO_CYRILLIC = {latin: letter for letter, latin in reversed(AZERBAIJANI_CYRILLIC.items()) if len(latin) == 1}
_LEAST_LETTERS = 4  # in a word that an error may hit: shorter ones would become other words


def in_cyrillic(text: str) -> str:
    """Azerbaijani in the alphabet of 1958, in small letters: qırmızı maşın → гырмызы машын."""
    return "".join(_TO_CYRILLIC.get(letter, letter) for letter in lower_azerbaijani(text))


def upper_azerbaijani(text: str, lang: str = "") -> str:
    """Capitals by Azerbaijani rules where the text is Azerbaijani: it → İT, qırmızı → QIRMIZI; else the usual ones.

    Args:
        lang: of the text, `tr` has the same rules; without it the letters tell.
    """
    dotted = lang in _DOTTED if lang else AZERBAIJANI_LETTERS.search(text)
    return (text.translate(_UPPER) if dotted else text).upper()


def with_typo(text: str, generator: np.random.Generator) -> str:
    """One error in one word: two letters change places, one is missing, or one comes twice."""
    words = text.split(" ")
    long = [i for i, word in enumerate(words) if len(word) >= _LEAST_LETTERS and word.isalpha()]
    if not long:
        return text
    i = long[int(generator.integers(len(long)))]
    word, kind = words[i], int(generator.integers(3))
    at = int(generator.integers(1, len(word) - 1))  # the first letter is hardly ever wrong
    middle = (word[at + 1] + word[at], word[at + 1], word[at] + word[at] + word[at + 1])[kind]
    words[i] = word[:at] + middle + word[at + 2 :]
    return " ".join(words)
