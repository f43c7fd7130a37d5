"""Emoji as a whole query: which are read by their names, and which stay."""

import pytest

from lowclip_runtime.spec import TextSpec
from lowclip_runtime.text import normalize_text

SHIPPED = TextSpec(lowercase="azerbaijani", from_cyrillic=True, restore_diacritics=True)


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("🐶", "dog face"),
        (" 🐶 ", "dog face"),
        ("❤️", "heavy black heart"),
        ("👍🏽", "thumbs up sign"),
        ("🐶🏖️", "dog face beach with umbrella"),
        ("🐶 🏖", "dog face beach with umbrella"),
        ("👨\u200d👩\u200d👧", "man woman girl"),  # joined to one
    ],
)
def test_emoji_alone_are_read_by_their_names(typed: str, meant: str) -> None:
    assert normalize_text(typed, SHIPPED) == meant
    assert normalize_text(meant, SHIPPED) == meant


@pytest.mark.parametrize(
    "text", ["🐶 it", "it 🐶", "🇦🇿", "🐶🐶", "🏽", "\U0001f8ff", "🐶\U0001f8ff", "1⃣", "→", "©"]
)
def test_other_pictures_stay(text: str) -> None:
    assert normalize_text(text, SHIPPED) == text


def test_other_models_read_them_as_they_are() -> None:
    assert normalize_text("🐶", TextSpec(lowercase="azerbaijani")) == "🐶"
