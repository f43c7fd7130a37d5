"""`hf_tokenizer.py`: the bundle's `tokenizer.json` alone gives the ids that our own normalization gives.

Two promises. Our runtime, which normalizes before it tokenizes, reads the same ids by the bundle's file as by
the checkpoint's. And a client that knows only the bundle's file, given the raw text, gets those ids too.
"""

import csv
import json
import unicodedata
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from interop_clients import needs_node, run_node
from tiny_checkpoint import TEXT, tiny_unigram, tiny_wordpiece
from tokenizers import Tokenizer as HfTokenizer

from lowclip_export.hf_files import tokenizer_config
from lowclip_export.hf_tokenizer import with_normalization, write_bundle_tokenizer
from lowclip_runtime.errors import TextError
from lowclip_runtime.shipped import shipped_bundle
from lowclip_runtime.spec import TextSpec
from lowclip_runtime.text import Tokenizer, normalize_text
from lowclip_train.trim_vocab import trim_tokenizer

REAL_CAPTIONS = Path(__file__).resolve().parents[2] / "shared/data/flickr8k/captions.tsv"
SPECS = {
    "lower": replace(
        TEXT, max_tokens=512
    ),  # longer than all texts here: what truncation does is test_interop's
    "prefix": replace(TEXT, max_tokens=512, prefix="query: "),
    # what a pattern could misread, white space that would be squeezed, letters that would be lowered
    "odd prefix": replace(TEXT, max_tokens=512, prefix="I Query (a/b)?  "),
    "cyrillic": replace(TEXT, max_tokens=512, prefix="query: ", from_cyrillic=True),
    "case": replace(TEXT, max_tokens=512, lowercase="none", prefix="query: "),
}
AWKWARD = (
    "QIRMIZI PALTARLI QIZ", "IŞIQ", "İT I it ı", "I see an IT image", "I\nə", "ə\nI", "İ", "I İ", "“it” – ‘qız’…",
    " it \u00a0\t\n qız\u3000", "query", "  query: it", "pi\u00adşik\u200b \ufeffit", "ΣΑΣ ΟΔΟΣ", "ГЫРМЫЗЫ МАШЫН",
    "it\u001cqız", "it\u0085qız", "ﬁ Ⅷ ㎏ ＩＴ", unicodedata.normalize("NFD", "Göy Pişik İ üçün"), "汉字 it",
    "QIRMIZI İT".lower(), "i\u0307\u0301 ə", "I\u0307t", "İ\u0307\u0307t",
    "🐈 it 🐕\u200d🦺", "$& $1 it", "a" * 150, "I" * 300 + "ə", "ə" + " I" * 100, "it, pişik; qız? (ev)! #1 50%",
)  # fmt: skip
# what stands near one another only rarely in random texts
PIECES = [
    "I",
    "İ",
    "ı",
    "i",
    "ə",
    "Ə",
    "q",
    "Σ",
    " ",
    "\u00a0",
    "\u200b",
    "\u00ad",
    "\u0307",
    "…",
    "“",
    "query: ",
    "<s>",
    "[SEP]",
    "e\u200b\u0301",
    "Ҹ",
    "ы",
    "е\u0301",
    "J\u030c",
]
TEXTS = st.lists(st.sampled_from(PIECES) | st.text(max_size=4), max_size=12).map("".join)


@dataclass(frozen=True, kw_only=True)
class Readers:
    """Our runtime with the checkpoint's file, our runtime with the bundle's, and the bundle's file alone."""

    before: Tokenizer
    after: Tokenizer
    alone: HfTokenizer

    def check(self, text: str) -> None:
        expected = self.before.token_ids([text])[0]
        assert self.after.token_ids([text])[0] == expected
        # told in the model card: only LowCLIP puts the prefix before a prefix, and takes `<s>` for text
        if not text.startswith(self.after.spec.prefix or "\0") and not self._names_a_special_token(text):
            assert self.alone.encode(text).ids == expected

    def _names_a_special_token(self, text: str) -> bool:
        plain = unicodedata.normalize("NFKC", f"{text} {normalize_text(text, self.after.spec)}").lower()
        special = self.alone.get_added_tokens_decoder().values()
        return any(token.content.lower() in plain for token in special)


@pytest.fixture(scope="module", params=["unigram", "wordpiece", "shipped"])
def source(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `tokenizer.json` as a checkpoint has it."""
    path = tmp_path_factory.mktemp("source") / f"{request.param}.json"
    if request.param == "shipped":
        path.write_text(
            _as_in_the_checkpoint((shipped_bundle() / "tokenizer.json").read_text("utf-8")), "utf-8"
        )
    else:
        (tiny_unigram() if request.param == "unigram" else tiny_wordpiece()).save(str(path))
    return path


@pytest.fixture(scope="module", params=SPECS)
def readers(
    request: pytest.FixtureRequest, source: Path, tmp_path_factory: pytest.TempPathFactory
) -> Readers:
    spec = SPECS[request.param]
    path = tmp_path_factory.mktemp("bundle") / "tokenizer.json"
    write_bundle_tokenizer(source, path, spec)
    return Readers(
        before=Tokenizer(source, spec), after=Tokenizer(path, spec), alone=HfTokenizer.from_file(str(path))
    )


@pytest.mark.parametrize("text", AWKWARD)
def test_awkward_texts_have_the_same_ids(text: str, readers: Readers) -> None:
    readers.check(text)


@settings(deadline=None, max_examples=100)
@given(text=TEXTS)
def test_any_text_has_the_same_ids(text: str, readers: Readers) -> None:
    assume(_is_text(text, readers.after.spec))
    readers.check(text)


@pytest.mark.shared_data
@pytest.mark.skipif(not REAL_CAPTIONS.is_file(), reason="the real captions are not here")
def test_real_captions_have_the_same_ids(readers: Readers) -> None:
    with REAL_CAPTIONS.open(encoding="utf-8", newline="") as file:
        captions = [row["caption"] for row in csv.DictReader(file, delimiter="\t")][::20]
    captions += [caption.upper().replace("I", "İ" if i % 2 else "I") for i, caption in enumerate(captions)]
    expected = readers.before.token_ids(captions)
    assert readers.after.token_ids(captions) == expected
    assert [one.ids for one in readers.alone.encode_batch_fast(captions)] == expected


def test_every_character_is_normalized_as_ours(readers: Readers) -> None:
    """Beside letters, so that white space and marks count; less ideographs, Hangul and what Python does not know."""
    spec, normalizer = readers.after.spec, HfTokenizer.from_str(_only_ours(readers.after.spec)).normalizer
    categories = (
        "Cn",
        "Co",
        "Cs",
        "Lo",
    )  # Lo has no case; its letters that change are compared by the next line
    characters = [chr(i) for i in range(0x20000) if unicodedata.category(chr(i)) not in categories]
    characters += [c for c in map(chr, range(0x3400)) if unicodedata.category(c) == "Lo"]
    assert len(characters) > 15_000
    for character in characters:
        expected = normalize_text(f"aI{character}Ib", spec)
        assert normalizer.normalize_str(f"aI{character}Ib") == expected, hex(ord(character))
        assert normalizer.normalize_str(expected) == expected, hex(ord(character))


def test_a_special_tokens_name_parts_the_text_for_clients_that_know_only_the_file(tmp_path: Path) -> None:
    """Told in the model card: the library cuts such names out first and normalizes what stands around them."""
    tiny_wordpiece().save(str(tmp_path / "source.json"))
    write_bundle_tokenizer(tmp_path / "source.json", tmp_path / "tokenizer.json", SPECS["prefix"])
    alone = HfTokenizer.from_file(str(tmp_path / "tokenizer.json"))
    tokens = alone.encode("it [SEP] qız").tokens
    assert tokens[tokens.index("[SEP]") + 1] == "q"  # the first letter of a second prefix, `query: `
    assert tokens.count("[SEP]") == 2


def test_writing_twice_changes_nothing(tmp_path: Path) -> None:
    tiny_unigram().save(str(tmp_path / "source.json"))
    for spec in SPECS.values():
        write_bundle_tokenizer(tmp_path / "source.json", tmp_path / "once.json", spec)
        write_bundle_tokenizer(tmp_path / "once.json", tmp_path / "twice.json", spec)
        assert (tmp_path / "twice.json").read_bytes() == (tmp_path / "once.json").read_bytes()


def test_the_trimmer_keeps_the_normalization(tmp_path: Path) -> None:
    tiny_unigram().save(str(tmp_path / "source.json"))
    write_bundle_tokenizer(tmp_path / "source.json", tmp_path / "tokenizer.json", SPECS["prefix"])
    trimmed = trim_tokenizer(tmp_path / "tokenizer.json", ["QIRMIZI İT"], SPECS["prefix"])
    whole = HfTokenizer.from_file(str(tmp_path / "tokenizer.json"))
    cut = HfTokenizer.from_str(trimmed.tokenizer_json)
    assert cut.encode("İT QIRMIZI").tokens == whole.encode("İT QIRMIZI").tokens


@needs_node
def test_transformers_js_reads_the_same_ids(readers: Readers, tmp_path: Path) -> None:
    spec = readers.after.spec
    texts = [text for text in AWKWARD if text != "\0"]
    content = json.loads(readers.alone.to_str())
    (tmp_path / "tokenizer.json").write_text(json.dumps(content), "utf-8")
    config = tokenizer_config(spec, content["added_tokens"])
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config), "utf-8")
    found = run_node("tokenizer_client.mjs", {"folder": str(tmp_path), "texts": texts}, tmp_path)
    differing = {
        text: (ids, expected)
        for text, ids, expected in zip(texts, found, readers.before.token_ids(texts), strict=True)
        if ids != expected
    }
    assert not differing


def _as_in_the_checkpoint(bundle_tokenizer: str) -> str:
    """The shipped file less our normalization, where it has that: e5's own, as training left it."""
    content = json.loads(bundle_tokenizer)
    steps = content["normalizer"]["normalizers"]
    content["normalizer"]["normalizers"] = steps[
        next(i for i, one in enumerate(steps) if one["type"] == "NFKC") :
    ]
    return json.dumps(content)


def _only_ours(spec: TextSpec) -> str:
    content = json.loads(tiny_unigram().to_str())
    return json.dumps(with_normalization({**content, "normalizer": None}, spec))


def _is_text(text: str, spec: TextSpec) -> bool:
    """Whether anything is left to search for; what is not is refused, which `test_text` checks."""
    try:
        normalize_text(text, spec)
    except TextError:
        return False
    return True
