"""Does a tokenizer fit its text encoder? It knows words, and each id and position that it gives has an embedding.

Where tokenizers come from is `encoders.py`.
"""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from tokenizers import Tokenizer as HfTokenizer
from torch import nn

from lowclip_runtime.errors import ConfigError
from lowclip_runtime.spec import TextSpec
from lowclip_train.pretrained import told_in_one_sentence

_SHOWN = 5
# of BERT and its kin, of CLIP, of GPT-2
_POSITION_TABLES = ("position_embeddings", "position_embedding", "wpe")


def read_tokenizer(path: Path) -> HfTokenizer:
    """A `tokenizer.json`.

    Raises:
        ConfigError: it cannot be read as one.
    """
    with told_in_one_sentence(f"{path} is no tokenizer.json that can be read", "get it anew"):
        return HfTokenizer.from_file(str(path))


def check_tokenizer_knows_words(tokenizer: HfTokenizer, source: str) -> None:
    """Is it more than what transformers makes up for the model `source`?

    Raises:
        ConfigError: it is not.
    """
    added = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
    check_words(tokenizer.get_vocab(with_added_tokens=False), added, source)


def check_words(vocabulary: Iterable[str], added: Iterable[str], source: str) -> None:
    """Does this vocabulary hold more than added tokens such as `[CLS]`?

    For a folder without a tokenizer's files transformers makes one up that holds only these, and every word is unknown.

    Raises:
        ConfigError: it does not.
    """
    added = list(added)
    if set(vocabulary) <= set(added):
        shown = ", ".join(added[:_SHOWN]) or "nothing at all"
        raise ConfigError(
            f"the tokenizer of {source!r} must know words, but it knows only {shown}, as one made up where there are "
            "no files of a tokenizer; put the model's own (tokenizer.json, vocab.txt or the like) beside its weights"
        )


def unknown_id(tokenizer: HfTokenizer) -> int | None:
    """The id of a piece that the tokenizer does not know; None where it knows all, as of bytes."""
    model = json.loads(tokenizer.to_str())["model"]
    if "unk_id" in model:  # Unigram
        return model["unk_id"]  # type: ignore[no-any-return]
    return tokenizer.token_to_id(model["unk_token"]) if model.get("unk_token") else None


def unknown_share(tokenizer: HfTokenizer, texts: Iterable[Sequence[int]]) -> float:
    """How many of the pieces of texts, given as ids, it does not know."""
    ids = np.fromiter((one for text in texts for one in text), np.int64)
    unknown = unknown_id(tokenizer)
    return float(np.mean(ids == unknown)) if unknown is not None and ids.size else 0.0


def check_ids_fit(encoder: nn.Module, tokenizer: Path) -> None:
    """An id without its embedding would end the run at whatever step first comes to it.

    Raises:
        ConfigError: there is one.
    """
    vocabulary = read_tokenizer(tokenizer).get_vocab()
    token, largest = max(vocabulary.items(), key=lambda item: item[1], default=("", -1))
    rows = token_count(encoder)
    if largest >= rows:
        raise ConfigError(
            f"{tokenizer} gives {token!r} the id {largest}, but the text encoder has embeddings of the ids up to "
            f"{rows - 1}; use the tokenizer that it was trained with"
        )


def token_count(encoder: nn.Module) -> int:
    """How many token ids the encoder has embeddings of.

    Raises:
        ConfigError: it reads no such ids, as CANINE does, and CLIP as a whole.
    """
    try:
        return int(cast(Any, encoder).get_input_embeddings().num_embeddings)
    except (AttributeError, NotImplementedError) as error:
        raise ConfigError(
            f"the text encoder is a {type(encoder).__name__}, which has no table of embeddings of token ids; "
            "name an encoder such as xlm-roberta-base"
        ) from error


def position_count(encoder: nn.Module) -> int | None:
    """How many tokens the encoder has positions for; None where they are not held in a table."""
    holder = getattr(encoder, "embeddings", encoder)
    tables = [getattr(holder, name, None) for name in _POSITION_TABLES]
    table = next((one for one in tables if isinstance(one, nn.Embedding)), None)
    if table is None:
        return None
    # in the RoBERTa family positions begin behind the padding's id
    return table.num_embeddings - (0 if table.padding_idx is None else table.padding_idx + 1)


def check_texts_fit(encoder: nn.Module, tokenizer: Path, text: TextSpec) -> None:
    """Has each id, and each position of texts cut as `text` says, its embedding?

    Raises:
        ConfigError: one has none.
    """
    check_ids_fit(encoder, tokenizer)
    positions = position_count(encoder)
    if positions is not None and text.max_tokens > positions:
        raise ConfigError(
            f"text.max_tokens must be at most {positions}, as the text encoder has no more positions, "
            f"not {text.max_tokens}"
        )
