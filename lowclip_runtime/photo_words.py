"""Words that say no more than that photos are wanted, taken off: mənə pişik şəkillərini göstər → pişik.

MEASURED with the shipped model and 1,108 drawings by the vendor for validation, found by name in ten in 0.895: by name
and şəkilləri in 0.57, şəkli 0.72, göstər 0.74, haradadır 0.78; by "a photo of a" and the English name in 0.74, by that
name alone in 0.90. Captions, which end in such words now and then, are longer than queries and stay as they are.
"""

import re

from lowclip_runtime.diacritics import without_diacritics
from lowclip_runtime.word_list import azerbaijani, is_english

_PHOTOS = r"(?:(?:foto)?şəkilləri(?:ni|mi?)?|fotoları(?:nı|mı?)?)"
_PHOTO = r"(?:(?:foto)?şəkli(?:ni)?|fotosu(?:nu)?)"
_ANY = rf"(?:{_PHOTOS}|{_PHOTO}|(?:foto)?şəkil(?:i|lər)?|foto(?:nu|lar)?)"
_PICTURES = "(?:photo|photograph|picture|pic|image)s"
_SHORT = r"(?=(?:\S+\s+){1,3}\S+\s*$)"  # of two to four words
# photos of a kind of their own, such as ekran şəkli, a screenshot; and what is done with photos, or whose they are
_KINDS = rf"(?!.*\b(?:ailə|çəkilmiş|ekran|pasport|portret|qrup|rentgen|sinif|ultrasəs|usm|uzi) (?:{_PHOTOS}|{_PHOTO}))"
_ADJECTIVES = r"(?!.*\b(?:birgə|gülməli|kollektiv|köhnə|qara|sualtı|yapışqan|3x4) \w+\W*$)"
_DONE = (
    r"(?!.*\b(?:tak\w+|took|paint\w*|draw\w*|framed|for|of|the|a|his|her|their|my|in|family|group|old|passport|portrait|"
    r"underwater|wedding|white) \w+\W*$)"
)
_WANTED = [
    re.compile(pattern)
    for pattern in (
        r"(?:mənə )?(.*\w) (?:göstər|axtar)(?:in|ın)?\W*",
        r"(.*\w) h(?:ara|ar)da(?:dır|dı)?\W*",
        rf"(?:bütün )?(.*\w) (?:olan|ilə) {_ANY}\W*",
        rf"{_KINDS}(?:bütün )?(.*\w) {_PHOTOS}\W*",
        rf"{_KINDS}{_SHORT}(.*\w) {_PHOTO}\W*",
        rf"{_ADJECTIVES}{_SHORT}(.*\w) (?:şəkil|foto)\W*",
        r"show (?:me )?(.*\w.*)",
        rf"(?:an? |the |some |all )?{_PICTURES}? of (.*\w.*)",
        rf"{_DONE}{_SHORT}(.*\w) (?:{_PICTURES}|photo|pic)\W*",
    )
]
_LONGEST = 200  # characters of a query
_FIND = re.compile(r"(?:mənə )?(.*\w) tap(?:ın)?\W*")  # a water tap is another one


def without_photo_words(text: str) -> str:
    """`text`, in small letters, without what asks for photos of it."""
    if len(text) > _LONGEST:
        return text
    meant = text
    while (shorter := _without_one(meant)) is not None:
        meant = shorter
    return meant


def _without_one(text: str) -> str | None:
    for pattern in _WANTED:
        if match := pattern.fullmatch(text):
            return match[1]
    find = _FIND.fullmatch(text)
    return find[1] if find and not any(map(_is_english_alone, find[1].split())) else None


def _is_english_alone(word: str) -> bool:
    return is_english(word) and azerbaijani(without_diacritics(word)) is None
