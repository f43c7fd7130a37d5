"""Captions as people type them: each kind of noise alone, and that the runtime's normalization undoes what it can."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_training import tiny_config

from lowclip_runtime.diacritics import without_diacritics
from lowclip_runtime.spec import TextSpec
from lowclip_runtime.text import normalize_text
from lowclip_runtime.text_noise import in_cyrillic, upper_azerbaijani, with_typo
from lowclip_train import training_step
from lowclip_train.config import TextNoise
from lowclip_train.run import prepare_run
from lowclip_train.text_noise import noisy

CAPTIONS = (
    "qırmızı paltarlı qız dənizin sahilində qaçır",
    "iki it çəmənlikdə top arxasınca yüyürür",
    "göy köynəkli kişi velosiped sürür",
)
SHIPPED = TextSpec(lowercase="azerbaijani", from_cyrillic=True, restore_diacritics=True)


@pytest.mark.parametrize(
    ("text", "plain", "upper", "cyrillic"),
    [
        ("qırmızı maşın", "qirmizi masin", "QIRMIZI MAŞIN", "гырмызы машын"),
        ("iki göy it", "iki goy it", "İKİ GÖY İT", "ики ҝөј ит"),
        ("ağ pişik çay içir", "ag pisik cay icir", "AĞ PİŞİK ÇAY İÇİR", "ағ пишик чај ичир"),
    ],
)
def test_how_people_type(text: str, plain: str, upper: str, cyrillic: str) -> None:
    assert without_diacritics(text) == plain
    assert upper_azerbaijani(text) == upper
    assert in_cyrillic(text) == cyrillic


def test_english_has_its_own_capitals() -> None:
    assert upper_azerbaijani("two dogs in a field") == "TWO DOGS IN A FIELD"
    assert upper_azerbaijani("brick façade", "en") == "BRICK FAÇADE"
    assert upper_azerbaijani("bir it divanda", "az") == "BİR İT DİVANDA"


@pytest.mark.parametrize("text", CAPTIONS)
def test_the_runtime_undoes_capitals_cyrillic_and_a_foreign_keyboard(text: str) -> None:
    assert normalize_text(upper_azerbaijani(text), SHIPPED) == text
    assert normalize_text(in_cyrillic(text), SHIPPED) == text
    assert normalize_text(without_diacritics(text), SHIPPED) == text


@pytest.mark.parametrize("text", CAPTIONS)
def test_a_typing_error_is_one_and_in_one_word(text: str) -> None:
    seen = set()
    for seed in range(60):
        typed = with_typo(text, np.random.default_rng(seed))
        wrong = [(a, b) for a, b in zip(text.split(), typed.split(), strict=True) if a != b]
        assert len(wrong) <= 1  # none where two equal letters change places
        for right, typo in wrong:
            assert abs(len(typo) - len(right)) <= 1 and typo[0] == right[0] and len(right) >= 4
            seen.add(len(typo) - len(right))
    assert seen == {-1, 0, 1}


def test_short_words_and_numbers_have_no_errors() -> None:
    assert with_typo("it və 12345 at!", np.random.default_rng(0)) == "it və 12345 at!"


def test_each_kind_has_its_probability() -> None:
    generator = np.random.default_rng(0)
    for name, changed in (
        ("no_diacritics_probability", without_diacritics),
        ("upper_case_probability", upper_azerbaijani),
        ("cyrillic_probability", in_cyrillic),
    ):
        typed = [noisy(CAPTIONS[0], "az", TextNoise(**{name: 0.3}), generator) for _ in range(1000)]
        assert set(typed) == {CAPTIONS[0], changed(CAPTIONS[0])}
        assert 230 < typed.count(changed(CAPTIONS[0])) < 370
    assert noisy(CAPTIONS[0], "az", TextNoise(), generator) == CAPTIONS[0]


@pytest.mark.parametrize(
    ("text", "lang", "typed"),
    [
        ("qara it", "az", "гара ит"),  # no letter that only Azerbaijani has
        ("qara it", "", "гара ит"),  # as robustness types captions of no named language
        ("a dog", "en", "a dog"),
        ("a façade and a jalapeño", "en", "a façade and a jalapeño"),
        ("Ein Mädchen grüßt", "de", "Ein Mädchen grüßt"),
    ],
)
def test_cyrillic_is_for_azerbaijani_alone(text: str, lang: str, typed: str) -> None:
    always = TextNoise(cyrillic_probability=1.0)
    assert noisy(text, lang, always, np.random.default_rng(0)) == typed


def test_a_step_types_captions_by_their_language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = replace(tiny_config(tmp_path, captions_per_image=2), distillation=None)  # one of each language
    run = prepare_run(config, tmp_path / "run")
    asked: list[tuple[str, str]] = []

    def recorded(text: str, lang: str, *_: object) -> str:
        asked.append((text.split()[-1], lang))
        return text

    monkeypatch.setattr(training_step, "noisy", recorded)
    training_step.train_step(run, 0, [0, 1])
    assert sorted(asked) == [("picture", "en")] * 2 + [("şəkil", "az")] * 2


def test_a_probability_is_one() -> None:
    with pytest.raises(ValueError, match=r"typo_probability \(1\.5\)"):
        TextNoise(typo_probability=1.5)
