"""What a translation run is made of: batches, guards, the cache, language codes, the config."""

import contextlib
import json
import threading
from pathlib import Path

import pytest
from tiny_translators import (
    MarianConfig,
    MarianTokenizer,
    NllbTokenizer,
    untaught_m2m100_tokenizer,
    untaught_madlad_tokenizer,
    untaught_marian_tokenizer,
)

from lowclip_runtime.errors import ConfigError, InputError
from lowclip_train.model_identity import folder_identity
from lowclip_train.translation.batches import batches, bucket, max_new_tokens
from lowclip_train.translation.cache import Translation, TranslationCache, cache_key
from lowclip_train.translation.coded_tokenizer import CodedTokenizer
from lowclip_train.translation.config import TranslationConfig
from lowclip_train.translation.guards import bad_source, bad_translation, longest_run
from lowclip_train.translation.language_codes import LanguageCodes, choose_codes, known_codes


def test_a_batch_is_of_one_bucket_and_within_the_cap() -> None:
    lengths = [3, 40, 16, 17, 5, 5, 200, 9, 33, 64]
    cut = batches(lengths, 80)
    assert sorted(i for batch in cut for i in batch) == list(range(len(lengths)))
    assert cut[0] == [6], "longest first, and longer than the cap is alone"
    for batch in cut:
        assert len({bucket(lengths[i]) for i in batch}) == 1
        assert len(batch) == 1 or max(lengths[i] for i in batch) * len(batch) <= 80
    assert batches([], 80) == [] and batches([5, 5, 5], 10) == [[0, 1], [2]]


def test_what_is_left_after_a_kill_is_batched_as_before() -> None:
    lengths = [7, 3, 12, 30, 8, 8, 5, 21, 4, 6]
    whole = batches(lengths, 24)
    assert len(whole) > 3, "else the kill is never between two batches"
    for done in range(len(whole)):
        left = sorted(i for batch in whole[done:] for i in batch)
        again = batches([lengths[i] for i in left], 24)
        assert [[left[i] for i in batch] for batch in again] == whole[done:]


def test_the_limit_depends_on_the_bucket_only() -> None:
    assert [bucket(n) for n in (1, 16, 17, 32, 33)] == [16, 16, 32, 32, 64]
    assert max_new_tokens(1) == max_new_tokens(16) == 48 and max_new_tokens(17) == 80


@pytest.mark.parametrize(
    ("translation", "reason"),
    [
        ("it qaçır", None),
        ("", "empty"),
        ("... !", "empty"),
        ("A dog runs!", "unchanged"),
        ("it it it qaçır", None),
        ("it it it it qaçır", "repetition"),
        ("bir it qaçır bir it qaçır bir it qaçır bir it qaçır", "repetition"),
        ("qaaaaaaaaaaaaaaaaç", "repetition"),
        ("it " + " ".join(f"söz{i}" for i in range(20)), "over-long"),
    ],
)
def test_guards(translation: str, reason: str | None) -> None:
    assert bad_translation("A dog runs.", translation) == reason


def test_repetition_of_the_source_is_no_fault() -> None:
    assert bad_translation("no no no no no dog", "yox yox yox yox yox it") is None
    assert longest_run("abcabcabx", 8) == 2 and longest_run("aaab", 8) == 3 and longest_run("", 8) == 1


def test_sources_without_words() -> None:
    assert bad_source("🐶 !!!") and bad_source("…") and bad_source("İt 2") is None


def test_cache_survives_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "cache.jsonl"
    entries = [
        (f"k{i}", f"“s\u2028{i}”", Translation(f"söz {i}", "unfinished" if i else "")) for i in range(3)
    ]
    with TranslationCache(path) as cache:
        cache.append(entries)
    whole = path.read_bytes()
    for cut in range(1, len(whole.splitlines()[-1]) + 1):
        path.write_bytes(whole[:-cut])
        with TranslationCache(path) as cache:
            assert len(cache) == 2 and cache.damaged_lines == 0
            assert cache.get("k1") == entries[1][2] and cache.get("k2") is None
            cache.append(entries[2:])
        assert path.read_bytes() == whole


def test_cache_counts_damaged_lines_and_reads_on(tmp_path: Path) -> None:
    path = tmp_path / "cache.jsonl"
    with TranslationCache(path) as cache:
        cache.append([(f"k{i}", "s", Translation("t")) for i in range(3)])
    lines = path.read_bytes().split(b"\n")
    no_text = [lines[1].replace(text, b"null") for text in (b'"k0"', b'"t"', b'""')]
    bad = [b"\x00\x00\xff", b'{"key": "k9"}', b"[1]", *no_text]
    path.write_bytes(b"\n".join([lines[0], *bad, lines[2], b""]))
    with TranslationCache(path) as cache:
        assert (len(cache), cache.damaged_lines) == (1, len(bad))


def test_cache_leaves_other_files_alone_and_has_one_writer(tmp_path: Path) -> None:
    other = tmp_path / "pairs.tsv"
    other.write_text("image\tcaption\na.jpg\tno newline at the end", "utf-8")
    before = other.read_bytes()
    with pytest.raises(InputError, match="not a translation cache"):
        TranslationCache(other)
    assert other.read_bytes() == before
    with TranslationCache(tmp_path / "c.jsonl"), pytest.raises(InputError, match="another run"):
        TranslationCache(tmp_path / "c.jsonl")
    with TranslationCache(tmp_path / "c.jsonl") as cache:
        assert len(cache) == 0


def test_of_caches_opened_at_once_one_is_written_and_kept(tmp_path: Path) -> None:
    for turn in range(20):
        path = tmp_path / f"{turn}.jsonl"
        held = _opened_at_once(path, 8)
        assert held, "no one got it"
        for i, cache in enumerate(held):
            cache.append([(f"k{i}", "s", Translation("t"))])
        assert len(held) == 1, "two wrote at once"
        held[0].__exit__(None, None, None)
        with TranslationCache(path) as cache:
            assert cache.get("k0") == Translation("t") and cache.damaged_lines == 0


def _opened_at_once(path: Path, count: int) -> list[TranslationCache]:
    barrier, held = threading.Barrier(count), []

    def open_one() -> None:
        barrier.wait()
        with contextlib.suppress(InputError):
            held.append(TranslationCache(path))

    threads = [threading.Thread(target=open_one) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return held


def test_a_cache_killed_before_its_header_was_whole_is_begun_anew(tmp_path: Path) -> None:
    with TranslationCache(tmp_path / "c.jsonl"):
        header = (tmp_path / "c.jsonl").read_bytes()
    for cut in range(len(header)):
        (tmp_path / "c.jsonl").write_bytes(header[:cut])
        with TranslationCache(tmp_path / "c.jsonl") as cache:
            cache.append([("k", "s", Translation("t"))])
        with TranslationCache(tmp_path / "c.jsonl") as cache:
            assert cache.get("k") == Translation("t") and cache.damaged_lines == 0


def test_keys_differ_by_all_that_matters() -> None:
    keys = {
        cache_key(settings, s) for settings in (["m", "en", 4], ["m", "en", 5], ["n", "en", 4]) for s in "ab"
    }
    assert len(keys) == 6 and cache_key(["m"], "a") == cache_key(["m"], "a")


def test_a_model_is_known_by_its_content(tmp_path: Path) -> None:
    for name in ("one", "moved"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    assert folder_identity(tmp_path / "one") == folder_identity(tmp_path / "moved")
    (tmp_path / "one" / "README.md").write_text("read")
    assert folder_identity(tmp_path / "one") == folder_identity(tmp_path / "moved")
    (tmp_path / "one" / "model.bin").write_bytes(b"1")
    assert folder_identity(tmp_path / "one") != folder_identity(tmp_path / "moved")


def test_nllb_codes() -> None:
    tokenizer = NllbTokenizer()
    assert choose_codes(tokenizer, "m", ("en", "az"), (None, None)) == LanguageCodes(
        family="NLLB", source="eng_Latn", target="azj_Latn", first_token="azj_Latn"
    )
    for lang, code in (
        ("fa", "pes_Arab"),
        ("zh", "zho_Hans"),
        ("sr", "srp_Cyrl"),
        ("uz", "uzn_Latn"),
        ("ku", "kmr_Latn"),
    ):
        assert choose_codes(tokenizer, "m", ("en", lang), (None, None)).target == code
    assert choose_codes(tokenizer, "m", ("en", "az"), (None, "azb_Arab")).target == "azb_Arab"
    assert choose_codes(tokenizer, "m", ("en", "azb_Arab"), (None, None)).target == "azb_Arab"
    with pytest.raises(
        ConfigError, match=r"no language code 'azj_Lat'; the nearest of its \d+ are azj_Latn, .*--target-code"
    ):
        choose_codes(tokenizer, "m", ("en", "az"), (None, "azj_Lat"))
    with pytest.raises(ConfigError, match=r"no code for the language 'english'; .*eng_Latn.*--source-code"):
        choose_codes(tokenizer, "m", ("english", "az"), (None, None))


def test_m2m100_codes(tmp_path: Path) -> None:
    tokenizer = untaught_m2m100_tokenizer(tmp_path / "m2m100")
    assert choose_codes(tokenizer, "m", ("en", "az"), (None, None)) == LanguageCodes(
        family="M2M100", source="en", target="az", first_token="__az__"
    )
    assert choose_codes(tokenizer, "m", ("en", "az"), (None, "__tr__")).target == "tr"
    with pytest.raises(ConfigError, match=r"azj_Latn.*nearest.* az"):
        choose_codes(tokenizer, "m", ("en", "az"), (None, "azj_Latn"))


def _marian(folder: Path, *codes: str) -> MarianTokenizer:
    return untaught_marian_tokenizer(folder, codes)


def test_marian_codes(tmp_path: Path) -> None:
    many = _marian(tmp_path / "many", ">>aze_Cyrl<<", ">>aze_Latn<<", ">>tur<<")
    assert choose_codes(many, "m", ("en", "az"), (None, None)) == LanguageCodes(
        family="Marian", target="aze_Latn", source_prefix=">>aze_Latn<<"
    )
    assert choose_codes(many, "m", ("en", "tr"), (None, None)).source_prefix == ">>tur<<"
    assert choose_codes(many, "m", ("en", "az"), (None, ">>aze_Cyrl<<")).target == "aze_Cyrl"
    with pytest.raises(ConfigError, match="leave --source-code eng out"):
        choose_codes(many, "m", ("en", "az"), ("eng", None))
    pair = _marian(tmp_path / "pair")
    assert choose_codes(pair, "m", ("en", "az"), (None, None)) == LanguageCodes(family="one pair")
    with pytest.raises(ConfigError, match="takes no codes; leave azj_Latn out"):
        choose_codes(pair, "m", ("en", "az"), (None, "azj_Latn"))
    with pytest.raises(ConfigError, match="target language 'az', not 'tr'"):
        choose_codes(pair, "m", ("en", "tr"), (None, None))


def test_a_caption_that_begins_like_a_code_is_not_told_to_marian(tmp_path: Path) -> None:
    folder = tmp_path / "many"
    _marian(folder, ">>aze_Latn<<", ">>tur<<").save_pretrained(folder)
    MarianConfig().save_pretrained(folder)
    tokenizer = CodedTokenizer(str(folder), ("en", "az"), (None, None), strict=True)
    plain, coded, odd = map(
        tokenizer.tokens, tokenizer.token_ids(["red dog", ">>tur<< red dog", ">>red<< red dog"])
    )
    assert plain[0] == ">>aze_Latn<<" and plain[1:] == ["▁red", "▁dog", "</s>"]
    assert coded[0] == ">>aze_Latn<<" and ">>tur<<" not in coded and coded[-3:] == plain[-3:]
    assert "".join(odd).count("red") == 2 and odd[-3:] == plain[-3:]


def test_codes_for_the_way_back_are_those_that_the_model_can_be_told(tmp_path: Path) -> None:
    assert known_codes(NllbTokenizer(), ("azj_Latn", "eng_Latn")) == ("azj_Latn", "eng_Latn")
    assert known_codes(NllbTokenizer(), ("az", None)) == (None, None)
    madlad = untaught_madlad_tokenizer()
    assert known_codes(madlad, ("az", "en")) == (None, "en")
    assert choose_codes(madlad, "m", ("az", "en"), (None, "en")) == LanguageCodes(
        family="MADLAD", target="en", source_prefix="<2en>"
    )
    with pytest.raises(ConfigError, match="told its target only; leave --source-code az out"):
        choose_codes(madlad, "m", ("az", "en"), ("az", "en"))
    many = _marian(tmp_path / "many", ">>aze_Latn<<", ">>eng<<")
    assert known_codes(many, ("aze_Latn", "eng")) == (None, "eng")
    assert known_codes(_marian(tmp_path / "pair"), ("aze_Latn", "eng")) == (None, None)


def test_config_tells_all_problems_at_once() -> None:
    with pytest.raises(ValueError) as caught:
        TranslationConfig(model="m", source="en", target="en", beams=0, min_similarity=0.8, back_model="b")
    for problem in ("beams must be 1", "two languages", "encoder is not given"):
        assert problem in str(caught.value)
    json.dumps(vars(TranslationConfig(model="m", source="en", target="az")))
