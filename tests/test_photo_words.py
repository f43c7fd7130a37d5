"""Words that say that photos are wanted: which go, and which belong to what is asked for."""

import pytest

from lowclip_runtime.photo_words import without_photo_words
from lowclip_runtime.spec import TextSpec
from lowclip_runtime.text import normalize_text

SHIPPED = TextSpec(lowercase="azerbaijani", from_cyrillic=True, restore_diacritics=True)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("pişik şəkilləri", "pişik"),
        ("Pişik Şəkilləri.", "pişik"),
        ("pisik sekilleri", "pişik"),
        ("ПИШИК ШӘКИЛЛӘРИ", "pişik"),
        ("uçan quşun fotoları!", "uçan quşun"),
        ("it olan şəkillər", "it"),
        ("it olan fotoşəkilləri", "it"),
        ("it fotoları şəkilləri", "it"),
        ("ekran olan şəkillər", "ekran"),
        ("it şəkli", "it"),
        ("ag pisik sekli", "ağ pişik"),
        ("gül fotosu", "gül"),
        ("dəniz foto", "dəniz"),
        ("bütün it şəkilləri", "it"),
        ("it şəkillərim", "it"),
        ("pişik göstər", "pişik"),
        ("Mənə ağ pişik göstərin!", "ağ pişik"),
        ("mene pisik sekillerini goster", "pişik"),
        ("mənə it olan şəkilləri göstər", "it"),
        ("pişik şəkillərini tap", "pişik"),
        ("qırmızı maşın axtar", "qırmızı maşın"),
        ("it haradadır?", "it"),
        ("itim harda", "itim"),
        ("it ilə foto", "it"),
        ("a photo of a dog", "a dog"),
        ("Photos of dogs", "dogs"),
        ("an image of a man on a horse.", "a man on a horse."),  # sentences keep their full stops
        ("show me dogs", "dogs"),
        ("show me all pictures of the dog", "the dog"),
        ("dog photos", "dog"),
        ("red car pics", "red car"),
        ("dog photo", "dog"),
    ],
)
def test_that_photos_are_wanted_is_no_part_of_what_of(typed: str, meant: str) -> None:
    assert normalize_text(typed, SHIPPED) == meant
    assert normalize_text(meant, SHIPPED) == meant


@pytest.mark.parametrize(
    "text",
    [
        "şəkilləri",
        "! şəkilləri",  # of nothing that is named
        "ekran şəkli",  # a screenshot
        "ekran şəkilləri",
        "köhnə şəkillər",  # old ones
        "divarda şəkilləri olan otaq",
        "uşaq şəkilləri çəkən qadın",
        "pasport şəkli",
        "köhnə foto",
        "ağ-qara şəkil",
        "velosiped sürən qadının bulanıq şəkli.",  # a caption
        "uşaq əl ilə şəkil çəkir",
        "göstər",
        "haradadır?",
        "tapşırıq",
        "water tap",
        "family photo",
        "framed picture",
        "my photos",
        "a child painting pictures",
        "three women taking photos",
        "man in a photo",
        "photo frame",
        "horse show",
        f"{'uzun ' * 40}cümlənin şəkilləri",
    ],
)
def test_photos_that_are_what_is_asked_for_stay(text: str) -> None:
    assert without_photo_words(text) == text


def test_other_models_read_them_as_they_are() -> None:
    assert normalize_text("it şəkilləri", TextSpec(lowercase="azerbaijani")) == "it şəkilləri"
