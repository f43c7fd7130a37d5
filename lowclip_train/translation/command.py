"""The subcommand `lowclip-train translate`."""

from pathlib import Path

import click

from lowclip_runtime.cli.options import refuse_in_one_sentence


@click.command()
@click.argument("pairs", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--model", required=True, metavar="HUB_OR_FOLDER",
              help="Translation model: NLLB, M2M100, Marian or another seq2seq one.")  # fmt: skip
@click.option(
    "--from", "source", required=True, metavar="LANG", help="Language of the captions to translate."
)
@click.option("--to", "target", required=True, metavar="LANG", help="Language of the new captions.")
@click.option("--source-code", metavar="CODE", help="The model's code, e.g. eng_Latn [default: from --from].")
@click.option("--target-code", metavar="CODE", help="The model's code, e.g. azj_Latn [default: from --to].")
@click.option("--engine", type=click.Choice(["transformers", "ctranslate2"]), default="transformers",
              show_default=True, help="ctranslate2 wants a folder made by ct2-transformers-converter.")  # fmt: skip
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda or cuda:1.")
@click.option("--batch-tokens", default=2048, show_default=True, help="Most source tokens in a batch.")
@click.option("--beams", default=4, show_default=True, help="Width of the beam search; 1 is greedy.")
@click.option("--max-tokens", default=128, show_default=True, help="Drop captions of more tokens.")
@click.option("--back-model", metavar="HUB_OR_FOLDER", help="Model that translates back, to judge by.")
@click.option("--min-similarity", type=float, metavar="COSINE",
              help="Drop captions whose back-translation is less similar.")  # fmt: skip
@click.option("--encoder", metavar="HUB_OR_FOLDER", help="E5 text encoder that says how similar.")
@click.option("--cache", type=click.Path(path_type=Path, dir_okay=False),
              help="What was translated before [default: OUT's name with .cache.jsonl].")  # fmt: skip
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
@refuse_in_one_sentence
def translate(
    pairs: Path, out: Path, cache: Path | None, overwrite: bool, **options: str | int | float | None
) -> None:
    """Translate the captions of PAIRS (pairs.tsv) into OUT, which keeps all rows and adds the translated ones.

    Each distinct caption is translated once. The same command resumes after a kill. Rows that look wrong are dropped;
    the report beside OUT (.report.json) lists them.
    """
    from lowclip_runtime.schema import from_dict
    from lowclip_train.translation.config import TranslationConfig
    from lowclip_train.translation.translate import translate_pairs

    config = from_dict(TranslationConfig, options, "lowclip-train translate")
    report = translate_pairs(pairs, out, config, cache=cache, overwrite=overwrite)
    rows = report.rows
    reasons = ", ".join(f"{reason} {count:,}" for reason, count in report.dropped_by_reason.items())
    click.echo(
        f"{out}: {rows['added']:,} captions added; {rows['dropped']:,} dropped{f' ({reasons})' if reasons else ''}; "
        f"{report.unique_sentences:,} distinct sentences, {report.forward.from_cache:,} from the cache"
    )
