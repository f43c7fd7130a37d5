"""From a caption or query to `input_ids` and `attention_mask`.

`normalize_text` is the project's one text normalization (Azerbaijani casing, typographic marks, white space);
`Tokenizer` applies it, then a Hugging Face `tokenizer.json`. Training and serving call the same code.
Trimming a vocabulary is the export package's work.
"""

import contextlib
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer as HfTokenizer
from tokenizers.models import Unigram

from lowclip_runtime.capitals import dotted_capitals
from lowclip_runtime.diacritics import AZERBAIJANI_LETTERS
from lowclip_runtime.emoji_names import named_emoji
from lowclip_runtime.errors import ConfigError, TextError, first_line
from lowclip_runtime.loose_marks import without_drawn_out_letters, without_loose_marks
from lowclip_runtime.missing_diacritics import restore_diacritics
from lowclip_runtime.photo_words import without_photo_words
from lowclip_runtime.scripts import in_one_script
from lowclip_runtime.spec import TextSpec
from lowclip_runtime.spelled_letters import read_spelled_letters

# mBERT's vocabulary holds none of these, and people's phones write all of them.
TYPOGRAPHIC = str.maketrans(
    {
        "“": '"', "”": '"', "„": '"', "‟": '"', "«": '"', "»": '"',
        "‘": "'", "’": "'", "‚": "'", "‛": "'", "ʼ": "'", "`": "'", "´": "'",
        "‐": "-", "‑": "-", "‒": "-", "–": "-", "—": "-", "―": "-", "−": "-",
        "…": "...",
        # letters that look like Azerbaijani ones, of Pan-Nigerian, Romanian and older Azerbaijani keyboards
        "ǝ": "ə", "Ǝ": "Ə", "ș": "ş", "Ș": "Ş", "ǧ": "ğ", "Ǧ": "Ğ",
        # what cannot be seen: hyphenation, joining, direction of writing, how an emoji is drawn
        **dict.fromkeys(map(chr, (0xAD, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2065),
                                  *range(0x2066, 0x206A), 0xFE0E, 0xFE0F, 0xFEFF))),
    }
)  # fmt: skip
# What İ becomes where software lowers it by no language's rules, as Python and JavaScript do. All dots at once, so that
# what was normalized stays as it is.
_DOTTED_I = re.compile("i\u0307+")
_AZERBAIJANI_LOWER = str.maketrans({"İ": "i", "I": "ı"})
# The Azerbaijani alphabet of 1958 to 1991, and the Russian letters that it was written with before and in names; small
# letters only, since case cannot be kept where one letter becomes two.
AZERBAIJANI_CYRILLIC = {
    **dict(zip("абвгғдеәжзиыјкҝлмноөпрстуүфхһчҹшэйцщ", "abvqğdeəjziıykglmnoöprstuüfxhçcşeysş", strict=True)),
    "ю": "yu", "я": "ya", "ё": "yo",
}  # fmt: skip
_FROM_CYRILLIC = str.maketrans(AZERBAIJANI_CYRILLIC)
_SURROGATE = re.compile("[\ud800-\udfff]")  # how Python hands over bytes that are no UTF-8
_SPACES = re.compile(r"\s+")
# A caption is a few hundred characters; what lies beyond this cannot reach `max_tokens`, it only costs time.
_CHARACTERS_PER_TOKEN = 32


def normalize_text(text: str, spec: TextSpec) -> str:
    """One caption or query as the tokenizer should see it, `spec.prefix` included.

    `str.lower` alone turns İ into two code points and I into i, both wrong in Azerbaijani; so `azerbaijani`
    lowers İ → i, also where others have made those two of it, and I → ı where the text holds a letter that
    English does not have. `from_cyrillic` writes Cyrillic letters as the Latin ones of today's alphabet, and
    `restore_diacritics` qirmizi as qırmızı, ushaq as uşaq, DƏNIZ as DƏNİZ, #gözəəəl as gözəl, "it". and it şəkilləri
    as it and 🐶 as dog face, and with `from_cyrillic` words of both scripts in one.

    Raises:
        TextError: `text` is not a string, not valid Unicode, or empty once white space is removed.
    """
    if not isinstance(text, str):
        raise TextError(f"a text must be a string, not {type(text).__name__}")
    cut = text.lstrip()[: spec.max_tokens * _CHARACTERS_PER_TOKEN]
    clean = unicodedata.normalize("NFC", cut).translate(TYPOGRAPHIC)
    clean = unicodedata.normalize(
        "NFC", clean
    )  # a letter and its mark, where what stood between them is gone
    if spec.restore_diacritics:
        clean = without_loose_marks(_DOTTED_I.sub("i", clean))  # a dot is no letter
    clean = _SPACES.sub(" ", clean).strip()
    if _SURROGATE.search(clean):
        raise TextError(f"the text {clean!a} is not valid UTF-8; type it again, or save its file as UTF-8")
    if not clean:
        raise TextError("the text is empty; write a word or a sentence to search for")
    if spec.lowercase == "azerbaijani":
        clean = lower_azerbaijani(dotted_capitals(clean) if spec.restore_diacritics else clean)
    return spec.prefix + _as_meant(clean, spec)


def _as_meant(text: str, spec: TextSpec) -> str:
    """`text`, in small letters, in today's alphabet with all its letters, as far as `spec` asks for it."""
    if spec.from_cyrillic and spec.restore_diacritics:
        text = in_one_script(text, AZERBAIJANI_CYRILLIC)
    latin = unicodedata.normalize("NFC", text.translate(_FROM_CYRILLIC)) if spec.from_cyrillic else text
    if not spec.restore_diacritics:
        return latin
    plain = without_drawn_out_letters(latin)
    if latin == text:  # Cyrillic has every letter: what lacks none is meant so
        plain = restore_diacritics(read_spelled_letters(plain))
    return named_emoji(without_photo_words(plain))


def lower_azerbaijani(text: str) -> str:
    """`text` in lower case by Azerbaijani rules where it is Azerbaijani, by the usual ones elsewhere."""
    if AZERBAIJANI_LETTERS.search(text):
        text = text.translate(_AZERBAIJANI_LOWER)
    lowered = _DOTTED_I.sub("i", text.lower())
    return unicodedata.normalize("NFC", lowered)  # J̌ is two characters, ǰ is one


class Tokenizer:
    """A Hugging Face `tokenizer.json` with our normalization, truncation and padding.

    Args:
        path: the `tokenizer.json` file.
        spec: what the text tower expects.

    Raises:
        ConfigError: the file cannot be read as a tokenizer.
    """

    def __init__(self, path: str | Path, spec: TextSpec) -> None:
        self.spec = spec
        self._path = path
        with _tokenizer_errors(path):
            self._tokenizer = HfTokenizer.from_file(str(path))
        # else `<s>` in a query is cut out before anything is normalized; a Unigram piece of that name it stays
        self._tokenizer.encode_special_tokens = True
        if isinstance(self._tokenizer.model, Unigram):
            # it remembers the pieces of each word, which is a whole text where words are not split: 11 MB of 20,000
            # texts (a release without the method is left as it is)
            getattr(self._tokenizer.model, "_resize_cache", lambda _capacity: None)(0)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(spec.max_tokens)

    @property
    def vocab_size(self) -> int:
        """How many rows the text tower's embedding table must have."""
        return int(self._tokenizer.get_vocab_size(with_added_tokens=True))

    def token_ids(self, texts: Sequence[str]) -> list[list[int]]:
        """Texts → one unpadded list of token ids each.

        Raises:
            TextError: a text is empty or not a string.
            ConfigError: the tokenizer fails on one.
        """
        normalized = [self._normalize(texts, i) for i in range(len(texts))]
        with _tokenizer_errors(self._path):
            if len(normalized) == 1:  # needs no threads, which may be forbidden
                return [self._tokenizer.encode(normalized[0]).ids]
            return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(normalized)]

    def _normalize(self, texts: Sequence[str], position: int) -> str:
        try:
            return normalize_text(texts[position], self.spec)
        except TextError as error:
            if len(texts) == 1:
                raise
            raise TextError(f"texts[{position}]: {error}") from error

    def __call__(self, texts: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Texts → `input_ids`, `attention_mask`, both (N, L) int64, L the longest of the batch."""
        return pad(self.token_ids(texts), self.spec.pad_token_id)


@contextlib.contextmanager
def _tokenizer_errors(path: str | Path) -> Iterator[None]:
    """tokenizers raises a bare Exception for every kind of bad file, or panics, which derives from BaseException."""
    try:
        yield
    except BaseException as error:
        if type(error) is not Exception and type(error).__name__ != "PanicException":
            raise
        raise ConfigError(f"{path}: not a readable tokenizer.json ({first_line(error)})") from error


def pad(token_ids: Sequence[Sequence[int]], pad_token_id: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows of token ids → `input_ids`, `attention_mask`, both (N, L) int64, L the longest row."""
    longest = max((len(row) for row in token_ids), default=0)
    input_ids = np.full((len(token_ids), longest), pad_token_id, np.int64)  # (N, L)
    attention_mask = np.zeros((len(token_ids), longest), np.int64)  # (N, L)
    for i, row in enumerate(token_ids):
        input_ids[i, : len(row)] = row
        attention_mask[i, : len(row)] = 1
    return input_ids, attention_mask


def token_batches(
    by_length: Sequence[int], lengths: Sequence[int], batch_size: int | None, most_tokens: int
) -> Iterator[list[int]]:
    """Cut rows that are sorted by length, so that no batch has too many tokens, padding included, or texts."""
    batch: list[int] = []
    for row in by_length:
        full = len(batch) * lengths[row] + lengths[row] > most_tokens
        if batch and (full or len(batch) == batch_size):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch
