"""What a translation run tells: a JSON file beside the pairs, with every row that was dropped."""

import importlib.metadata
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lowclip_train.translation.config import TranslationConfig
from lowclip_train.translation.engines import Engine
from lowclip_train.translation.sentences import Translated

SCHEMA_VERSION = 1
_PACKAGES = ("lowclip", "torch", "transformers", "tokenizers", "sentencepiece", "ctranslate2")
_PERCENTILES = (1, 5, 25, 50)


@dataclass(frozen=True, kw_only=True)
class PassReport:
    """One pass of a model over sentences, there or back; `sentences_per_s` counts only those translated now."""

    model: str
    identity: str
    family: str
    source_code: str | None
    target_code: str | None
    sentences: int
    from_cache: int
    translated_now: int
    sentences_per_s: float | None


@dataclass(frozen=True, kw_only=True)
class DroppedRow:
    """A caption that got no row in the target language, and why."""

    image: str
    caption: str
    split: str
    caption_id: str
    reason: str
    translation: str
    back_translation: str | None
    similarity: float | None


@dataclass(frozen=True, kw_only=True)
class TranslationReport:
    """The whole run.

    Attributes:
        rows: `read` all, `source` in the source language, `already_translated` of these, `added`, `dropped`.
        unique_sentences: distinct ones among the captions to translate; each was translated once.
        similarity_percentiles: of all scored sentences, before any was dropped for it.
    """

    schema_version: int
    pairs: str
    out: str
    cache: str
    damaged_cache_lines: int
    config: TranslationConfig
    rows: dict[str, int]
    unique_sentences: int
    forward: PassReport
    back: PassReport | None
    similarity_percentiles: dict[str, float] | None
    dropped_by_reason: dict[str, int]
    versions: dict[str, str]
    dropped: tuple[DroppedRow, ...]


def report_path(out: Path) -> Path:
    """`pairs-az.tsv` → `pairs-az.report.json`."""
    return out.with_name(f"{out.stem}.report.json")


def is_report_of(path: Path, out: Path) -> bool:
    """Whether `path` holds what an earlier run told of `out`."""
    try:
        told = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(told, dict) and "forward" in told and Path(str(told.get("out"))).name == out.name


def pass_report(model: str, engine: Engine, translated: Translated) -> PassReport:
    """Figures of one pass."""
    codes = engine.tokenizer.codes
    rate = round(translated.now / translated.seconds, 2) if translated.now else None
    return PassReport(
        model=model, identity=engine.identity, family=codes.family, source_code=codes.source,
        target_code=codes.target, sentences=len(translated.by_sentence), from_cache=translated.from_cache,
        translated_now=translated.now, sentences_per_s=rate,
    )  # fmt: skip


def by_reason(dropped: Iterable[DroppedRow]) -> dict[str, int]:
    """Dropped rows by reason, the most frequent first."""
    return dict(Counter(row.reason for row in dropped).most_common())


def percentiles(similarities: Sequence[float]) -> dict[str, float] | None:
    """The low percentiles, from which people choose `--min-similarity`; None where nothing was scored."""
    if not similarities:
        return None
    values = np.percentile(similarities, _PERCENTILES)
    return {f"p{p}": round(float(value), 4) for p, value in zip(_PERCENTILES, values, strict=True)}


def versions() -> dict[str, str]:
    """Of the packages that a translation depends on, as far as they are installed."""
    found = {}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
