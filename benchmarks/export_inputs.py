"""One tower made ready for measuring: built, exported by us, with its calibration, speed and quality inputs.

Photos and captions are real ones where they are given. How it is then run is `export_peers.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from export_peers import Feed, Source
from export_towers import (
    SMALL_IMAGE,
    build_model,
    is_image_tower,
    made_up_tokenizer,
    manifest,
    settle_batch_norm,
)
from numpy.typing import NDArray

from lowclip_export.calibration import Samples, made_up_samples, read_samples
from lowclip_export.onnx_edit import save_graph
from lowclip_export.recipe import OPERATORS_CHOICES, Operators
from lowclip_export.tower import float_image_tower, float_text_tower, quantized_tower
from lowclip_runtime.cores import available_cores
from lowclip_runtime.spec import PreprocessSpec
from lowclip_runtime.text import Tokenizer
from lowclip_train.checkpoint import Checkpoint

SPEC = PreprocessSpec()
_BATCHES_FOR_BATCH_NORM = 4
_RELU_ONLY = ("resnet50", "tf_efficientnet_lite0")
_IMAGE_TRANSFORMERS = ("vit_base_patch16_224", "swin_tiny_patch4_window7_224")


@dataclass(frozen=True, kw_only=True)
class Given:
    """The data to build and measure with; what is None or missing is made up."""

    photos: Path | None = None
    captions: Path | None = None
    weights: dict[str, Path]
    tokenizers: dict[str, Path]
    calibration_items: int
    quality_items: int


@dataclass(frozen=True)
class Subject:
    """One tower to measure.

    Attributes:
        source: what peers are made from.
        graph: the file of our int8 graph.
        standard_graph: the same in standard operators, which other providers can fuse.
        speed: a feed of that batch size and text length (which images ignore), without padding.
        quality: items one by one, texts padded to the longest length.
        lengths: of texts; (0,) for images.
    """

    source: Source
    graph: Path
    standard_graph: Path
    speed: Callable[[int, int], Feed]
    quality: list[Feed]
    lengths: tuple[int, ...]

    @property
    def standard_float_graph(self) -> Path:
        """What `standard_graph` was quantized from."""
        return _float_path(self.standard_graph)


def prepare(name: str, given: Given, lengths: tuple[int, ...], folder: Path) -> Subject:
    """Build the tower, export it by our code, and read its inputs; files go to `folder`."""
    calibration, parity = read_inputs(given)
    checkpoint = build_checkpoint(name, given, calibration, folder)
    is_image = is_image_tower(name)
    make = float_image_tower if is_image else float_text_tower
    graphs = {operators: folder / f"{operators}.onnx" for operators in OPERATORS_CHOICES}
    for operators, path in graphs.items():
        tower = make(checkpoint, calibration, parity, operators)
        if operators == "standard":
            save_graph(tower.graph, _float_path(path), external=not is_image)
        exported = quantized_tower(tower, "int8")
        save_graph(exported.final, path, external=not is_image)  # as a bundle holds it
    made = _image_subject if is_image else _text_subject
    return made(name, checkpoint, calibration, parity, graphs, lengths)


def read_inputs(given: Given) -> tuple[Samples, Samples]:
    """Samples for calibration and for quality, cut to the numbers asked for."""
    if given.photos is None:
        calibration, parity = made_up_samples(SPEC), made_up_samples(SPEC)
    elif given.captions is None:
        calibration, parity = read_samples(given.photos, None, SPEC)
    else:
        calibration, parity = read_samples(given.captions, given.photos, SPEC)
    return _cut(calibration, given.calibration_items), _cut(parity, given.quality_items)


def build_checkpoint(name: str, given: Given, calibration: Samples, folder: Path) -> Checkpoint:
    """The tower, with a small one beside it that is not measured."""
    weights, is_image = given.weights.get(name), is_image_tower(name)
    if is_image:
        model = build_model(name, None, image_weights=weights)
        if weights is None:
            batches = islice(calibration.image_feeds(SPEC), _BATCHES_FOR_BATCH_NORM)
            settle_batch_norm(model.image_tower.encoder, (feed["pixel_values"] for feed in batches))
    else:
        model = build_model(SMALL_IMAGE, name, text_weights=weights)
    tokenizer = given.tokenizers.get(name)
    if tokenizer is None and weights is not None and (weights / "tokenizer.json").is_file():
        tokenizer = weights / "tokenizer.json"
    if tokenizer is None:
        texts = (*calibration.texts, *made_up_samples(SPEC).texts)
        tokenizer = made_up_tokenizer(texts, folder / "tokenizer.json")
    return Checkpoint(model, manifest(model, name, None if is_image else name), tokenizer)


def _image_subject(
    name: str,
    checkpoint: Checkpoint,
    calibration: Samples,
    parity: Samples,
    graphs: dict[Operators, Path],
    lengths: tuple[int, ...],
) -> Subject:
    pixels = np.concatenate([feed["pixel_values"] for feed in parity.image_feeds(SPEC)])  # (N, 3, H, W)

    def speed(batch: int, length: int) -> Feed:
        return {"pixel_values": np.resize(pixels, (batch, *pixels.shape[1:]))}

    source = Source(
        tower=checkpoint.model.image_tower, example=speed(2, 0), output="image_embeds",
        folder=graphs["standard"].parent, threads=available_cores(),
        calibration=lambda: map(dict, calibration.image_feeds(SPEC, 1)),
        mixed=name not in _RELU_ONLY, transformer=name in _IMAGE_TRANSFORMERS,
    )  # fmt: skip
    return Subject(
        source,
        graphs["onnxruntime"],
        graphs["standard"],
        speed,
        [{"pixel_values": one[None]} for one in pixels],
        (0,),
    )


def _text_subject(
    name: str,
    checkpoint: Checkpoint,
    calibration: Samples,
    parity: Samples,
    graphs: dict[Operators, Path],
    lengths: tuple[int, ...],
) -> Subject:
    spec = replace(checkpoint.manifest.text, max_tokens=max(lengths))
    tokenizer = Tokenizer(checkpoint.tokenizer_path, spec)
    texts = calibration.texts or made_up_samples(SPEC).texts
    stream = np.array([token for ids in tokenizer.token_ids(texts) for token in ids], np.int64)

    def speed(batch: int, length: int) -> Feed:
        ids = np.resize(stream, (batch, length))
        return {"input_ids": ids, "attention_mask": np.ones_like(ids)}

    source = Source(
        tower=checkpoint.model.text_tower, example=_example(speed), output="text_embeds",
        folder=graphs["standard"].parent,
        calibration=lambda: map(dict, replace(calibration, texts=texts).text_feeds(tokenizer, 1)),
        threads=available_cores(), mixed=True, transformer=True,
    )  # fmt: skip
    quality = [_padded(ids, max(lengths), spec.pad_token_id) for ids in tokenizer.token_ids(parity.texts)]
    return Subject(source, graphs["onnxruntime"], graphs["standard"], speed, quality, lengths)


def _float_path(quantized: Path) -> Path:
    return quantized.with_stem(f"{quantized.stem}_float")


def _example(speed: Callable[[int, int], Feed]) -> Feed:
    """Two texts, one of them padded, so that tracing keeps the mask."""
    feed = speed(2, 7)
    feed["attention_mask"][1, 5:] = 0
    return feed


def _padded(ids: list[int], length: int, pad_token_id: int) -> Feed:
    row: NDArray[Any] = np.full((1, length), pad_token_id, np.int64)
    row[0, : len(ids)] = ids
    mask = np.zeros_like(row)
    mask[0, : len(ids)] = 1
    return {"input_ids": row, "attention_mask": mask}


def _cut(samples: Samples, count: int) -> Samples:
    return replace(samples, pixels=samples.pixels[:count], texts=samples.texts[:count])
