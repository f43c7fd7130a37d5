"""Capitals of software and keyboards that know no İ: where a dot is meant, and where it is not."""

import pytest

from lowclip_runtime.spec import TextSpec
from lowclip_runtime.text import normalize_text

SHIPPED = TextSpec(lowercase="azerbaijani", from_cyrillic=True, restore_diacritics=True)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("DƏNIZ", "dəniz"),
        ("IT VƏ PIŞIK", "it və pişik"),
        ("QIRMIZI MAŞIN", "qırmızı maşın"),
        ("Işıqlı Dəniz", "işıqlı dəniz"),
        ("GÖZƏLLIYIMIZDƏKINI", "gözəlliyimizdəkini"),  # in no list: by vowel harmony
        ("ŞAQQILDATDIQLARINI", "şaqqıldatdıqlarını"),
        ("ZIRƏKŞ", "zirəkş"),  # by the vowel after it
        ("ZIŞ", "zış"),
        ("IŞĞ", "işğ"),  # few words begin with ı
        ("I see a DOG", "i see a dog"),
    ],
)
def test_capitals_of_software_that_knows_no_dotted_ones(typed: str, meant: str) -> None:
    assert normalize_text(typed, SHIPPED) == meant


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("İKI IT", "iki it"),  # what software makes of İki it
        ("İTIN QIZI", "itin qızı"),  # itın is no word
        ("İTİN QIZI ILIQ SUDA", "itin qızı ılıq suda"),
        ("İTİN ŞAQQILDATDIQLARINI", "itin şaqqıldatdıqlarını"),
        ("İTİN GÖZƏLLIYIMIZDƏKINI", "itin gözəllıyımızdəkını"),  # in no list: who writes İ means I
    ],
)
def test_who_writes_dotted_capitals_means_the_others_where_that_is_a_word(typed: str, meant: str) -> None:
    assert normalize_text(typed, SHIPPED) == meant


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("GIRL IN GƏNCƏ", "girl in gəncə"),
        ("A DOG WITH ƏLİ IS RUNNING", "a dog with əli is running"),
        ("Girl In Şəki", "girl in şəki"),
        ("I am in Şuşa", "i am in şuşa"),
        ("SARI GÜL", "sarı gül"),  # a sari is English, and sarı is yellow
    ],
)
def test_english_beside_an_azerbaijani_name_keeps_its_dots(typed: str, meant: str) -> None:
    assert normalize_text(typed, SHIPPED) == meant


def test_capitals_are_read_first() -> None:
    spec = TextSpec(lowercase="azerbaijani", restore_diacritics=True)
    assert normalize_text("QIRMIZI PALTARLI QIZ", spec) == "qırmızı paltarlı qız"
    assert normalize_text("QIRMIZI", TextSpec(lowercase="azerbaijani")) == "qirmizi"
