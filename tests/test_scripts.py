"""Words of Latin and Cyrillic letters that look alike: which script they are read in, and what stays."""

import pytest

from lowclip_runtime.spec import TextSpec
from lowclip_runtime.text import normalize_text

SHIPPED = TextSpec(lowercase="azerbaijani", from_cyrillic=True, restore_diacritics=True)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("m\u0430şın", "maşın"),  # а
        ("us\u0430q", "uşaq"),  # what is Latin now was typed without diacritics
        ("M\u0410ŞIN", "maşın"),
        ("т\u0259јјар\u0259", "təyyarə"),  # ə of the Latin keyboard
        ("аjаг", "ayaq"),  # j for ј
        ("\u0441ис", "sis"),  # all Cyrillic: with the letters that it has
        ("ден\u0069з", "deniz"),  # i stands for и
        ("ден\u0456з", "deniz"),  # and so does і, of Ukrainian keyboards
        ("l\u0456man", "liman"),
        ("a\u0430", "aa"),  # neither script has more: Latin
        ("ax\u0430", "axa"),
    ],
)
def test_a_word_of_two_scripts_is_read_in_the_one_that_more_letters_are_of(typed: str, meant: str) -> None:
    assert normalize_text(typed, SHIPPED) == meant


@pytest.mark.parametrize(
    ("typed", "meant"),
    [("фильм", "film"), ("альбом", "albom"), ("Эльвира", "elvira"), ("объект", "obekt"), ("ь", "ь")],
)
def test_mute_letters_are_left_out_behind_a_letter(typed: str, meant: str) -> None:
    assert normalize_text(typed, SHIPPED) == meant


def test_other_models_read_them_as_before() -> None:
    latin = TextSpec(lowercase="azerbaijani", from_cyrillic=True)
    assert normalize_text("фильм l\u0456man", latin) == "filьm l\u0456man"
    restored = TextSpec(lowercase="azerbaijani", restore_diacritics=True)
    assert normalize_text("m\u0430şın фильм", restored) == "m\u0430şın фильм"
