"""Writes a finished bundle again with other names for its concepts, and codes of them, without its checkpoint.

    python -m lowclip_export.recode BUNDLE OUT --config CONFIG --eval PAIRS

Names and codes are no part of any training: `lowclip_train/known_concepts.py` makes them of what the encoders give for
photos and names. So a bundle whose towers took hours can learn new names in a minute. Its weights stay as they are, to
the bit, but for the constants that hold names and codes; CONFIG is that of the run that first gave it concepts. What
was measured of its parity stays in the manifest: it is of the bundle before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import torch
from torch import Tensor
from tqdm import tqdm

from lowclip_export.bundle_writer import refuse_to_replace, rewrite_bundle
from lowclip_export.evaluation import RetrievalPairs, retrieval_name
from lowclip_export.int8_storage import int8_projection
from lowclip_export.onnx_edit import GraphEdit, consumers, run_graph
from lowclip_export.quantization_math import quantize_symmetric, symmetric_scale
from lowclip_export.recipe import FULL_RANGE
from lowclip_runtime.bundle import MANIFEST_NAME, TOKENIZER_NAME, BundleManifest, read_manifest
from lowclip_runtime.cli.options import refuse_in_one_sentence
from lowclip_runtime.errors import ConfigError
from lowclip_runtime.files import sha256_of
from lowclip_runtime.pairs import read_pairs
from lowclip_runtime.preprocess import preprocess
from lowclip_runtime.schema import to_dict
from lowclip_runtime.stream import batches
from lowclip_runtime.text import Tokenizer, pad
from lowclip_train.concept_codes import coded
from lowclip_train.concept_names import learned_concepts
from lowclip_train.concepts import ConceptSizes
from lowclip_train.config import TrainConfig, load_config
from lowclip_train.dataset import read_dataset
from lowclip_train.known_concepts import all_names
from lowclip_train.name_keys import key_dims, text_concepts, without_redundant
from lowclip_train.run import training_images

_PATH = click.Path(exists=True, path_type=Path)
_PROJECTION = "projection.concepts"
_BATCH = 16


@click.command()
@click.argument("bundle", type=_PATH)
@click.argument("out", type=click.Path(path_type=Path))
@click.option("--config", "config_path", type=_PATH, required=True, metavar="TOML")
@click.option("--eval", "pairs", type=_PATH, metavar="PAIRS", help="pairs.tsv to measure retrieval on.")
@click.option(
    "--eval-images", "images", type=_PATH, metavar="DIR", help="Its images [default: PAIRS's folder]."
)
@click.option("--eval-split", "split", metavar="NAME", help="Only this split of it.")
@click.option("--overwrite", is_flag=True, help="Replace the bundle OUT.")
@refuse_in_one_sentence
def main(
    bundle: Path, out: Path, config_path: Path, pairs: Path | None, images: Path | None, split: str | None,
    overwrite: bool,
) -> None:  # fmt: skip
    """Write BUNDLE to OUT with the names and codes that the run of TOML would give its concepts now."""
    config = load_config(config_path, with_parent=False)
    test = Retrieval(pairs, images or pairs.parent, split) if pairs else None
    recode(bundle, out, config, test, overwrite=overwrite)
    click.echo(str(out))


@dataclass(frozen=True)
class Retrieval:
    """What to measure retrieval on: the `split`, or all, of a file of pairs and the folder of its images."""

    pairs: Path
    images: Path
    split: str | None = None


def recode(
    bundle: Path, out: Path, config: TrainConfig, test: Retrieval | None = None, *, overwrite: bool = False
) -> BundleManifest:
    """Write `bundle` to `out` with concepts named and coded anew; returns its manifest.

    Raises:
        ConfigError: bundle and config know other concepts.
        DatasetError: the photos or names cannot be read.
        InputError: `out` exists and may not be replaced.
    """
    refuse_to_replace(out, overwrite=overwrite)
    before = read_manifest(bundle)
    sizes = _sizes(before, config)
    image, text = (onnx.load(bundle / tower.file) for tower in (before.image_tower, before.text_tower))
    tokenizer = Tokenizer(bundle / TOKENIZER_NAME, before.text)
    training = training_images([read_dataset(source.dataset) for source in config.sources], tokenizer)
    assert config.concepts is not None, "its sizes were compared"
    shown = training.rows(config, concepts=True)
    learned = learned_concepts(training.images, shown).names if shown else []
    names = all_names(config.concepts, learned, sizes.pretrained, tokenizer)
    if len(names.concepts) != sizes.pretrained + sizes.learned:
        raise ConfigError(
            f"{bundle} knows {sizes.pretrained + sizes.learned:,} concepts and the config names "
            f"{len(names.concepts):,}; give the config and the data of the run that made it"
        )
    rows = training.rows(config, concepts=False) or range(len(training.images))
    seen = _seen(image, [training.images[row].path for row in rows], before, sizes.pretrained)
    features = _features(text, tokenizer, names.all())
    named = without_redundant(coded(names, features, seen, sizes.dims, config.schedule.seed))
    width = named.features.shape[1]
    sizes = replace(sizes, names=len(named.features), key_dims=sizes.key_dims or key_dims(width))
    told = text_concepts(sizes, named)
    lineage = {
        **before.lineage,
        "concepts": to_dict(sizes),
        "recoded": sha256_of(bundle / MANIFEST_NAME),
    }
    image = _with_weights(image, {"codes.weight": named.concept_codes.T})
    if sizes.key_dims and not before.lineage["concepts"].get("key_dims"):
        text = _with_room_for_keys(text, (width, sizes.key_dims))
    text = _with_weights(text, dict(told.named_parameters()))
    measured = _measured(image, text, test, before, tokenizer) if test else {}
    return rewrite_bundle(bundle, out, image, text, overwrite=overwrite, lineage=lineage, evaluation=measured)


def _measured(
    image: onnx.ModelProto,
    text: onnx.ModelProto,
    test: Retrieval,
    before: BundleManifest,
    tokenizer: Tokenizer,
) -> dict[str, Any]:
    """As the export did it; what the checkpoint gave `before` stays as it was."""
    pairs = RetrievalPairs(
        read_pairs(test.pairs, split=test.split), test.images, before.preprocess, tokenizer
    )
    metrics = pairs.metrics(pairs.embed_images(image), pairs.embed_texts(text))
    name = retrieval_name(test.pairs, test.split)
    known = before.evaluation.get(name, {})
    result = {}
    for lang, sizes in pairs.sizes().items():
        then = known.get(lang or "all", {}).get("before")
        result[lang or "all"] = {**sizes, **({"before": then} if then else {}), "after": metrics[lang]}
    return {name: result}


def _sizes(manifest: BundleManifest, config: TrainConfig) -> ConceptSizes:
    known = manifest.lineage.get("concepts")
    if not isinstance(known, dict) or config.concepts is None:
        whose = "the bundle" if not isinstance(known, dict) else "the config"
        raise ConfigError(
            f"{whose} knows no concepts, so there is nothing to name anew; train a run that does"
        )
    if "dims_before_truncation" in manifest.lineage:
        raise ConfigError(
            "the bundle was exported with --dims, which cut off its concepts; name the whole one anew"
        )
    sizes = ConceptSizes(**known)
    if sizes.dims != config.concepts.dims:
        raise ConfigError(
            f"the codes of the bundle have {sizes.dims} dims and those of the config {config.concepts.dims}; "
            "the towers were trained for one length, so set concepts.dims to the first"
        )
    return sizes


def _seen(graph: onnx.ModelProto, photos: Sequence[Path], manifest: BundleManifest, classes: int) -> Tensor:
    """How probable the pretrained classes are in each photo: (M, P)."""
    (logits,) = _reader(graph, "classify.bias").output
    starts = tqdm(range(0, len(photos), _BATCH), "photos", unit="batch", mininterval=5, disable=None)
    feeds = ({"pixel_values": preprocess(photos[i : i + _BATCH], manifest.preprocess)} for i in starts)
    found = np.concatenate([rows[:, :classes] for (rows,) in run_graph(graph, feeds, [logits])])
    return torch.from_numpy(found.astype(np.float32)).softmax(-1)


def _features(graph: onnx.ModelProto, tokenizer: Tokenizer, texts: Sequence[str]) -> dict[str, Tensor]:
    """What the text encoder makes of each text, before the projection: (C,)."""
    pooled = _reader(graph, "centre").input[0]
    ids = dict(zip(texts, tokenizer.token_ids(texts), strict=True))
    by_length = sorted(texts, key=lambda text: len(ids[text]))
    found: dict[str, Tensor] = {}
    some = list(batches(by_length, _BATCH))
    feeds = (
        dict(zip(("input_ids", "attention_mask"),
                 pad([ids[text] for text in batch], tokenizer.spec.pad_token_id), strict=True))
        for batch in some
    )  # fmt: skip
    for batch, (rows,) in zip(some, run_graph(graph, feeds, [pooled]), strict=True):
        found.update(zip(batch, torch.from_numpy(rows.astype(np.float32)), strict=True))
    return found


def _reader(graph: onnx.ModelProto, constant: str) -> onnx.NodeProto:
    """The node that reads this constant of the concepts' part of a projection."""
    (node,) = consumers(graph)[f"{_PROJECTION}.{constant}"]
    return node


def _with_room_for_keys(graph: onnx.ModelProto, shape: tuple[int, int]) -> onnx.ModelProto:
    """The graph with a product, of zeros still, that makes keys of centred features; stored as the others are."""
    edit = GraphEdit(graph)
    centred = _reader(graph, "centre").output[0]
    key, weight = f"{_PROJECTION}/key", f"{_PROJECTION}.narrow.weight"
    as_others = edit.value(f"{_PROJECTION}.codes.bias")
    assert as_others is not None, "every bundle with concepts has it"
    for name, size in ((weight, shape[::-1]), (f"{_PROJECTION}.narrow.bias", shape[1])):
        edit.constant(name, np.zeros(size, as_others.dtype))
    for node in edit.old_nodes:
        node.input[:] = [key if name == centred else name for name in node.input]
        edit.keep(node)
        if centred in node.output:
            edit.add("Gemm", [centred, weight, f"{_PROJECTION}.narrow.bias"], key, transB=1)
    made = edit.finish()
    is_int8 = any(one.name == f"{_PROJECTION}.codes.weight/int8" for one in graph.graph.initializer)
    return int8_projection(made) if is_int8 else made


def _with_weights(graph: onnx.ModelProto, weights: Mapping[str, Tensor]) -> onnx.ModelProto:
    """The graph with other values of these constants, stored as those of before are: as float, or int8 and scales."""
    edit = GraphEdit(graph)
    for name, tensor in weights.items():
        full, value = f"{_PROJECTION}.{name}", tensor.detach().numpy()
        old = edit.value(f"{full}/int8")
        if old is None:
            as_it_was = edit.value(full)
            assert as_it_was is not None, "_sizes has looked that the bundle knows concepts"
            edit.constant(full, value.astype(as_it_was.dtype))
            continue
        by_token = (
            edit.value(f"{full}/zero_point") is not None
        )  # see int8_storage.py: x · Wᵀ as a product of integers
        matrix = value.T if by_token else value
        scale = symmetric_scale(matrix, 1 if by_token else 0, FULL_RANGE)
        edit.constant(f"{full}/int8", quantize_symmetric(matrix, scale, FULL_RANGE))
        edit.constant(f"{full}/scale", scale.reshape(-1) if by_token else scale)
        if by_token:
            edit.constant(f"{full}/zero_point", np.zeros(scale.size, np.int8))
    for node in edit.old_nodes:
        edit.keep(node)
    return edit.finish()


if __name__ == "__main__":
    main()
