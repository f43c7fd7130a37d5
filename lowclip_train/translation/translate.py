"""The whole run: read pairs, translate each distinct sentence, judge, write pairs and report."""

import itertools
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from lowclip_runtime.errors import DatasetError, InputError
from lowclip_runtime.files import whole_file
from lowclip_runtime.pairs import Pair, read_pairs, write_pairs
from lowclip_runtime.schema import dumps
from lowclip_train.translation.cache import TranslationCache
from lowclip_train.translation.config import TranslationConfig
from lowclip_train.translation.judged import Judged, Verdict, judge_sentences
from lowclip_train.translation.report import (
    SCHEMA_VERSION,
    DroppedRow,
    TranslationReport,
    by_reason,
    is_report_of,
    percentiles,
    report_path,
    versions,
)


def translate_pairs(
    pairs_file: str | Path,
    out: str | Path,
    config: TranslationConfig,
    *,
    cache: str | Path | None = None,
    overwrite: bool = False,
) -> TranslationReport:
    """Write `out`: all rows of `pairs_file`, then a translated row for each kept caption; and a report beside it.

    A translated row has the image, split and caption_id of the caption that it translates. Captions that have a row in
    the target language already are left alone. A killed run is resumed by the same call: what is in `cache`
    [default: beside `out`] is not translated again.

    Raises:
        ConfigError: a model cannot be loaded or lacks a language.
        DatasetError: the pairs cannot be read or hold no caption in the source language.
        InputError: `out` is there already, another file stands where it, its report or the cache belongs, or the
            cache is in use.
    """
    pairs_file, out = Path(pairs_file), Path(out)
    cache_path = out.with_name(f"{out.stem}.cache.jsonl") if cache is None else Path(cache)
    _refuse_to_lose(pairs_file, out, cache_path, overwrite)
    pairs = with_caption_ids(read_pairs(pairs_file))
    source = _source_rows(pairs, config, pairs_file)
    wanted = _not_yet_translated(source, pairs, config)
    sentences = list(dict.fromkeys(sentence_of(pair) for pair in wanted))
    with TranslationCache(cache_path) as opened:
        judged = judge_sentences(sentences, config, opened, cache_path.parent)
    added, dropped = _rows(wanted, judged.verdicts, config)
    counts = {
        "read": len(pairs), "source": len(source), "already_translated": len(source) - len(wanted),
        "added": len(added), "dropped": len(dropped),
    }  # fmt: skip
    report = TranslationReport(
        schema_version=SCHEMA_VERSION, pairs=str(pairs_file), out=str(out), cache=str(cache_path),
        damaged_cache_lines=opened.damaged_lines, config=config, rows=counts, unique_sentences=len(sentences),
        forward=judged.forward, back=judged.back, similarity_percentiles=_percentiles(judged),
        dropped_by_reason=by_reason(dropped), versions=versions(), dropped=tuple(dropped),
    )  # fmt: skip
    with whole_file(report_path(out)) as work:
        work.write_text(dumps(report), "utf-8")
    with whole_file(out) as work:
        write_pairs(work, [*pairs, *added])
    return report


def with_caption_ids(pairs: Sequence[Pair]) -> list[Pair]:
    """`pairs`, those without a caption_id numbered within their image: `photo.jpg#0`.

    Without one, an image's captions could not be told apart by their translations.
    """
    seen: Counter[str] = Counter()
    numbered = []
    for pair in pairs:
        numbered.append(
            pair if pair.caption_id else replace(pair, caption_id=f"{pair.image}#{seen[pair.image]}")
        )
        seen[pair.image] += 1
    return numbered


def sentence_of(pair: Pair) -> str:
    """The caption as a model is given it: composed Unicode (NFC), single spaces."""
    return " ".join(unicodedata.normalize("NFC", pair.caption).split())


def _refuse_to_lose(pairs_file: Path, out: Path, cache: Path, overwrite: bool) -> None:
    if out.is_dir():
        raise InputError(f"{out} is a folder; name a file such as {out / 'pairs-translated.tsv'}")
    report = report_path(out)
    read_and_written = {"pairs": pairs_file, "OUT": out, "its report": report, "the cache": cache}
    for (one, path), (other, other_path) in itertools.combinations(read_and_written.items(), 2):
        if _is_same(path, other_path):
            raise InputError(f"{one} and {other} would both be {path}; give each a name of its own")
    if out.exists() and not overwrite:
        raise InputError(f"{out} exists already; name another file or pass --overwrite")
    if report.exists() and not is_report_of(report, out):
        raise InputError(
            f"the report would replace {report}, which is no report of {out.name}; move it away or name another OUT"
        )


def _is_same(one: Path, other: Path) -> bool:
    return one.resolve() == other.resolve() or (one.exists() and other.exists() and one.samefile(other))


def _source_rows(pairs: Sequence[Pair], config: TranslationConfig, pairs_file: Path) -> list[Pair]:
    rows = [pair for pair in pairs if pair.lang == config.source]
    if not rows:
        langs = sorted({pair.lang for pair in pairs})
        raise DatasetError(
            f"{pairs_file} has no caption with lang {config.source!r} (it has {langs}); name one of these with --from"
        )
    return rows


def _not_yet_translated(
    source: Sequence[Pair], pairs: Sequence[Pair], config: TranslationConfig
) -> list[Pair]:
    there = {(pair.image, pair.caption_id) for pair in pairs if pair.lang == config.target}
    return [pair for pair in source if (pair.image, pair.caption_id) not in there]


def _rows(
    wanted: Sequence[Pair], verdicts: Mapping[str, Verdict], config: TranslationConfig
) -> tuple[list[Pair], list[DroppedRow]]:
    """New rows and dropped ones, both in the order of `wanted`."""
    added, dropped = [], []
    for pair in wanted:
        verdict = verdicts[sentence_of(pair)]
        if verdict.reason is None:
            added.append(replace(pair, caption=verdict.translation, lang=config.target))
        else:
            dropped.append(_dropped(pair, verdict, verdict.reason))
    return added, dropped


def _dropped(pair: Pair, verdict: Verdict, reason: str) -> DroppedRow:
    return DroppedRow(
        image=pair.image, caption=pair.caption, split=pair.split, caption_id=pair.caption_id, reason=reason,
        translation=verdict.translation, back_translation=verdict.back_translation, similarity=verdict.similarity,
    )  # fmt: skip


def _percentiles(judged: Judged) -> dict[str, float] | None:
    return percentiles([v.similarity for v in judged.verdicts.values() if v.similarity is not None])
