"""The lists of words that queries are read by: how a word is found in them, and how they are made."""

from collections import Counter
from pathlib import Path

import pytest

from lowclip_runtime.diacritics import without_diacritics
from lowclip_runtime.missing_diacritics import restore_diacritics
from lowclip_runtime.text import lower_azerbaijani
from lowclip_runtime.word_list import azerbaijani, is_english, line_of, lines_of, typed_as
from lowclip_train.shipped_recipe import things
from lowclip_train.word_lists import lines, texts

WORDS = Path(__file__).parents[1] / "lowclip_runtime/words"
SHARED = Path(__file__).parents[2] / "shared/data"


def listed(name: str, folder: Path = WORDS) -> list[str]:
    return list(lines_of(folder / f"{name}.words"))


@pytest.mark.parametrize("name", ["azerbaijani", "english"])
def test_every_line_of_a_list_is_found(name: str) -> None:
    found = listed(name)
    typed = [typed_as(line) for line in found]
    assert typed == sorted(set(typed))
    step = max(1, len(found) // 500)
    checked = [*range(0, len(found), step), len(found) - 1]
    assert [line_of(name, typed[i]) for i in checked] == [found[i] for i in checked]
    assert [line_of(name, missing) for missing in ("", "0", "zzzzzz", "mmmmmmmm", "ə")] == [None] * 5


def test_the_likeliest_word_is_chosen() -> None:
    counts = Counter({"üzən": 3, "uzən": 1, "it": 5, "qar": 2, "on": 4, "ön": 9})
    noisy = ["uzen", "kərə", "kere", "kəre", "toplarinin", "facebook", "ab-ı", "qâr", "həəə"]
    assert sorted(lines(counts, noisy)) == sorted(["üzən uzən", "it", "qar", "ön?", "kərə? kəre"])
    assert lines(Counter({"şiş": 2, "şəhərə": 3}), ["səhərə"], {"sis", "səhərə"}) == ["şiş?", "şəhərə səhərə"]


def test_a_line_tells_what_else_may_be_meant() -> None:
    assert azerbaijani("deniz") == ("dəniz", ())
    assert azerbaijani("gor") == ("gör", ("gor",))
    assert azerbaijani("seher") == ("şəhər", ("səhər",))
    assert azerbaijani("nbvcxz") is None
    assert is_english("dog") and not is_english("nbvcxz")


def test_names_of_things_are_read_without_diacritics() -> None:
    names = [lower_azerbaijani(name) for _, azerbaijani_names, _ in things() for name in azerbaijani_names]
    read = sum(restore_diacritics(without_diacritics(name)) == name for name in names)
    assert read > 0.97 * len(names)  # 0.981 seen
    assert [name for name in names if restore_diacritics(name) != name] == []


@pytest.mark.shared_data
@pytest.mark.skipif(not SHARED.is_dir(), reason="the texts that the lists are made from are not here")
def test_names_of_emoji_that_training_never_sees_are_left_out() -> None:
    named = {thing: names for thing, names, _ in things()}
    found = set(texts(SHARED, "az"))
    assert set(named["police dog"]) <= found
    assert not set(named["water pistol"]) & found


@pytest.mark.shared_data
@pytest.mark.skipif(not SHARED.is_dir(), reason="the texts that the lists are made from are not here")
def test_the_lists_are_what_the_program_makes(tmp_path: Path) -> None:
    from click.testing import CliRunner

    from lowclip_train.word_lists import main

    result = CliRunner().invoke(main, [str(SHARED), str(tmp_path)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    for name in ("azerbaijani", "english"):
        assert listed(name, tmp_path) == listed(name)
