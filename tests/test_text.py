"""Text normalization and the tokenizer, on the writing that people really type."""

import json
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from tiny_bundle import TEXT, WORDS, tiny_tokenizer

from lowclip_runtime.errors import ConfigError, TextError
from lowclip_runtime.spec import TextSpec
from lowclip_runtime.text import Tokenizer, lower_azerbaijani, normalize_text, pad

PLAIN = TextSpec()
LOWER = TextSpec(lowercase="azerbaijani")


@pytest.fixture
def tokenizer(tmp_path: Path) -> Tokenizer:
    tiny_tokenizer().save(str(tmp_path / "tokenizer.json"))
    return Tokenizer(tmp_path / "tokenizer.json", TEXT)


def ids(*words: str) -> list[int]:
    """The token ids of `words`, with the marks of start and end."""
    return [WORDS.index(word) for word in ("<s>", *words, "</s>")]


@pytest.mark.parametrize(
    ("text", "lowered"),
    [
        ("İt", "it"),
        ("İSTİ ÇAY", "isti çay"),
        ("QIRMIZI İT", "qırmızı it"),
        ("Işıq", "ışıq"),
        ("I see an IT Image", "i see an it image"),
        ("ılıq", "ılıq"),
        ("ПЁС", "пёс"),
        ("İt".lower(), "it"),  # which is not what it says: a mark stands between
        ("QIRMIZI İT".lower(), "qirmizi it"),
        ("i\u0307\u0301", "í"),
    ],
)
def test_lower_case_by_the_rules_of_the_language(text: str, lowered: str) -> None:
    assert lower_azerbaijani(text) == lowered
    assert normalize_text(text, LOWER) == lowered
    assert normalize_text(text, PLAIN) == text


@pytest.mark.parametrize(
    ("text", "latin"),
    [
        ("Дәниздә үзән ИТ", "dənizdə üzən it"),
        ("ГЫРМЫЗЫ машын", "qırmızı maşın"),
        ("Ҝөјдә тәјјарә", "göydə təyyarə"),
        ("чај ичән ҹаван ағ гыз һәјәтдә", "çay içən cavan ağ qız həyətdə"),
        ("qırmızı Машын I", "qırmızı maşın ı"),
        ("Юрий, Эльвира", "yuriy, elьvira"),  # letters that the alphabet never had stay
        ("a dog", "a dog"),
    ],
)
def test_cyrillic_is_written_in_latin_where_the_model_wants_it(text: str, latin: str) -> None:
    assert normalize_text(text, TextSpec(lowercase="azerbaijani", from_cyrillic=True)) == latin
    assert (normalize_text(text, LOWER) == latin) == (text == latin)


def test_blanks_before_a_word_are_no_part_of_a_long_text() -> None:
    assert normalize_text(" \n" * 10_000 + "it", LOWER) == "it"


def test_cyrillic_cannot_be_written_in_latin_in_its_own_case() -> None:
    with pytest.raises(ValueError, match="from_cyrillic needs lowercase"):
        TextSpec(from_cyrillic=True)


def test_composed_and_decomposed_letters_are_the_same_text(tokenizer: Tokenizer) -> None:
    decomposed = unicodedata.normalize("NFD", "Göy Pişik İ")
    assert decomposed != "Göy Pişik İ"
    assert normalize_text(decomposed, LOWER) == "göy pişik i"
    assert tokenizer.token_ids(["göy pişik"]) == tokenizer.token_ids(
        [unicodedata.normalize("NFD", "göy pişik")]
    )


def test_a_letter_and_its_mark_are_composed_however_they_come_together() -> None:
    assert normalize_text("e\u200b\u0301", PLAIN) == "é"  # what stood between them is taken out
    assert lower_azerbaijani("J\u030c") == "\u01f0"  # only the small letter is one character


def test_the_name_of_a_special_token_is_text(tokenizer: Tokenizer) -> None:
    (found,) = tokenizer.token_ids(["it <s> </s> qız"])
    assert found.count(WORDS.index("<s>")) == found.count(WORDS.index("</s>")) == 1


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("“it” «pişik» „qız‟", '"it" "pişik" "qız"'),
        ("ana’nın ‘iti’", "ana'nın 'iti'"),
        ("it – pişik — qız…", "it - pişik - qız..."),
        ("dǝniz, Ǝli, șəkil, daǧ", "dəniz, Əli, şəkil, dağ"),
        ("\u200eit\u2069 \u2764\ufe0f", "it \u2764"),
        ("it\u00a0\t\n pişik\u3000qız ", "it pişik qız"),
        ("pi\u00adşik\u200b \ufeffit", "pişik it"),
    ],
)
def test_typographic_marks_and_spaces_become_plain(text: str, plain: str) -> None:
    assert normalize_text(text, PLAIN) == plain


@pytest.mark.parametrize("text", ["", "   ", "\n\t", "\u200b\ufeff", "\u00a0"])
def test_empty_text_is_refused(text: str) -> None:
    with pytest.raises(TextError, match="empty"):
        normalize_text(text, PLAIN)


def test_text_that_is_no_string_is_refused() -> None:
    with pytest.raises(TextError, match="not int"):
        normalize_text(5, PLAIN)  # type: ignore[arg-type]


def test_the_empty_text_among_many_is_named(tokenizer: Tokenizer) -> None:
    with pytest.raises(TextError, match=r"texts\[2\]: the text is empty"):
        tokenizer.token_ids(["it", "qız", " "])


def test_prefix_comes_before_the_normalized_text() -> None:
    assert normalize_text("  Qız ", TextSpec(prefix="query: ", lowercase="azerbaijani")) == "query: qız"


def test_ten_thousand_characters_are_cut_to_max_tokens(tokenizer: Tokenizer) -> None:
    (row,) = tokenizer.token_ids(["qırmızı it " * 1000])
    assert len(row) == TEXT.max_tokens
    assert row == ids(*["qırmızı", "it"] * 7)
    assert len(normalize_text("a" * 10_000, TEXT)) < 10_000


def test_cyrillic_is_unknown_to_the_small_vocabulary_but_no_error(tokenizer: Tokenizer) -> None:
    assert tokenizer.token_ids(["ит"]) == [ids("[UNK]")]


def test_rows_are_padded_to_the_longest_with_a_mask(tokenizer: Tokenizer) -> None:
    input_ids, attention_mask = tokenizer(["it", "qırmızı paltarlı qız"])
    pad_id = WORDS.index("[PAD]")
    np.testing.assert_array_equal(
        input_ids, [[*ids("it"), pad_id, pad_id], ids("qırmızı", "paltarlı", "qız")]
    )
    np.testing.assert_array_equal(attention_mask, [[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]])
    assert input_ids.dtype == attention_mask.dtype == np.int64


def test_padding_uses_the_given_id() -> None:
    input_ids, _ = pad([[7], [8, 9]], pad_token_id=3)
    np.testing.assert_array_equal(input_ids, [[7, 3], [8, 9]])
    assert pad([], 0)[0].shape == (0, 0)


def test_vocab_size_counts_every_token(tokenizer: Tokenizer) -> None:
    assert tokenizer.vocab_size == len(WORDS)


@pytest.mark.parametrize("content", [None, "", "{}", "not json"])
def test_a_file_that_is_no_tokenizer_is_refused_by_name(tmp_path: Path, content: str | None) -> None:
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=r"tokenizer\.json"):
        Tokenizer(path, TEXT)


def test_bytes_that_are_no_utf8_are_refused() -> None:
    with pytest.raises(TextError, match="not valid UTF-8"):
        normalize_text("it\udcff", TextSpec())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("post_processor", {"special_tokens": {}}),  # panics when it encodes
        ("normalizer", {"type": "Precompiled", "precompiled_charsmap": "AAAA"}),  # when it is read
        ("model", {"unk_token": "[NOPE]"}),  # fails on the first word that it does not know
    ],
)
def test_a_tokenizer_that_fails_is_told(tmp_path: Path, key: str, value: dict[str, object]) -> None:
    tiny_tokenizer().save(str(tmp_path / "tokenizer.json"))
    described = json.loads((tmp_path / "tokenizer.json").read_text("utf-8"))
    described[key] = {**(described[key] or {}), **value}
    (tmp_path / "tokenizer.json").write_text(json.dumps(described), "utf-8")
    for texts in (["naməlum"], ["naməlum", "söz"]):
        with pytest.raises(ConfigError, match=r"tokenizer\.json: not a readable"):
            Tokenizer(tmp_path / "tokenizer.json", TEXT).token_ids(texts)
