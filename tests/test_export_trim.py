"""Vocabulary trimming: same pieces for known text, right numbering, nothing unknown, for both tokenizers."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_checkpoint import SPECIAL, TEXT, tiny_unigram, tiny_wordpiece, write_tiny_checkpoint
from tokenizers import Tokenizer as HfTokenizer
from tokenizers import models, processors

from lowclip_export.trim import trim_checkpoint
from lowclip_runtime.errors import ConfigError
from lowclip_runtime.spec import TextSpec
from lowclip_runtime.text import Tokenizer, normalize_text
from lowclip_train.checkpoint import load_checkpoint
from lowclip_train.trim_vocab import TrimmedVocabulary, trim_tokenizer

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
needs_data = pytest.mark.skipif(not (DATA / "mbert").is_dir(), reason="needs ../shared/data/mbert")
CORPUS = ("qırmızı paltarlı qız", "dənizdə üzən it", "red dog")


@pytest.fixture(params=["wordpiece", "unigram"])
def tokenizer_json(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    made = tiny_wordpiece() if request.param == "wordpiece" else tiny_unigram(["paltar", "kitab"])
    made.save(str(tmp_path / "tokenizer.json"))
    return tmp_path / "tokenizer.json"


def tokens(tokenizer_json: str | Path, text: str, spec: TextSpec = TEXT) -> list[str]:
    content = tokenizer_json.read_text("utf-8") if isinstance(tokenizer_json, Path) else tokenizer_json
    return HfTokenizer.from_str(content).encode(normalize_text(text, spec)).tokens


def vocabulary(tokenizer_json: str) -> dict[str, int]:
    return HfTokenizer.from_str(tokenizer_json).get_vocab()


def test_texts_of_the_corpus_keep_their_pieces(tokenizer_json: Path):
    trimmed = trim_tokenizer(tokenizer_json, CORPUS, TEXT)
    assert trimmed.report.rows_kept < trimmed.report.rows_before
    for text in CORPUS:
        assert tokens(trimmed.tokenizer_json, text) == tokens(tokenizer_json, text)


def test_new_ids_are_the_old_ones_renumbered_in_their_old_order(tokenizer_json: Path):
    trimmed = trim_tokenizer(tokenizer_json, CORPUS, TEXT)
    old = vocabulary(tokenizer_json.read_text("utf-8"))
    for piece, new_id in vocabulary(trimmed.tokenizer_json).items():
        assert trimmed.kept_rows[new_id] == old[piece]
    assert np.all(np.diff(trimmed.kept_rows) > 0)
    assert [trimmed.new_id(i) for i in range(len(SPECIAL))] == list(range(len(SPECIAL)))


def test_special_tokens_stand_around_a_text_with_their_new_ids(tmp_path: Path):
    """mBERT's [CLS] is row 101: the post-processor's ids must follow."""
    pieces = [*(f"w{i}" for i in range(100)), "[UNK]", "[CLS]", "[SEP]", "it"]
    made = HfTokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    made.add_special_tokens(["[CLS]", "[SEP]", "[UNK]"])
    made.post_processor = processors.BertProcessing(("[SEP]", 102), ("[CLS]", 101))
    made.save(str(tmp_path / "tokenizer.json"))
    trimmed = trim_tokenizer(tmp_path / "tokenizer.json", ["it"], TextSpec())
    assert trimmed.kept_rows.tolist() == [100, 101, 102, 103]
    assert HfTokenizer.from_str(trimmed.tokenizer_json).encode("it").ids == [1, 3, 2]


def test_unigram_keeps_its_unknown_token(tmp_path: Path):
    tiny_unigram().save(str(tmp_path / "tokenizer.json"))
    trimmed = trim_tokenizer(tmp_path / "tokenizer.json", CORPUS, TEXT)
    encoded = HfTokenizer.from_str(trimmed.tokenizer_json).encode("漢", add_special_tokens=False)
    assert "[UNK]" in encoded.tokens or SPECIAL.index("[UNK]") in encoded.ids


def test_single_letters_digits_and_punctuation_stay_whatever_the_corpus(tokenizer_json: Path):
    trimmed = trim_tokenizer(tokenizer_json, ["it"], TEXT, held_out=["şəkər, 3 ağac!"])
    assert "[UNK]" not in tokens(trimmed.tokenizer_json, "ğüşöçəı 0 1 2 3 4 5 6 7 8 9 . , ! ? -")
    assert trimmed.report.unknown_after == trimmed.report.unknown_before == 0


def test_capital_letters_go_where_the_text_is_lowercased(tmp_path: Path):
    pieces = {"[UNK]": 0, "Q": 1, "q": 2, "##Q": 3, "##q": 4, "Ə": 5, "ə": 6}
    made = HfTokenizer(models.WordPiece(pieces, unk_token="[UNK]"))
    made.save(str(tmp_path / "tokenizer.json"))
    kept = trim_tokenizer(tmp_path / "tokenizer.json", ["q"], TextSpec(lowercase="azerbaijani")).kept_rows
    assert kept.tolist() == [0, 2, 4, 6]
    assert len(trim_tokenizer(tmp_path / "tokenizer.json", ["q"], TextSpec()).kept_rows) == 7


def test_pieces_are_counted_after_normalization(tokenizer_json: Path):
    """QIZ in capitals is `qız` in an Azerbaijani text, and never `qiz`."""
    trimmed = trim_tokenizer(tokenizer_json, ["QIRMIZI PALTARLI QIZ, DƏNİZ"], TEXT)
    assert tokens(trimmed.tokenizer_json, "qırmızı paltarlı qız") == tokens(
        tokenizer_json, "qırmızı paltarlı qız"
    )


def test_the_report_counts_words_that_fall_apart(tokenizer_json: Path):
    report = trim_tokenizer(tokenizer_json, ["it"], TEXT, held_out=["it qız", "it ağac"]).report
    assert report.held_out_words == 3
    assert report.resegmented == pytest.approx(2 / 3)  # `it` stays, `qız` and `ağac` become letters


def test_min_count_drops_rare_pieces(tokenizer_json: Path):
    corpus = ["it it it", "qız"]
    often = trim_tokenizer(tokenizer_json, corpus, TEXT, min_count=2)
    assert len(tokens(often.tokenizer_json, "it")) == 3
    assert len(tokens(often.tokenizer_json, "qız")) > 3


def test_an_unwritten_id_is_refused(tokenizer_json: Path):
    trimmed = trim_tokenizer(tokenizer_json, CORPUS, TEXT)
    dropped = next(i for i in range(trimmed.report.rows_before) if i not in set(trimmed.kept_rows.tolist()))
    with pytest.raises(ConfigError, match="not in the trimmed vocabulary"):
        trimmed.new_id(dropped)


@pytest.mark.parametrize("corpus", [[], ["", "   "]])
def test_corpora_without_text_are_refused(tokenizer_json: Path, corpus: list[str]):
    with pytest.raises(ConfigError, match="no text"):
        trim_tokenizer(tokenizer_json, corpus, TEXT)


def test_other_kinds_of_tokenizers_are_refused(tmp_path: Path):
    HfTokenizer(models.BPE({"a": 0}, [])).save(str(tmp_path / "bpe.json"))
    (tmp_path / "broken.json").write_text("{")
    with pytest.raises(ConfigError, match="not BPE"):
        trim_tokenizer(tmp_path / "bpe.json", ["a"], TEXT)
    with pytest.raises(ConfigError, match="not a readable"):
        trim_tokenizer(tmp_path / "broken.json", ["a"], TEXT)


@pytest.mark.parametrize("kind", ["wordpiece", "unigram"])
def test_a_trimmed_checkpoint_gives_the_same_embeddings(tmp_path: Path, kind: str):
    whole = load_checkpoint(write_tiny_checkpoint(tmp_path / "checkpoint", tokenizer=kind))
    trimmed = trim_checkpoint(whole, CORPUS, tmp_path / "trimmed.json")
    before = Tokenizer(whole.tokenizer_path, whole.manifest.text)(CORPUS)
    after = Tokenizer(trimmed.tokenizer_path, trimmed.manifest.text)(CORPUS)
    with torch.no_grad():
        expected = whole.model.text_tower(*map(torch.from_numpy, before))
        found = trimmed.model.text_tower(*map(torch.from_numpy, after))
    assert torch.equal(found, expected)  # the very same rows go through the very same weights
    rows = [one.model.text_tower.encoder.get_input_embeddings().num_embeddings for one in (whole, trimmed)]
    report = trimmed.manifest.lineage["trimmed_vocabulary"]
    assert rows == [report["rows_before"], report["rows_kept"]]  # the given model is not cut
    assert rows[0] > rows[1]


@pytest.mark.shared_data
@pytest.mark.slow
@needs_data
def test_mbert_keeps_captions_whole_and_knows_as_much_as_before():
    captions = (DATA / "text/xtd200_az_en_tr.tsv").read_text("utf-8").splitlines()
    corpus = [field for line in captions for field in line.split("\t")[1:3]]
    held_out = [
        line.split("\t")[1]
        for line in (DATA / "text/flickr30k-200_az_en_tr.tsv").read_text("utf-8").splitlines()
    ]
    trimmed: TrimmedVocabulary = trim_tokenizer(
        DATA / "mbert/tokenizer.json", corpus, TextSpec(), held_out=held_out
    )
    assert trimmed.report.rows_before == 119_547
    assert trimmed.report.rows_kept < 12_000
    assert trimmed.report.unknown_after == trimmed.report.unknown_before
    assert json.loads(trimmed.tokenizer_json)["model"]["vocab"]["[PAD]"] == 0
    for text in corpus[:50]:
        assert tokens(trimmed.tokenizer_json, text, TextSpec()) == tokens(
            DATA / "mbert/tokenizer.json", text, TextSpec()
        )


def test_nothing_of_the_given_file_changes(tokenizer_json: Path):
    before = tokenizer_json.read_bytes()
    trim_tokenizer(tokenizer_json, CORPUS, TEXT)
    assert tokenizer_json.read_bytes() == before
