"""A model's own tokenizer, told the two languages: sentences → token ids, generated tokens → text."""

from collections.abc import Sequence
from typing import Any

from lowclip_runtime.errors import ConfigError
from lowclip_train.pretrained import NO_CODE, told_in_one_sentence
from lowclip_train.torchvision_repair import import_torchvision
from lowclip_train.translation.language_codes import LanguageCodes, choose_codes, known_codes

import_torchvision()  # before transformers, which imports it

from transformers import AutoTokenizer  # noqa: E402


class CodedTokenizer:
    """Tokenizer of a translation model with its `codes` set.

    Args:
        model: hub name or local folder.
        languages: `lang` of source and target.
        asked: codes that were asked for.
        strict: without it, codes that this model cannot be told are forgotten, not refused.

    Raises:
        ConfigError: no tokenizer can be loaded, or the model lacks a language.
    """

    def __init__(
        self, model: str, languages: tuple[str, str], asked: tuple[str | None, str | None], *, strict: bool
    ) -> None:
        self.own = _load(model)
        if not strict:
            asked = known_codes(self.own, asked)
        self.codes: LanguageCodes = choose_codes(self.own, model, languages, asked)
        if self.codes.source is not None:
            self.own.src_lang = self.codes.source
        prefix = self.codes.source_prefix
        self._prefix = [] if prefix is None else [int(self.own.convert_tokens_to_ids(prefix))]

    @property
    def first_token_id(self) -> int | None:
        """The id of the token that every translation begins with."""
        token = self.codes.first_token
        return None if token is None else int(self.own.convert_tokens_to_ids(token))

    def token_ids(self, sentences: Sequence[str]) -> list[list[int]]:
        """Sentences → unpadded, uncut source ids; `</s>` or a code inside a sentence is text like any other."""
        if hasattr(
            self.own, "remove_language_code"
        ):  # Marian's, which takes `>>…<<` at the very front for a code
            sentences = [f" {s}" if s.startswith(">>") else s for s in sentences]
        encoded = self.own(list(sentences), truncation=False, verbose=False, split_special_tokens=True)
        return [[*self._prefix, *ids] for ids in encoded["input_ids"]]

    def tokens(self, token_ids: Sequence[int]) -> list[str]:
        """Source ids → the tokens that CTranslate2 reads."""
        tokens: list[str] = self.own.convert_ids_to_tokens(list(token_ids))
        return tokens

    def text(self, token_ids: Sequence[int]) -> str:
        """Generated ids → text; M2M100 does not know its language tokens to be special."""
        kept = [i for i in token_ids if i != self.first_token_id]
        decoded = self.own.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        return " ".join(decoded.split())

    def text_of_tokens(self, tokens: Sequence[str]) -> str:
        """Generated tokens → text."""
        special = {*self.own.all_special_tokens, self.codes.first_token}
        kept = [token for token in tokens if token not in special]
        return " ".join(self.own.convert_tokens_to_string(kept).split())


def _load(model: str) -> Any:
    advice = (
        "give a hub name or a folder with the tokenizer's files (ct2-transformers-converter copies them with "
        "--copy_files)"
    )
    with told_in_one_sentence(f"no tokenizer could be loaded from {model!r}", advice):
        try:
            return AutoTokenizer.from_pretrained(model, **NO_CODE)
        except ImportError as error:
            raise ConfigError(
                f"the tokenizer of {model!r} needs sentencepiece; run: pip install 'lowclip[translate]'"
            ) from error
