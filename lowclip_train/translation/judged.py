"""Translates sentences there and, if asked, back, and says of each whether to keep it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from lowclip_train.translation.cache import Translation, TranslationCache
from lowclip_train.translation.coded_tokenizer import CodedTokenizer
from lowclip_train.translation.config import TranslationConfig
from lowclip_train.translation.engines import open_engine
from lowclip_train.translation.guards import bad_source, bad_translation
from lowclip_train.translation.report import PassReport, pass_report
from lowclip_train.translation.sentences import translate_sentences
from lowclip_train.translation.similarity import similarities

UNLIKE = "back-translation unlike"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """One sentence: its translation, and `reason` where it is to be dropped."""

    translation: str = ""
    reason: str | None = None
    back_translation: str | None = None
    similarity: float | None = None


@dataclass(frozen=True, kw_only=True)
class Judged:
    """Every sentence's verdict, and the passes that led to them."""

    verdicts: dict[str, Verdict]
    forward: PassReport
    back: PassReport | None = None


def judge_sentences(
    sentences: Sequence[str], config: TranslationConfig, cache: TranslationCache, folder: Path
) -> Judged:
    """Translate distinct `sentences` and judge each; `folder` takes a tokenizer that the encoder needs converted.

    Raises:
        ConfigError: a model cannot be loaded or lacks a language.
    """
    verdicts = {s: Verdict(reason=bad_source(s)) for s in sentences}
    forward, translations = _forward([s for s in sentences if verdicts[s].reason is None], config, cache)
    for sentence, translation in translations.items():
        reason = translation.problem or bad_translation(sentence, translation.text)
        verdicts[sentence] = Verdict(translation=translation.text, reason=reason)
    if config.back_model is None:
        return Judged(verdicts=verdicts, forward=forward)
    kept = {s: verdict.translation for s, verdict in verdicts.items() if verdict.reason is None}
    back, back_translations = _back(list(dict.fromkeys(kept.values())), forward, config, cache)
    scores = _scores({s: back_translations[t].text for s, t in kept.items()}, config, folder)
    for sentence, text in kept.items():
        back_text = back_translations[text].text
        verdicts[sentence] = _scored(verdicts[sentence], back_text, scores[sentence], config)
    return Judged(verdicts=verdicts, forward=forward, back=back)


def _forward(
    sentences: Sequence[str], config: TranslationConfig, cache: TranslationCache
) -> tuple[PassReport, dict[str, Translation]]:
    languages, asked = (config.source, config.target), (config.source_code, config.target_code)
    tokenizer = CodedTokenizer(config.model, languages, asked, strict=True)
    engine = open_engine(config.engine, config.model, tokenizer, config.device)
    translated = translate_sentences(sentences, engine, config, cache)
    return pass_report(config.model, engine, translated), translated.by_sentence


def _back(
    translations: Sequence[str], forward: PassReport, config: TranslationConfig, cache: TranslationCache
) -> tuple[PassReport, dict[str, Translation]]:
    """The way back is told the codes of the way there, as far as the other model knows them."""
    assert config.back_model is not None
    turned = replace(config, source=config.target, target=config.source)
    asked = (forward.target_code, forward.source_code)
    tokenizer = CodedTokenizer(config.back_model, (turned.source, turned.target), asked, strict=False)
    engine = open_engine(config.engine, config.back_model, tokenizer, config.device)
    translated = translate_sentences(translations, engine, turned, cache)
    return pass_report(config.back_model, engine, translated), translated.by_sentence


def _scores(back_texts: Mapping[str, str], config: TranslationConfig, folder: Path) -> dict[str, float]:
    """Sentence → similarity of its back-translation; one without words is like nothing."""
    assert config.encoder is not None
    with_words = [(s, text) for s, text in back_texts.items() if bad_source(text) is None]
    scores = dict.fromkeys(back_texts, 0.0)
    if with_words:
        found = similarities(with_words, config.encoder, folder).tolist()
        scores.update({sentence: score for (sentence, _), score in zip(with_words, found, strict=True)})
    return scores


def _scored(verdict: Verdict, back_text: str, score: float, config: TranslationConfig) -> Verdict:
    assert config.min_similarity is not None
    reason = UNLIKE if score < config.min_similarity else None
    return replace(verdict, reason=reason, back_translation=back_text, similarity=round(score, 4))
