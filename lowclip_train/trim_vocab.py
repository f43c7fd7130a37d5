"""Trims a Unigram or WordPiece `tokenizer.json` to the pieces that given texts use: text in, text out.

Removing a piece that no text used changes no segmentation of those texts: their token sequences stay the same
up to renumbering. Cutting the embedding table to `kept_rows` is the caller's work: training does it before
the first step, `lowclip_export.trim` on a finished checkpoint.
"""

import json
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Tokenizer as HfTokenizer

from lowclip_runtime.errors import ConfigError, TextError
from lowclip_runtime.spec import TextSpec
from lowclip_runtime.text import normalize_text

# Azerbaijani was written in Cyrillic until 1991, and older signs, books and people still use it.
_AZERBAIJANI_CYRILLIC = frozenset("абвгғдеәжзийјкҝлмноөпрстуүфхһчҹшыъьэюя")
_BATCH = 4096  # texts tokenized at once: enough to keep both cores busy, little memory


@dataclass(frozen=True, kw_only=True)
class TrimReport:
    """What trimming kept and what it cost. The last four are None where no held-out text was given.

    Attributes:
        rows_before, rows_kept: rows of the embedding table.
        observed: pieces kept because the corpora use them; the rest are special tokens and single characters.
        held_out_words: distinct words that were segmented both before and after.
        resegmented: share of those words whose pieces changed.
        unknown_before, unknown_after: share of unknown tokens among all tokens of the held-out text.
    """

    rows_before: int
    rows_kept: int
    observed: int
    held_out_words: int | None = None
    resegmented: float | None = None
    unknown_before: float | None = None
    unknown_after: float | None = None


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
    held_out: Iterable[str] = (),
) -> TrimmedVocabulary:
    """Keep special tokens, single characters, and pieces that `corpora` use at least `min_count` times.

    Args:
        tokenizer_json: path of the file.
        corpora: texts as people write them; each is normalized as `spec` says before it is tokenized.
        min_count: pieces seen more rarely are dropped, and their words fall apart into smaller pieces.
        held_out: other texts, on which the report measures what trimming costs.

    Raises:
        ConfigError: not a Unigram or WordPiece tokenizer, or the corpora hold no text.
    """
    content = _read(Path(tokenizer_json))
    tokenizer = _without_limits(HfTokenizer.from_str(json.dumps(content)))
    counts = count_pieces(tokenizer, corpora, spec)
    observed = {int(i) for i in np.flatnonzero(counts >= min_count)}
    kept = np.array(sorted(observed | _always_kept(content, spec)), np.int64)  # (R,)
    trimmed_json = json.dumps(_cut(content, kept), ensure_ascii=False)
    trimmed = _without_limits(HfTokenizer.from_str(trimmed_json))
    assert trimmed.get_vocab_size() == len(kept), "every kept row must be one token"
    report = TrimReport(
        rows_before=tokenizer.get_vocab_size(),
        rows_kept=len(kept),
        observed=len(observed),
        **_cost(tokenizer, trimmed, _normalized(held_out, spec)),
    )
    return TrimmedVocabulary(tokenizer_json=trimmed_json, kept_rows=kept, report=report)


def count_pieces(tokenizer: HfTokenizer, texts: Iterable[str], spec: TextSpec) -> NDArray[np.int64]:
    """How often each token id occurs in `texts`, (vocabulary,).

    Raises:
        ConfigError: there is no text.
    """
    counts = np.zeros(tokenizer.get_vocab_size(), np.int64)
    normalized = _normalized(texts, spec)
    while batch := list(islice(normalized, _BATCH)):
        ids = np.concatenate([encoding.ids for encoding in tokenizer.encode_batch_fast(batch)])
        counts += np.bincount(ids, minlength=len(counts))
    if not counts.any():
        raise ConfigError("the corpora hold no text to choose the vocabulary by; name files with text")
    return counts


def _normalized(texts: Iterable[str], spec: TextSpec) -> Iterator[str]:
    for text in texts:
        try:
            yield normalize_text(text, spec)
        except TextError:
            continue  # blank lines are common in corpora


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


def _always_kept(content: dict[str, Any], spec: TextSpec) -> set[int]:
    model = content["model"]
    kept = {token["id"] for token in content.get("added_tokens") or []}
    for piece, i in _pieces(content):
        bare = piece.removeprefix("▁").removeprefix(model.get("continuing_subword_prefix") or "##")
        byte = model.get("byte_fallback") and len(piece) == 6 and piece.startswith("<0x")
        unknown = i == model.get("unk_id") or piece == model.get("unk_token")
        if unknown or byte or _is_basic(bare, spec):
            kept.add(i)
    return kept


def _is_basic(bare: str, spec: TextSpec) -> bool:
    """Latin and Azerbaijani Cyrillic letters, digits, punctuation, and the bare word boundary."""
    if len(bare) != 1:
        return not bare
    if spec.lowercase != "none" and bare != bare.lower():
        return False
    category = unicodedata.category(bare)
    if category in ("Sm", "Sc", "Nd") or category[0] == "P":
        return bare < "\u0300" or bare in "₼€₺₽№"
    return bare.lower() in _AZERBAIJANI_CYRILLIC or (category[0] == "L" and bare < "\u0250") or bare == "ə"


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


def _cost(before: HfTokenizer, after: HfTokenizer, held_out: Iterable[str]) -> dict[str, Any]:
    texts = list(held_out)
    if not texts:
        return {}
    words = sorted({word for text in texts for word in text.split()})
    old = [encoding.tokens for encoding in before.encode_batch(words)]
    new = [encoding.tokens for encoding in after.encode_batch(words)]
    return {
        "held_out_words": len(words),
        "resegmented": sum(a != b for a, b in zip(old, new, strict=True)) / len(words),
        "unknown_before": _unknown_rate(before, texts),
        "unknown_after": _unknown_rate(after, texts),
    }


def _unknown_rate(tokenizer: HfTokenizer, texts: list[str]) -> float:
    model = json.loads(tokenizer.to_str())["model"]
    unknown = model["unk_id"] if "unk_id" in model else tokenizer.token_to_id(model["unk_token"])
    ids = np.concatenate([encoding.ids for encoding in tokenizer.encode_batch_fast(texts)])
    return float(np.mean(ids == unknown)) if unknown is not None else 0.0
