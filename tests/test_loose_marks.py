"""Marks beside words and letters drawn out in them: what goes, and what stays."""

import time
from dataclasses import replace

import pytest

from lowclip_runtime.loose_marks import without_drawn_out_letters
from lowclip_runtime.spec import TextSpec
from lowclip_runtime.text import normalize_text

SHIPPED = TextSpec(lowercase="azerbaijani", from_cyrillic=True, restore_diacritics=True)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("#it", "it"),
        ("#it#dəniz", "it dəniz"),
        ("it_qaçır", "it qaçır"),
        ("dəniz/qum", "dəniz qum"),
        ("🐶it", "🐶 it"),
        ("it🐶", "it 🐶"),
        ("❤️qız⭐", "❤ qız ⭐"),
        ("gözəəəl", "gözəl"),
        ("GÖZƏƏƏLL", "gözəll"),
        ("gozeeel qiz", "gözəl qız"),
        ("ҝөзәәәл", "gözəl"),
        ("iiit", "it"),
        ("loooking", "looking"),  # loking is no word
        ("nbvvvcxz", "nbvcxz"),
        ('"it"', "it"),
        ("“qırmızı maşın” (yolda)", "qırmızı maşın yolda"),
        ("«it».", "it"),
        ("‘it’", "it"),
        ("“Titanik”in afişası", "titanikin afişası"),
        ('"it" və ya"pişik"', "it və ya pişik"),
        ("İT,İNCİ.".lower(), "it inci"),  # by Python: i and a dot above
        ("it,pişik;qız", "it pişik qız"),
        ("it+pişik ,qız", "it pişik qız"),
        ("it & pişik | qız", "it & pişik | qız"),
        ("Bakı'da it", "bakı'da it"),
        ("dogs' toys", "dogs toys"),
        ("Pişik.", "pişik"),
        ("uçan quş?", "uçan quş"),
        ("it qaçır…", "it qaçır"),
        ("pişik :", "pişik"),
        ("it suda üzür.", "it suda üzür."),
        ("1,5 kq. alma, armud", "1,5 kq. alma, armud"),
    ],
)
def test_words_are_read_without_what_touches_them_and_is_drawn_out(typed: str, meant: str) -> None:
    assert normalize_text(typed, SHIPPED) == meant
    assert normalize_text(meant, SHIPPED) == meant


@pytest.mark.parametrize(
    "text",
    [
        "#",
        "# it",
        "#1",
        "c#",
        "1/2",
        "_it",
        "it_",
        "5_qız",
        "saat",
        "haqq",
        "1000 it",
        "🐶🐶🐶",
        "www",
        "it!!!",
        '""',
        "()",
        "...",
        "m.ö. 5-ci əsr",
        "12:30",
        "c++",
        "jack-o'-lantern",
        "dəniz.jpg",
    ],
)
def test_other_marks_and_two_letters_alike_stay(text: str) -> None:
    assert normalize_text(text, SHIPPED) == text


@pytest.mark.parametrize("text", ["iii", "viii", "xııı əsr", "xxx", "clxxx"])
def test_roman_numerals_stay(text: str) -> None:
    assert without_drawn_out_letters(text) == text


@pytest.mark.parametrize("mark", "#+_/\"'.🐶")
def test_marks_in_thousands_are_read_at_once(mark: str) -> None:
    """A text of a long model; looked through as often as it has marks it would take seconds."""
    began = time.perf_counter()
    normalize_text("it" + mark * 16_000 + " it", replace(SHIPPED, max_tokens=512))
    assert time.perf_counter() - began < 2


def test_other_models_read_them_as_they_are() -> None:
    assert normalize_text('#it_🐶it "gözəəəl".', TextSpec(lowercase="azerbaijani")) == '#it_🐶it "gözəəəl".'
