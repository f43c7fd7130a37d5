"""`lowclip-train translate` with tiny taught models of the real classes: families, engines, cache, drops."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from tiny_training import write_text_encoder
from tiny_translation import CHOSEN, pairs_of, run, translate
from tiny_translators import (
    CAPTIONS,
    MISTAKEN,
    MarianMTModel,
    convert_to_ctranslate2,
    translated,
    write_m2m100,
    write_madlad,
)

from lowclip_runtime.pairs import Pair, read_pairs, write_pairs


def test_all_rows_stay_and_each_translation_goes_with_its_caption(tmp_path: Path, nllb: Path) -> None:
    rows = [
        Pair("a.jpg", "red dog", "en", "train", ""),
        Pair("a.jpg", "  white   cat ", "en", "train", ""),
        Pair("b.jpg", "red dog", "en", "val", "b"),
        Pair("c.jpg", "blue sea", "en", "val", "c"),
        Pair("c.jpg", "göy dəniz", "az", "val", "c"),
        Pair("d.jpg", "rotes Haus", "de", "val", "d"),
    ]
    write_pairs(tmp_path / "pairs.tsv", rows)
    arguments = (tmp_path / "pairs.tsv", tmp_path / "az.tsv", "--model", nllb, "--from", "en", "--to", "az")
    result = run(*arguments)
    assert result.exit_code == 0 and "3 captions added; 0 dropped" in result.output, result.output
    written = read_pairs(tmp_path / "az.tsv")
    assert [(p.image, p.lang, p.split) for p in written[:6]] == [(p.image, p.lang, p.split) for p in rows]
    assert written[6:] == [
        Pair("a.jpg", "qırmızı it", "az", "train", "a.jpg#0"),
        Pair("a.jpg", "ağ pişik", "az", "train", "a.jpg#1"),
        Pair("b.jpg", "qırmızı it", "az", "val", "b"),
    ]
    assert [p.caption_id for p in written[:2]] == ["a.jpg#0", "a.jpg#1"]
    report = json.loads((tmp_path / "az.report.json").read_text("utf-8"))
    assert report["rows"] == {"read": 6, "source": 4, "already_translated": 1, "added": 3, "dropped": 0}
    assert report["unique_sentences"] == report["forward"]["translated_now"] == 2
    assert (report["forward"]["source_code"], report["forward"]["target_code"]) == ("eng_Latn", "azj_Latn")
    assert report["forward"]["sentences_per_s"] > 0 and {"torch", "transformers"} <= set(report["versions"])
    assert "exists already" in run(*arguments).output


def test_m2m100_with_its_own_tokenizer(tmp_path: Path) -> None:
    report, found = translate(CHOSEN, write_m2m100(tmp_path / "m2m100"), tmp_path / "run")
    assert found == {caption: translated(caption) for caption in CHOSEN}
    assert (report.forward.family, report.forward.target_code) == ("M2M100", "az")


@pytest.mark.parametrize("family", ["nllb", "marian"])
def test_both_engines_give_the_same(tmp_path: Path, family: str, request: pytest.FixtureRequest) -> None:
    model = request.getfixturevalue(family)
    expected = {caption: translated(caption) for caption in CHOSEN}
    assert translate(CHOSEN, model, tmp_path / "hf")[1] == expected
    converted = convert_to_ctranslate2(model, tmp_path / "converted")
    report, found = translate(CHOSEN, converted, tmp_path / "ct2", engine="ctranslate2")
    assert found == expected and report.rows["dropped"] == 0


def test_a_converted_model_must_know_the_language_token(tmp_path: Path, nllb: Path) -> None:
    converted = convert_to_ctranslate2(nllb, tmp_path / "converted")
    vocabulary = converted / "shared_vocabulary.json"
    vocabulary.write_text(vocabulary.read_text("utf-8").replace("azj_Latn", "azj_Xxxx"), "utf-8")
    pairs = pairs_of(["red dog"], tmp_path / "p.tsv")
    options = ("--model", converted, "--from", "en", "--to", "az", "--engine", "ctranslate2")
    assert "without the language token azj_Latn" in run(pairs, tmp_path / "o.tsv", *options).output


def test_translations_do_not_depend_on_their_batch(tmp_path: Path, nllb: Path) -> None:
    captions = [*CAPTIONS[::3], " ".join(CAPTIONS[:9])]  # of two buckets
    written = []
    for batch_tokens in (1, 12, 4096):
        translate(captions, nllb, tmp_path / str(batch_tokens), batch_tokens=batch_tokens)
        written.append((tmp_path / str(batch_tokens) / "out.tsv").read_bytes())
    assert written[0] == written[1] == written[2]


def test_what_was_translated_once_is_not_again(tmp_path: Path, nllb: Path) -> None:
    first, _ = translate(CHOSEN, nllb, tmp_path)
    assert (first.forward.from_cache, first.forward.translated_now) == (0, len(CHOSEN))
    before = (tmp_path / "out.tsv").read_bytes()
    moved = Path(shutil.copytree(nllb, tmp_path / "moved"))
    again, _ = translate(CHOSEN, moved, tmp_path)  # the model is known by its content
    assert (again.forward.from_cache, again.forward.translated_now) == (len(CHOSEN), 0)
    assert again.forward.sentences_per_s is None and (tmp_path / "out.tsv").read_bytes() == before
    more, _ = translate([*CHOSEN, CAPTIONS[10]], nllb, tmp_path)
    assert (more.forward.from_cache, more.forward.translated_now) == (len(CHOSEN), 1)
    for other in ({"beams": 1}, {"target_code": "tur_Latn"}):
        assert translate(CHOSEN, nllb, tmp_path, **other)[0].forward.from_cache == 0


def test_a_caption_of_too_many_tokens_is_dropped_whatever_the_cache_knows(tmp_path: Path, nllb: Path) -> None:
    captions = [*CHOSEN[:3], " ".join(CAPTIONS[:4])]
    translate(captions, nllb, tmp_path)
    first, found = translate(captions, nllb, tmp_path / "fresh", max_tokens=6)
    assert set(found) == set(CHOSEN[:3]) and first.dropped_by_reason == {"source too long": 1}
    again, same = translate(captions, nllb, tmp_path, max_tokens=6)
    assert same == found and again.dropped == first.dropped
    for report in (again, translate(captions, nllb, tmp_path / "fresh", max_tokens=6)[0]):
        assert (report.forward.from_cache, report.forward.translated_now) == (3, 0)
    longer, found = translate(captions, nllb, tmp_path / "fresh")
    assert set(found) == set(captions) and longer.forward.translated_now == 1


def test_back_translation_drops_what_comes_back_otherwise(tmp_path: Path, nllb: Path) -> None:
    encoder = write_text_encoder(tmp_path / "e5")
    options = {"back_model": str(nllb), "encoder": str(encoder), "min_similarity": 0.999}
    report, found = translate(CHOSEN, nllb, tmp_path / "run", **options)
    mistaken = [caption for caption in CHOSEN if MISTAKEN[0] in caption]
    assert mistaken and found == {c: translated(c) for c in CHOSEN if c not in mistaken}
    assert report.dropped_by_reason == {"back-translation unlike": len(mistaken)}
    for row in report.dropped:
        assert row.back_translation == row.caption.replace(*MISTAKEN)
        assert row.translation == translated(row.caption)
        assert row.similarity is not None and row.similarity < 0.999 and row.image.endswith(".jpg")
    assert report.back is not None and report.back.source_code == "azj_Latn"
    assert report.similarity_percentiles is not None and report.similarity_percentiles["p1"] < 0.999
    lenient, found = translate(CHOSEN, nllb, tmp_path / "run", **{**options, "min_similarity": -1.0})
    assert len(found) == len(CHOSEN) and lenient.back is not None and lenient.back.translated_now == 0


def test_a_model_that_is_told_its_target_only_translates_back(tmp_path: Path) -> None:
    """M2M100's codes are spelt like MADLAD's, which has none for the source."""
    there, back = write_m2m100(tmp_path / "m2m100"), write_madlad(tmp_path / "madlad")
    encoder = write_text_encoder(tmp_path / "e5")
    options = {"back_model": str(back), "encoder": str(encoder), "min_similarity": 0.999}
    report, found = translate(CHOSEN, there, tmp_path / "run", **options)
    assert found == {c: translated(c) for c in CHOSEN if MISTAKEN[0] not in c}
    assert report.back is not None
    assert (report.back.family, report.back.source_code, report.back.target_code) == ("MADLAD", None, "en")
    report, again = translate(CHOSEN, back, tmp_path / "both ways", **options)
    assert again == found and report.forward.source_code is None


def test_odd_sentences_are_translated_or_dropped_with_a_reason(
    tmp_path: Path, nllb: Path, marian: Path
) -> None:
    odd = [
        "🐶🐶", "...", "red " * 300, "a" * 10_000, "</s> red dog", "azj_Latn <pad> red dog", ">>tur<< red dog",
        "ĞÜŞİÖÇ ı İ", "e\u0301", "red\u200bdog", '"red" dog', "красная собака", "0", "red dog",
    ]  # fmt: skip
    for model in (nllb, marian):
        report, found = translate(odd, model, tmp_path / model.name)
        reasons = {row.caption: row.reason for row in report.dropped}
        assert set(found) | set(reasons) == {" ".join(one.split()) for one in odd}
        assert reasons["🐶🐶"] == reasons["..."] == "source without words"
        assert reasons[("red " * 300).strip()] == reasons["a" * 10_000] == "source too long"
        assert found["red dog"] == "qırmızı it" and all(text.strip() for text in found.values())


@pytest.mark.parametrize(
    ("token", "bias", "reason"), [("</s>", -1e4, "unfinished"), ("<unk>", 20.0, "unknown token")]
)
def test_what_a_model_cannot_say_is_dropped(
    tmp_path: Path, marian: Path, token: str, bias: float, reason: str
) -> None:
    """A decoder that never ends, and one that writes unknown pieces: real models with a bias on one token."""
    broken = Path(shutil.copytree(marian, tmp_path / "broken"))
    model = MarianMTModel.from_pretrained(broken)
    with torch.no_grad():
        model.final_logits_bias[0, {"</s>": 0, "<unk>": 1}[token]] = bias
    model.save_pretrained(broken)
    report, found = translate(CHOSEN[:3], broken, tmp_path / "run")
    assert found == {} and report.dropped_by_reason == {reason: 3}
