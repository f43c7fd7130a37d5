"""Azerbaijani letters spelled by those of a foreign keyboard: which words are read so, and which stay."""

import csv
from pathlib import Path

import pytest

from lowclip_runtime.missing_diacritics import restore_diacritics
from lowclip_runtime.spec import TextSpec
from lowclip_runtime.spelled_letters import read_spelled_letters
from lowclip_runtime.text import lower_azerbaijani, normalize_text

SHARED = Path(__file__).parents[2] / "shared/data"
SHIPPED = TextSpec(lowercase="azerbaijani", from_cyrillic=True, restore_diacritics=True)
SPELLED = (("ş", "sh"), ("ç", "ch"), ("ğ", "gh"), ("ə", "e"), ("ı", "i"), ("ö", "o"), ("ü", "u"))


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("ushaq", "uşaq"),
        ("uwaq", "uşaq"),
        ("chay", "çay"),
        ("4ay qa4ir", "çay qaçır"),
        ("dagh", "dağ"),
        ("ish", "iş"),
        ("äl", "əl"),
        ("khalcha", "xalça"),
        ("dänizdä üzän it", "dənizdə üzən it"),
        ("sheher", "şəhər"),  # what else is lacking comes back, too
        ("ushaqlar parkda oynayir", "uşaqlar parkda oynayır"),
        ("SHƏKIL", "şəkil"),
    ],
)
def test_letters_spelled_by_others_are_read_as_themselves(typed: str, meant: str) -> None:
    assert normalize_text(typed, SHIPPED) == meant
    assert normalize_text(meant, SHIPPED) == meant


@pytest.mark.parametrize(
    "text",
    [
        "shah", "lavash", "charlie chaplin", "show", "www",  # English knows them
        "a chay in a cup",  # more words are English
        "mädchen im garten", "tyttö järvellä", "washington",  # not Azerbaijani when read so
        "4 it", "14it", "qırmızı 4", "4k", "ps4", "5-4ay",  # a number
        "kh", "sh", "w",  # a letter is no word
        "wi-fi", "5 kw", "wc",
        "ishal",  # is-hal: a word as it is typed
    ],
)  # fmt: skip
def test_words_that_spell_nothing_stay(text: str) -> None:
    assert read_spelled_letters(text) == text


def test_other_models_read_them_as_they_are() -> None:
    assert normalize_text("ushaq", TextSpec(lowercase="azerbaijani", from_cyrillic=True)) == "ushaq"


@pytest.mark.shared_data
@pytest.mark.skipif(not SHARED.is_dir(), reason="the real captions are not here")
def test_captions_that_the_lists_were_not_made_from() -> None:
    with (SHARED / "flickr8k/captions.tsv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["split"] == "val"]
    captions = [
        (row["lang"], lower_azerbaijani(row["caption"])) for row in rows if row["lang"] in ("az", "en")
    ]
    assert [text for _, text in captions if read_spelled_letters(text) != text] == []
    meant = [text for lang, text in captions if lang == "az"]
    found = [restore_diacritics(read_spelled_letters(spelled(text))) for text in meant]
    words = [
        pair
        for one, other in zip(found, meant, strict=True)
        for pair in zip(one.split(), other.split(), strict=True)
    ]
    assert sum(one == other for one, other in words) > 0.97 * len(words)  # 0.979 seen; 0.71 without it


def spelled(text: str) -> str:
    for letter, by in SPELLED:
        text = text.replace(letter, by)
    return text
