"""Why a sentence or its translation is not worth keeping: text in, a reason or nothing out.

What a model says of its own output (unfinished, unknown tokens) comes with the translation, see `engines.py`.
"""

from collections.abc import Sequence
from typing import Any

_MOST_REPEATS = 3  # "very, very, very" is said; four times over is a decoder that does not find its end
_MOST_REPEATED_CHARACTERS = 9  # "!!!!!" and "aaaah" are written
_LONGEST_PHRASE = 8
_LONGER_BY = 3.0  # times the characters of the source, and then some for short ones
_LONGER_BY_CHARACTERS = 20


def bad_source(sentence: str) -> str | None:
    """Why there is nothing to translate."""
    return None if _has_words(sentence) else "source without words"


def bad_translation(source: str, translation: str) -> str | None:
    """Why a translation of `source` is not one: empty, unchanged, endless repetition, over-long."""
    if not _has_words(translation):
        return "empty"
    if _bare(translation) == _bare(source):
        return "unchanged"
    if _repeats(source, translation):
        return "repetition"
    if len(translation) > _LONGER_BY * len(source) + _LONGER_BY_CHARACTERS:
        return "over-long"
    return None


def longest_run(items: Sequence[Any], longest_phrase: int) -> int:
    """How often a phrase of up to `longest_phrase` items stands back to back at most (1: nothing is repeated)."""
    most = 1
    for size in range(1, longest_phrase + 1):
        same = 0  # items in a row that equal the one `size` before
        for i in range(size, len(items)):
            same = same + 1 if items[i] == items[i - size] else 0
            most = max(most, same // size + 1)
    return most


def _repeats(source: str, translation: str) -> bool:
    """More repetition than one writes, and than the source has itself."""
    words, source_words = translation.casefold().split(), source.casefold().split()
    if longest_run(words, _LONGEST_PHRASE) > max(_MOST_REPEATS, longest_run(source_words, _LONGEST_PHRASE)):
        return True
    letters, source_letters = "".join(words), "".join(source_words)
    most = max(_MOST_REPEATED_CHARACTERS, longest_run(source_letters, _LONGEST_PHRASE))
    return longest_run(letters, _LONGEST_PHRASE) > most


def _has_words(text: str) -> bool:
    return any(character.isalnum() for character in text)


def _bare(text: str) -> str:
    """Letters and digits only: a full stop more is no translation."""
    return "".join(character for character in text.casefold() if character.isalnum())
