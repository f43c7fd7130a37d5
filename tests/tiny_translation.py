"""Runs of `lowclip-train translate` on a few captions."""

from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result
from tiny_translators import CAPTIONS

from lowclip_runtime.pairs import Pair, read_pairs, write_pairs
from lowclip_train.cli import main
from lowclip_train.translation.config import TranslationConfig
from lowclip_train.translation.report import TranslationReport
from lowclip_train.translation.translate import translate_pairs

CHOSEN = CAPTIONS[:6] + CAPTIONS[-6:]


def pairs_of(captions: list[str], path: Path) -> Path:
    write_pairs(path, [Pair(f"{i}.jpg", c, "en", "train", f"{i}#0") for i, c in enumerate(captions)])
    return path


def config_of(model: Path, **options: Any) -> TranslationConfig:
    return TranslationConfig(**{"model": str(model), "source": "en", "target": "az", "beams": 2, **options})


def translate(
    captions: list[str], model: Path, folder: Path, **options: Any
) -> tuple[TranslationReport, dict[str, str]]:
    """The report, and the Azerbaijani captions by their English ones."""
    folder.mkdir(exist_ok=True)
    source = pairs_of(captions, folder / "pairs.tsv")
    report = translate_pairs(source, folder / "out.tsv", config_of(model, **options), overwrite=True)
    english = {pair.caption_id: pair.caption for pair in read_pairs(source)}
    rows = [pair for pair in read_pairs(folder / "out.tsv") if pair.lang == "az"]
    return report, {english[pair.caption_id]: pair.caption for pair in rows}


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(main, ["translate", *(str(a) for a in arguments)])
