"""Translates distinct sentences once each, batch by batch, through the cache."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tqdm import tqdm

from lowclip_runtime.errors import ConfigError, first_line
from lowclip_train.progress import say
from lowclip_train.translation.batches import batches, bucket, max_new_tokens
from lowclip_train.translation.cache import Translation, TranslationCache, cache_key
from lowclip_train.translation.config import TranslationConfig
from lowclip_train.translation.engines import Engine

TOO_LONG = "source too long"
_GENERATION = 2  # counts up whenever the same settings would give another translation
_LINE_EVERY_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Translated:
    """Sentences with their translations, and what that took.

    Attributes:
        from_cache, now: how many came from the cache and how many this process translated; seconds: for the latter.
    """

    by_sentence: dict[str, Translation]
    from_cache: int
    now: int
    seconds: float


def translate_sentences(
    sentences: Sequence[str], engine: Engine, config: TranslationConfig, cache: TranslationCache
) -> Translated:
    """Translate `sentences`, which are distinct; the order of the result is theirs, however they were batched.

    Whether one is too long is asked first and never cached: a run with a larger limit may have translated it.
    """
    keys = _keys(sentences, engine, config)
    token_ids = dict(zip(sentences, engine.tokenizer.token_ids(sentences), strict=True)) if sentences else {}
    longest = min(config.max_tokens, engine.positions - 2)
    fit = [s for s in sentences if len(token_ids[s]) <= longest]
    known = {s: cached for s in fit if (cached := cache.get(keys[s])) is not None}
    todo = [s for s in fit if s not in known]
    found = {**dict.fromkeys(sentences, Translation("", TOO_LONG)), **known}
    started = time.monotonic()
    progress = _Progress(len(todo), f"{config.source}→{config.target}")
    for positions in batches([len(token_ids[s]) for s in todo], config.batch_tokens):
        batch = [todo[i] for i in positions]
        done = _generate([token_ids[s] for s in batch], engine, config)
        cache.append([(keys[s], s, translation) for s, translation in zip(batch, done, strict=True)])
        found.update(zip(batch, done, strict=True))
        progress.add(len(batch))
    progress.close()
    return Translated(
        by_sentence=found, from_cache=len(known), now=len(todo), seconds=time.monotonic() - started
    )


def _keys(sentences: Sequence[str], engine: Engine, config: TranslationConfig) -> dict[str, str]:
    codes = engine.tokenizer.codes
    settings = [_GENERATION, engine.identity, codes.source, codes.target, config.beams]
    return {sentence: cache_key(settings, sentence) for sentence in sentences}


def _generate(
    token_ids: Sequence[Sequence[int]], engine: Engine, config: TranslationConfig
) -> list[Translation]:
    """Translate one batch.

    Raises:
        ConfigError: the device has too little memory for it.
    """
    limit = max_new_tokens(bucket(len(token_ids[0])))  # a batch is of one bucket
    try:
        return engine.generate(token_ids, config.beams, min(limit, engine.positions - 1))
    except RuntimeError as error:  # CTranslate2 has no class of its own for it
        if "out of memory" not in str(error):
            raise
        raise ConfigError(
            f"{config.device} has too little memory for {len(token_ids)} sentences of up to {len(token_ids[0])} tokens "
            f"({first_line(error)}); lower --batch-tokens, which is {config.batch_tokens}, or --beams, then run it "
            "again: what is translated is kept"
        ) from error


class _Progress:
    """A bar on a terminal, else a line now and then, both on standard error."""

    def __init__(self, total: int, name: str) -> None:
        self._name = name
        self._started = self._spoke_at = time.monotonic()
        self._bar: Any = tqdm(total=total, desc=name, unit="sentence", disable=None)
        self._done, self._total = 0, total

    def add(self, count: int) -> None:
        self._done += count
        self._bar.update(count)
        now = time.monotonic()
        if self._bar.disable and now - self._spoke_at > _LINE_EVERY_S:
            self._spoke_at = now
            rate = self._done / (now - self._started)
            left_s = round((self._total - self._done) / rate)
            say(f"{self._name} {self._done:,}/{self._total:,} sentences  {rate:.1f}/s  {left_s:,} s left")

    def close(self) -> None:
        self._bar.close()
