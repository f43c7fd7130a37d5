"""Trims a Unigram or WordPiece `tokenizer.json` to the pieces that given texts use: text in, text out.

Removing a piece that no text used changes no segmentation of those texts: their token sequences stay the same
up to renumbering. What it does to other texts is measured by `trim_report.py`. Cutting the embedding table to
`kept_rows` is the caller's work: training does it before the first step, `lowclip_export.trim` on a finished
checkpoint.
"""

import json
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer as HfTokenizer

from lowclip_runtime.errors import ConfigError, TextError
from lowclip_runtime.spec import TextSpec
from lowclip_runtime.text import normalize_text
from lowclip_train.trim_report import TrimReport, trimming_cost

_BATCH = 4096  # texts tokenized at once: enough to keep both cores busy, little memory
_TEXT_CHARACTERS = 4096  # `normalize_text` cuts a text to what a model reads; a corpus may hold a book a line
_BOUNDARY = "▁"  # how Unigram writes the space before a word


@dataclass(frozen=True, kw_only=True)
class TrimmedVocabulary:
    """A smaller `tokenizer.json`, and which embedding rows go with it.

    Attributes:
        tokenizer_json: the text of the new file.
        kept_rows: (R,) int64, the old id of every new id, ascending.
    """

    tokenizer_json: str
    kept_rows: NDArray[np.int64]
    report: TrimReport

    def new_id(self, old_id: int) -> int:
        """The new id of a kept token (`TextSpec.pad_token_id` needs it).

        Raises:
            ConfigError: the token was not kept.
        """
        place = int(np.searchsorted(self.kept_rows, old_id))
        if place == len(self.kept_rows) or self.kept_rows[place] != old_id:
            raise ConfigError(
                f"token id {old_id} is not in the trimmed vocabulary; it must be a special token"
            )
        return place


def trim_tokenizer(
    tokenizer_json: str | Path,
    corpora: Iterable[str],
    spec: TextSpec,
    *,
    min_count: int = 1,
    keep_latin: bool = False,
    held_out: Iterable[str] = (),
) -> TrimmedVocabulary:
    """Keep special tokens, single characters, and pieces that `corpora` use at least `min_count` times.

    The single characters are Latin and Cyrillic letters, marks that combine with them, digits and punctuation
    (Azerbaijani was written in Cyrillic until 1991): words outside the corpora fall apart, but stay known.

    Args:
        tokenizer_json: path of the file.
        corpora: texts as people write them; each is normalized as `spec` says before it is tokenized.
        min_count: pieces seen more rarely are dropped, and their words fall apart into smaller pieces.
        keep_latin: keep every piece that Latin letters with or without marks, digits and punctuation make up.
            Then no text in Latin letters changes its pieces, be it a name, English or Turkish; what goes are the
            pieces of other scripts, and capitals where `spec` lowers them. mBERT keeps half of its rows so.
        held_out: other texts, on which the report measures what trimming costs.

    Raises:
        ConfigError: not a Unigram or WordPiece tokenizer, or the corpora hold no text.
    """
    content = _read(Path(tokenizer_json))
    tokenizer = _without_limits(HfTokenizer.from_str(json.dumps(content)))
    counts = count_pieces(tokenizer, corpora, spec)
    observed = {int(i) for i in np.flatnonzero(counts >= min_count)}
    always = _always_kept(content, spec, keep_latin=keep_latin)
    kept = np.array(sorted(observed | always), np.int64)  # (R,)
    trimmed_json = json.dumps(_cut(content, kept), ensure_ascii=False)
    trimmed = _without_limits(HfTokenizer.from_str(trimmed_json))
    assert trimmed.get_vocab_size() == len(kept), "every kept row must be one token"
    report = TrimReport(
        rows_before=tokenizer.get_vocab_size(),
        rows_kept=len(kept),
        observed=len(observed),
        keep_latin=keep_latin,
        **trimming_cost(tokenizer, trimmed, list(normalized_texts(held_out, replace(spec, prefix="")))),
    )
    return TrimmedVocabulary(tokenizer_json=trimmed_json, kept_rows=kept, report=report)


def count_pieces(tokenizer: HfTokenizer, texts: Iterable[str], spec: TextSpec) -> NDArray[np.int64]:
    """How often each token id occurs in `texts`, (vocabulary,).

    Raises:
        ConfigError: there is no text.
    """
    counts = np.zeros(tokenizer.get_vocab_size(), np.int64)
    normalized = normalized_texts(texts, spec)
    while batch := list(islice(normalized, _BATCH)):
        ids = np.concatenate([encoding.ids for encoding in tokenizer.encode_batch_fast(batch)])
        counts += np.bincount(ids, minlength=len(counts))
    if not counts.any():
        raise ConfigError("the corpora hold no text to choose the vocabulary by; name files with text")
    return counts


def normalized_texts(texts: Iterable[str], spec: TextSpec) -> Iterator[str]:
    """Each text as the tokenizer sees it, however long; blank ones are passed over."""
    unlimited = replace(spec, max_tokens=512)  # pieces are counted wherever they stand in a text
    for text in texts:
        for part in _parts(text):
            try:
                yield normalize_text(part, unlimited)
            except TextError:
                continue  # blank lines are common in corpora


def _parts(text: str) -> Iterator[str]:
    """`text` cut between words into parts that are short enough for `normalize_text`."""
    start = 0
    while len(text) - start > _TEXT_CHARACTERS:
        space = text.rfind(" ", start, start + _TEXT_CHARACTERS)
        end = space if space > start else start + _TEXT_CHARACTERS
        yield text[start:end]
        start = end
    yield text[start:]


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text("utf-8"))
        kind = content["model"].get("type") or "WordPiece"  # older files of WordPiece leave the type out
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"{path}: not a readable tokenizer.json ({error})") from error
    if kind not in ("Unigram", "WordPiece"):
        raise ConfigError(
            f"{path}: only Unigram and WordPiece vocabularies can be trimmed, not {kind}; leave trimming out"
        )
    assert isinstance(content, dict)
    return content


def _without_limits(tokenizer: HfTokenizer) -> HfTokenizer:
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _pieces(content: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Every piece of the model with its id."""
    vocabulary = content["model"]["vocab"]
    if isinstance(vocabulary, dict):
        yield from vocabulary.items()
    else:
        yield from ((piece, i) for i, (piece, _) in enumerate(vocabulary))


def _always_kept(content: dict[str, Any], spec: TextSpec, *, keep_latin: bool) -> set[int]:
    model = content["model"]
    kept = {token["id"] for token in content.get("added_tokens") or []}
    for piece, i in _pieces(content):
        bare = piece.removeprefix(model.get("continuing_subword_prefix") or "##").replace(_BOUNDARY, "")
        byte = model.get("byte_fallback") and len(piece) == 6 and piece.startswith("<0x")
        unknown = i == model.get("unk_id") or piece == model.get("unk_token")
        if unknown or byte or _is_kept_unseen(bare, spec, keep_latin):
            kept.add(i)
    return kept


def _is_kept_unseen(bare: str, spec: TextSpec, keep_latin: bool) -> bool:
    if spec.lowercase != "none" and bare != bare.lower():
        return False
    if len(bare) > 1:
        return keep_latin and all(map(_is_latin, bare))
    return not bare or _is_latin(bare) or unicodedata.name(bare, "").startswith("CYRILLIC")


def _is_latin(character: str) -> bool:
    """Letters of the Latin script, marks above and below them, digits, and signs that stand in Latin text."""
    category, name = unicodedata.category(character), unicodedata.name(character, "")
    if category[0] == "L":
        return name.startswith(("LATIN", "MODIFIER LETTER")) or character in "ªº"
    if category[0] == "M":
        return name.startswith("COMBINING")
    if category == "Nd":
        return character.isascii()
    # the last are general punctuation, superscripts, currencies, number forms and arrows
    return category[0] in "PSN" and (character < "\u0300" or "\u2000" <= character < "\u2200")


def _cut(content: dict[str, Any], kept: NDArray[np.int64]) -> dict[str, Any]:
    """The same tokenizer with only the kept ids, renumbered in their old order."""
    new_ids = {int(old): new for new, old in enumerate(kept)}
    model = dict(content["model"])
    if isinstance(model["vocab"], dict):
        pairs = sorted(model["vocab"].items(), key=lambda item: item[1])
        model["vocab"] = {piece: new_ids[i] for piece, i in pairs if i in new_ids}
    else:
        model["vocab"] = [entry for i, entry in enumerate(model["vocab"]) if i in new_ids]
        if model.get("unk_id") is not None:
            model["unk_id"] = new_ids[model["unk_id"]]
    added = [{**token, "id": new_ids[token["id"]]} for token in content.get("added_tokens") or []]
    processor = _renumber_processor(content.get("post_processor"), new_ids)
    cut = {"model": model, "added_tokens": added, "post_processor": processor}
    return {**content, **cut, "truncation": None, "padding": None}


def _renumber_processor(processor: Any, new_ids: dict[int, int]) -> Any:
    """Post-processors carry ids of special tokens: as lists under `special_tokens`, or as `[token, id]`."""
    if not isinstance(processor, dict):
        return processor
    renumbered = dict(processor)
    if "processors" in processor:
        renumbered["processors"] = [_renumber_processor(p, new_ids) for p in processor["processors"]]
    if "special_tokens" in processor:
        renumbered["special_tokens"] = {
            name: {**token, "ids": [new_ids[i] for i in token["ids"]]}
            for name, token in processor["special_tokens"].items()
        }
    for key in ("sep", "cls"):
        if isinstance(processor.get(key), list):
            token, i = processor[key]
            renumbered[key] = [token, new_ids[i]]
    return renumbered
