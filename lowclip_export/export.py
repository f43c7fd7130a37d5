"""`export()`: from a checkpoint to a bundle. The spine; each step has its own file."""

import contextlib
import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from lowclip_export.auto import Drop
from lowclip_export.bundle_writer import refuse_to_replace, write_bundle
from lowclip_export.calibration import FEWEST_TEXTS, Samples, made_up_samples, read_samples
from lowclip_export.dims import with_first_dims
from lowclip_export.evaluation import RetrievalTest, existing_images, retrieval_name
from lowclip_export.quantize import text_recipes
from lowclip_export.recipe import Operators, Quantize
from lowclip_export.stages import ExportedTower, embed_by_torch
from lowclip_export.tower import FloatTower, float_image_tower, float_text_tower, quantized_tower
from lowclip_export.trim import trim_checkpoint
from lowclip_runtime.bundle import BundleManifest
from lowclip_runtime.errors import CheckpointError, ConfigError
from lowclip_runtime.files import aside, mend
from lowclip_runtime.pairs import Pair, read_pairs
from lowclip_train.checkpoint import Checkpoint, load_checkpoint
from lowclip_train.fitting_tokenizer import check_texts_fit, token_count
from lowclip_train.progress import say
from lowclip_train.starting_model import read_corpora


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """What `lowclip-export` may be told.

    Attributes:
        operators: `onnxruntime`'s own, or those of the ONNX `standard` for other providers and runtimes.
        calibration: folder of images, or pairs.tsv; int8 needs it.
        images: folder of the calibration pairs' images [that of the file].
        eval_pairs, eval_images, eval_split: what to measure retrieval on before and after.
        max_drop: for `auto`, how many points of R@10 (of 100) on the pairs quantization may cost, both
            towers together; without pairs hundredths of cosine, for each tower.
        trim_vocab: text files that choose the vocabulary; none keeps it whole.
        keep_latin: keep every piece in Latin letters, whether the texts use it or not.
        dims: keep the first dimensions only [all].
        name: the bundle's name [the checkpoint's].
    """

    quantize: Quantize = "int8"
    operators: Operators = "onnxruntime"
    calibration: Path | None = None
    images: Path | None = None
    eval_pairs: Path | None = None
    eval_images: Path | None = None
    eval_split: str | None = None
    max_drop: float = 0.5
    trim_vocab: tuple[str, ...] = ()
    keep_latin: bool = False
    dims: int | None = None
    overwrite: bool = False
    name: str | None = None

    def __post_init__(self) -> None:
        problems = []
        if self.quantize not in get_args(Quantize):
            problems.append(f"quantize must be one of {', '.join(get_args(Quantize))}, not {self.quantize!r}")
        if self.operators not in get_args(Operators):
            problems.append(
                f"operators must be one of {', '.join(get_args(Operators))}, not {self.operators!r}"
            )
        if self.to_int8 and self.calibration is None:
            problems.append(
                f"{self.quantize} measures ranges on photos; pass --calibration with a folder of them or a "
                "pairs.tsv"
            )
        if self.calibration is None and self.images:
            problems.append("--images goes with --calibration")
        if not 0 <= self.max_drop < math.inf:  # nan is neither
            problems.append(f"--max-drop must be 0 or more points, not {self.max_drop}")
        if self.keep_latin and not self.trim_vocab:
            problems.append("--keep-latin goes with --trim-vocab")
        if self.eval_pairs is None and (self.eval_images or self.eval_split):
            problems.append("--eval-images and --eval-split go with --eval")
        if self.name is not None and re.search("[\ud800-\udfff]", self.name):
            problems.append(f"--name must be text in UTF-8, not {self.name!a}")
        if problems:
            raise ConfigError("; ".join(problems))

    @property
    def to_int8(self) -> bool:
        """Whether recipes are carried out, which measure ranges."""
        return self.quantize in ("int8", "auto")

    @property
    def inputs(self) -> list[Path]:
        """The files and folders that are read besides the checkpoint."""
        given = (self.calibration, self.images, self.eval_pairs, self.eval_images)
        return [*(path for path in given if path is not None), *map(Path, self.trim_vocab)]


def export(checkpoint: str | Path, out: str | Path, options: ExportOptions) -> BundleManifest:
    """Write the bundle `out` from a checkpoint folder; returns its manifest.

    Raises:
        CheckpointError: not a checkpoint, or an encoder that cannot be exported faithfully.
        ConfigError: --dims out of range, int8 in standard operators with no texts to calibrate on, or a checkpoint
            whose tokenizer gives more tokens, or others, than its text encoder knows.
        DatasetError: nothing to calibrate or evaluate on.
        InputError: `out` exists and may not be replaced, or what is read would be lost with it.
    """
    out = Path(out)
    refuse_to_replace(out, overwrite=options.overwrite, needed=[Path(checkpoint), *options.inputs])
    opened = load_checkpoint(checkpoint)
    _check_texts(opened)
    if options.dims is not None:
        opened = with_first_dims(opened, options.dims)
    eval_pairs = _eval_pairs(options)
    calibration, parity = _samples(opened, options)
    with contextlib.ExitStack() as stack:
        if options.trim_vocab:
            opened = _trimmed(opened, options, stack.enter_context(_work_folder(out)), eval_pairs)
        test = _retrieval_test(opened, options, eval_pairs)
        # one tower at a time: the graphs of a large one take gigabytes
        image = _quantized(
            float_image_tower, opened, calibration, parity, options, test.image_drop if test else None
        )
        text = _quantized(
            float_text_tower, opened, calibration, parity, options, test.text_drop if test else None
        )
        evaluation = _evaluation(image, text, options, test)
        manifest = write_bundle(
            out, opened, image, text,
            name=options.name or opened.manifest.name, evaluation=evaluation, overwrite=options.overwrite,
        )  # fmt: skip
    say(f"{out}: {sum(entry.bytes for entry in manifest.files.values()) / 1e6:.1f} MB")
    return manifest


def _check_texts(opened: Checkpoint) -> None:
    """What training checks, too: a text that is too long, or an id too large, may come first to who has the bundle."""
    encoder, text = opened.model.text_tower.encoder, opened.manifest.text
    check_texts_fit(encoder, opened.tokenizer_path, text)
    rows = token_count(encoder)
    if text.pad_token_id >= rows:
        raise CheckpointError(
            f"the checkpoint pads texts with the id {text.pad_token_id}, but its text encoder has embeddings of the "
            f"ids up to {rows - 1}; set text.pad_token_id in its manifest.json to that of its tokenizer"
        )
    longest = np.full((1, text.max_tokens), (text.pad_token_id + 1) % rows, np.int64)
    embed_by_torch(opened.model.text_tower, [{"input_ids": longest, "attention_mask": np.ones_like(longest)}])


def _eval_pairs(options: ExportOptions) -> list[Pair]:
    if options.eval_pairs is None:
        return []
    pairs = read_pairs(options.eval_pairs, split=options.eval_split)
    existing_images(pairs, _eval_images(options, options.eval_pairs))  # before the minutes of work, not after
    return pairs


def _eval_images(options: ExportOptions, pairs: Path) -> Path:
    return options.eval_images or pairs.parent


def _samples(opened: Checkpoint, options: ExportOptions) -> tuple[Samples, Samples]:
    spec = opened.manifest.preprocess
    if options.calibration is None:
        return made_up_samples(spec), made_up_samples(spec)
    calibration, parity = read_samples(options.calibration, options.images, spec)
    if options.to_int8:  # refuses before the minutes of work, not after
        text_recipes(calibrated=calibration.calibrate_texts(options.operators), operators=options.operators)
    say(f"calibration: {len(calibration.pixels)} images, {len(calibration.texts)} texts")
    if options.to_int8 and len(calibration.texts) < FEWEST_TEXTS:
        say(_few_texts(options.operators))
    return calibration, parity


def _few_texts(operators: Operators) -> str:
    if operators == "standard":
        return f"  scales measured on fewer than {FEWEST_TEXTS} texts cost accuracy; calibrate with more captions"
    return (
        f"  fewer than {FEWEST_TEXTS} texts: each token of a text is scaled by itself instead, which takes longer; "
        "calibrate with more captions"
    )


@contextlib.contextmanager
def _work_folder(out: Path) -> Iterator[Path]:
    """Beside `out`, for as long as the block runs; what a kill leaves of it the next export to `out` removes."""
    out = out.resolve()  # that export looks beside what a link leads to
    mend(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with aside(out, ".tmp", folder=True) as work:
        yield work


def _trimmed(opened: Checkpoint, options: ExportOptions, work: Path, eval_pairs: list[Pair]) -> Checkpoint:
    held_out = [pair.caption for pair in eval_pairs]
    trimmed = trim_checkpoint(
        opened,
        read_corpora(options.trim_vocab),
        work / "tokenizer.json",
        held_out=held_out,
        keep_latin=options.keep_latin,
    )
    report = trimmed.manifest.lineage["trimmed_vocabulary"]
    say(f"vocabulary: {report['rows_before']:,} → {report['rows_kept']:,} rows")
    if report["running_words"]:
        say(
            f"  held-out words re-segmented: {report['running_words_resegmented']:.2%} of the running, "
            f"{report['distinct_words_resegmented']:.2%} of the distinct ones; unknown "
            f"{report['unknown_before']:.2%} → {report['unknown_after']:.2%}"
        )
    return trimmed


def _retrieval_test(opened: Checkpoint, options: ExportOptions, pairs: list[Pair]) -> RetrievalTest | None:
    if options.eval_pairs is None:
        return None
    return RetrievalTest(pairs, _eval_images(options, options.eval_pairs), opened)


def _quantized(
    make: Callable[[Checkpoint, Samples, Samples, Operators], FloatTower],
    opened: Checkpoint,
    calibration: Samples,
    parity: Samples,
    options: ExportOptions,
    drop: Drop | None,
) -> ExportedTower:
    """One tower; of the points of R@10 that both together may cost, each may cost half."""
    tower = make(opened, calibration, parity, options.operators)
    return quantized_tower(tower, options.quantize, options.max_drop / (2 if drop else 1), drop)


def _evaluation(
    image: ExportedTower, text: ExportedTower, options: ExportOptions, test: RetrievalTest | None
) -> dict[str, Any]:
    if options.eval_pairs is None or test is None:
        return {}
    result = test.result(image.final, text.final)
    for lang, one in result.items():
        if lang != "parity":
            say(f"evaluation, {lang}, gallery {one['gallery']}: text → image R@10 {_recall(one)}")
    return {retrieval_name(options.eval_pairs, options.eval_split): result}


def _recall(one: dict[str, Any]) -> str:
    before, after = (one[when]["text_to_image"]["R@10"] for when in ("before", "after"))
    return f"{before:.4f} before, {after:.4f} after"
