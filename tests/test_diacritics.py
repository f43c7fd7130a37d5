"""Azerbaijani typed without its letters: what is restored, and what is left alone."""

import csv
from pathlib import Path

import numpy as np
import pytest

from lowclip_runtime.diacritics import without_diacritics
from lowclip_runtime.missing_diacritics import restore_diacritics
from lowclip_runtime.spec import TextSpec
from lowclip_runtime.text import lower_azerbaijani, normalize_text
from lowclip_runtime.word_list import azerbaijani

SHARED = Path(__file__).parents[2] / "shared/data"
SHIPPED = TextSpec(lowercase="azerbaijani", from_cyrillic=True, restore_diacritics=True)


def half_typed(text: str, seed: int) -> str:
    """`text` with each of its diacritics left out by a toss of a coin."""
    tosses = np.random.default_rng(seed).random(len(text))
    return "".join(
        without_diacritics(letter) if toss < 0.5 else letter
        for letter, toss in zip(text, tosses, strict=True)
    )


def share(found: list[str], meant: list[str]) -> float:
    """The share of words that are as they were meant."""
    words = [
        pair
        for one, other in zip(found, meant, strict=True)
        for pair in zip(one.split(), other.split(), strict=True)
    ]
    return sum(one == other for one, other in words) / len(words)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("qirmizi masin", "qırmızı maşın"),
        ("denizde uzen it", "dənizdə üzən it"),
        ("usaq", "uşaq"),
        ("iki it qarda qacir!", "iki it qarda qaçır!"),
        ("2 usaq, 1 top", "2 uşaq, 1 top"),
        ("nbvcxz usaq", "nbvcxz uşaq"),
        ("bike suren usaq", "bike sürən uşaq"),  # bıkə is in no text
    ],
)
def test_what_a_foreign_keyboard_leaves_out_comes_back(typed: str, meant: str) -> None:
    assert restore_diacritics(typed) == meant
    assert restore_diacritics(meant) == meant


@pytest.mark.parametrize(
    "text",
    [
        "a man is sitting on a red bed",  # is and on are Azerbaijani, too: iş, ön
        "plus", "cat", "the sun", "red car", "it", "at", "qar", "top", "", "12:30", "кот", "straße",
    ],
)  # fmt: skip
def test_what_needs_nothing_stays(text: str) -> None:
    assert restore_diacritics(text) == text


def test_a_word_that_may_be_meant_as_typed_is_no_sign_that_letters_are_missing() -> None:
    assert azerbaijani("gor") == ("gör", ("gor",))
    assert restore_diacritics("gor") == "gor"
    assert restore_diacritics("qirmizi gor") == "qırmızı gör"


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("qirmizi maşın", "qırmızı maşın"),
        ("deniz kenarında", "dəniz kənarında"),
        ("çicək", "çiçək"),
        ("təyyare", "təyyarə"),
        ("qadin və kişi", "qadın və kişi"),
    ],
)
def test_what_some_words_lack_comes_back_where_others_have_it(typed: str, meant: str) -> None:
    assert restore_diacritics(typed) == meant
    assert restore_diacritics(meant) == meant


@pytest.mark.parametrize(
    "text",
    [
        "səhər",  # şəhər is likelier, and a word that the texts have is meant as it is typed
        "şaç",  # saç has no ş: nothing is taken away
        "bir kişi və nbvcxz",
        "girl in gəncə",  # ın is a word, but more words are English
        "sis içində meşə",  # fog, not şiş
        "səhərin günəşi",  # of the morning, not şəhərin
        "göl donur",
        "dəniz duzu",
        "mars planeti",
        "səhrada sərab",
        "paltar asıb",
    ],
)
def test_words_that_lack_nothing_stay_beside_others(text: str) -> None:
    assert restore_diacritics(text) == text


def test_a_word_that_may_be_meant_as_typed_follows_where_its_letters_are_lacking_throughout() -> None:
    assert restore_diacritics("gozel gor ağ") == "gözəl gör ağ"
    assert restore_diacritics("ağ gor") == "ağ gor"  # nothing tells that ö is lacking
    assert restore_diacritics("qirmizi gor göl") == "qırmızı gor göl"  # who types ö means o
    assert restore_diacritics("usaq gor ağ") == "uşaq gor ağ"  # ş is lacking


@pytest.mark.parametrize(
    ("typed", "meant"), [("сис", "sis"), ("јас", "yas"), ("Ат сис", "at sis"), ("qis", "qış"), ("гис", "qis")]
)
def test_what_was_typed_in_cyrillic_has_all_its_letters(typed: str, meant: str) -> None:
    assert normalize_text(typed, SHIPPED) == meant


def test_it_needs_small_letters() -> None:
    with pytest.raises(ValueError, match="restore_diacritics needs lowercase = 'azerbaijani', not 'none'"):
        TextSpec(restore_diacritics=True)


@pytest.mark.shared_data
@pytest.mark.skipif(not SHARED.is_dir(), reason="the real captions are not here")
def test_captions_that_the_lists_were_not_made_from() -> None:
    with (SHARED / "flickr8k/captions.tsv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file, delimiter="\t") if row["split"] == "val"]
    captions = {
        lang: [lower_azerbaijani(row["caption"]) for row in rows if row["lang"] == lang]
        for lang in ("az", "en")
    }
    restored = [restore_diacritics(without_diacritics(text)) for text in captions["az"]]
    assert share(restored, captions["az"]) > 0.985  # 0.989 seen; 0.34 as typed
    half = [restore_diacritics(half_typed(text, i)) for i, text in enumerate(captions["az"])]
    assert share(half, captions["az"]) > 0.98  # 0.985 seen; 0.58 as typed
    capitals = [meant for meant in captions["az"] if normalize_text(meant.upper(), SHIPPED) == meant]
    assert len(capitals) > 0.97 * len(captions["az"])  # 0.978 seen; 0.07 without it
    changed = {lang: [t for t in texts if restore_diacritics(t) != t] for lang, texts in captions.items()}
    assert not changed["en"]
    assert len(changed["az"]) <= 1  # the English hell, which is like həll
