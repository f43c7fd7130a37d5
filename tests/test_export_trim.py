"""Vocabulary trimming: same pieces for known text, right numbering, nothing unknown, for both tokenizers."""

import gzip
import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_checkpoint import SPECIAL, TEXT, TINY_GEMMA, tiny_unigram, tiny_wordpiece, write_tiny_checkpoint
from tiny_training import tiny_config
from tokenizers import Tokenizer as HfTokenizer
from tokenizers import models, processors

from lowclip_export.trim import trim_checkpoint
from lowclip_runtime.errors import ConfigError, DatasetError
from lowclip_runtime.spec import TextSpec
from lowclip_runtime.text import Tokenizer, normalize_text
from lowclip_train.checkpoint import load_checkpoint
from lowclip_train.encoders import build_text_encoder
from lowclip_train.starting_model import keep_embedding_rows, read_corpora
from lowclip_train.trainer import train
from lowclip_train.trim_vocab import trim_tokenizer

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
    held_out = ["it qız - it", "it ağac !"]
    spec = replace(TEXT, prefix="query: ")  # no word of the held-out text, though its pieces are kept
    report = trim_tokenizer(tokenizer_json, ["it"], spec, held_out=held_out).report
    assert (report.running_words, report.distinct_words) == (5, 3)  # punctuation alone is no word
    # `it` stays, `qız` and `ağac` become letters
    assert report.running_words_resegmented == pytest.approx(2 / 5)
    assert report.distinct_words_resegmented == pytest.approx(2 / 3)


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


def test_a_table_that_scales_its_rows_still_does():
    encoder, _ = build_text_encoder({**TINY_GEMMA, "vocab_size": 9})
    before = encoder.get_input_embeddings()(torch.tensor([2, 5]))
    keep_embedding_rows(encoder, [0, 2, 5])
    assert torch.equal(encoder.get_input_embeddings()(torch.tensor([1, 2])), before)


def test_a_second_trimming_keeps_the_report_of_the_first(tmp_path: Path):
    whole = load_checkpoint(write_tiny_checkpoint(tmp_path / "checkpoint"))
    first = trim_checkpoint(whole, CORPUS, tmp_path / "first.json")
    second = trim_checkpoint(first, CORPUS[:1], tmp_path / "second.json", keep_latin=True)
    report = second.manifest.lineage["trimmed_vocabulary"]
    assert report["earlier"] == first.manifest.lineage["trimmed_vocabulary"]
    assert report["rows_before"] == report["earlier"]["rows_kept"]
    assert (report["keep_latin"], report["earlier"]["keep_latin"]) == (True, False)


LATIN = ("café", "##lər", "Paris", "dɨ", "e\u0301", "3.5", "o’c", "½", "ﬁ", "##-", "→")
OTHER = ("мир", "##мир", "aмир", "καλή", "平", "ab平", "١٢", "ｆｕｌｌ", "🙂")
SINGLE_OTHER = ("ё", "##ё")  # single Cyrillic letters stay without the flag too


def test_keep_latin_keeps_what_latin_letters_digits_and_punctuation_make_up(tmp_path: Path):
    pieces = ["[UNK]", *LATIN, *OTHER, *SINGLE_OTHER, "it"]
    made = HfTokenizer(models.WordPiece({piece: i for i, piece in enumerate(pieces)}, unk_token="[UNK]"))
    made.save(str(tmp_path / "tokenizer.json"))

    def kept(lowercase: str, keep_latin: bool) -> set[str]:
        spec = TextSpec(lowercase=lowercase)  # type: ignore[arg-type]
        trimmed = trim_tokenizer(tmp_path / "tokenizer.json", ["it"], spec, keep_latin=keep_latin)
        assert trimmed.report.keep_latin == keep_latin
        return set(vocabulary(trimmed.tokenizer_json))

    always = {"[UNK]", "it", *SINGLE_OTHER}
    assert kept("none", True) == {*always, *LATIN}
    assert kept("azerbaijani", True) == {*always, *LATIN} - {"Paris"}  # no lowered text has a capital
    assert kept("none", False) == {*always, "½", "ﬁ", "##-", "→"}


def test_with_keep_latin_no_latin_text_changes(tokenizer_json: Path):
    trimmed = trim_tokenizer(tokenizer_json, ["it"], TEXT, keep_latin=True, held_out=["girl in the sea, qız"])
    assert trimmed.report.running_words_resegmented == 0
    for text in ("qırmızı paltarlı qız", "girl: red dog!", "kitab"):
        assert tokens(trimmed.tokenizer_json, text) == tokens(tokenizer_json, text)


def test_pieces_count_wherever_they_stand_in_a_long_line(tokenizer_json: Path):
    """A corpus may hold a book a line, while the model reads 24 tokens."""
    book = " ".join(["it"] * 5000 + ["qız"] + ["x" * 9000, "ağac"])
    trimmed = trim_tokenizer(tokenizer_json, [book], TEXT)
    for word in ("qız", "ağac"):
        assert tokens(trimmed.tokenizer_json, word) == tokens(tokenizer_json, word)
        assert len(tokens(trimmed.tokenizer_json, word)) == 3  # [CLS], the whole word, [SEP]


CORPUS_FILES = {
    "lines.txt": ("qız\r\n\nit üzür", ["qız", "it üzür"]),
    "bom.txt": ("\ufeffqız\n", ["qız"]),
    "columns.tsv": ("1.jpg\tqız\tgirl\nCOCO_train_2.PNG#3\tit.\tdog.\n", ["qız", "girl", "it.", "dog."]),
    "pairs.tsv": ("image\tlang\tcaption\n1.jpg\taz\tqız\n2.jpg\taz\n", ["qız"]),
}


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("name", CORPUS_FILES)
def test_corpora_are_lines_columns_or_captions_compressed_or_not(tmp_path: Path, name: str, compressed: bool):
    content, expected = CORPUS_FILES[name]
    path = tmp_path / (f"{name}.gz" if compressed else name)
    path.write_bytes(gzip.compress(content.encode()) if compressed else content.encode())
    assert list(read_corpora([str(path)])) == expected


@pytest.mark.parametrize(
    "content",
    [None, b"\xff\xfe\x00", gzip.compress(b"it" * 999)[:-9], b"\x1f\x8bno", gzip.compress(b"\xff\xff")],
    ids=["missing", "not text", "cut off", "not gzip", "gzip of no text"],
)
def test_what_is_no_text_is_refused_with_its_name(tmp_path: Path, content: bytes | None):
    path = tmp_path / "corpus.gz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DatasetError, match=r"corpus\.gz: a vocabulary corpus must be"):
        list(read_corpora([str(path)]))


def test_training_records_what_it_trimmed(tmp_path: Path):
    config = tiny_config(tmp_path, epochs=1)
    made = HfTokenizer.from_file(str(tmp_path / "bert/tokenizer.json"))
    made.model = models.WordPiece(made.get_vocab(), unk_token="[UNK]")
    made.add_special_tokens(["[PAD]", "[UNK]", "[CLS]", "[SEP]"])
    made.save(str(tmp_path / "bert/tokenizer.json"))
    (tmp_path / "corpus.txt").write_text("a picture, qırmızı şəkil", "utf-8")
    towers = replace(config.towers, vocabulary_corpora=(str(tmp_path / "corpus.txt"),))
    config = replace(config, towers=towers, distillation=None)
    opened = load_checkpoint(train(config, tmp_path / "run", max_steps=2))
    report = opened.manifest.lineage["trimmed_vocabulary"]
    rows = opened.model.text_tower.encoder.get_input_embeddings().num_embeddings
    assert (report["rows_before"], report["rows_kept"]) == (made.get_vocab_size(), rows)
    assert rows < made.get_vocab_size()
    whole = load_checkpoint(train(tiny_config(tmp_path, epochs=1), tmp_path / "whole", max_steps=2))
    assert "trimmed_vocabulary" not in whole.manifest.lineage


def is_held_out(text: str) -> bool:
    """One caption in two, as `benchmarks/vocabulary_bench.py` has it."""
    return hashlib.sha256(text.encode()).digest()[0] % 2 == 0


@pytest.mark.shared_data
@pytest.mark.slow
@needs_data
@pytest.mark.parametrize(("lowercase", "rows"), [("none", 17_800), ("azerbaijani", 13_000)])
def test_mbert_keeps_under_a_sixth_of_its_rows_and_held_out_captions_stay_whole(lowercase: str, rows: int):
    """The requirement: about 20,500 rows re-segment under 2.5 % of running words and add no unknowns."""
    spec = TextSpec(lowercase=lowercase)  # type: ignore[arg-type]
    files = [str(DATA / "text" / f"{name}_az_en_tr.tsv") for name in ("xtd200", "flickr30k-200")]
    captions = list(read_corpora(files))
    words = [
        str(DATA / "text" / name) for name in ("gcompris_words_en_az.tsv", "tesseract_aze_wordlist.txt.gz")
    ]
    corpus = [*(text for text in captions if not is_held_out(text)), *read_corpora(words)]
    held_out = [text for text in captions if is_held_out(text)]
    trimmed = trim_tokenizer(DATA / "mbert/tokenizer.json", corpus, spec, held_out=held_out)
    report = trimmed.report
    assert report.rows_before == 119_547
    assert report.rows_kept == pytest.approx(rows, rel=0.02)
    assert report.running_words is not None and report.running_words > 25_000
    assert report.running_words_resegmented < 0.025
    assert report.unknown_after == report.unknown_before
    assert json.loads(trimmed.tokenizer_json)["model"]["vocab"]["[PAD]"] == 0
    for text in corpus[:50]:
        assert tokens(trimmed.tokenizer_json, text, spec) == tokens(DATA / "mbert/tokenizer.json", text, spec)


def test_nothing_of_the_given_file_changes(tokenizer_json: Path):
    before = tokenizer_json.read_bytes()
    trim_tokenizer(tokenizer_json, CORPUS, TEXT)
    assert tokenizer_json.read_bytes() == before
