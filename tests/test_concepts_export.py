"""A checkpoint that knows concepts by name, exported: its graphs give what torch gives, and int8 costs little."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from tiny_checkpoint import CAPTIONS, write_noise_pairs, write_noise_photos, write_tiny_checkpoint

from lowclip_export.export import ExportOptions, export
from lowclip_runtime.bundle import read_manifest
from lowclip_runtime.clip import LowClip
from lowclip_runtime.preprocess import preprocess
from lowclip_runtime.schema import to_dict
from lowclip_train.checkpoint import SCHEMA_VERSION, load_checkpoint, save_checkpoint
from lowclip_train.concept_codes import coded
from lowclip_train.concept_names import ConceptNames
from lowclip_train.known_concepts import add_concepts, discriminant
from lowclip_train.name_keys import KEY_DIMS

_CODE = 48  # with 24, two photos are as good for one name, to 0.002


@pytest.fixture(scope="module", params=[KEY_DIMS, 24], ids=["long keys", "short keys"])
def work(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Photos, pairs, and a checkpoint for which each of the photos is a concept named by a caption."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lowclip_train.name_keys.KEY_DIMS", request.param)  # features have 32 numbers
        yield _checkpoint(tmp_path_factory.mktemp("concepts"))


def _checkpoint(folder: Path) -> Path:
    photos = write_noise_photos(folder / "photos", len(CAPTIONS))
    write_noise_pairs(folder / "pairs.tsv", len(CAPTIONS))
    before = load_checkpoint(write_tiny_checkpoint(folder / "plain"))
    model, text = before.model, before.manifest.text
    with torch.no_grad():
        pixels = torch.from_numpy(preprocess(photos, before.manifest.preprocess))
        views = torch.stack([model.image_tower.encoder(pixels + 0.1 * shift) for shift in (-1, 0, 1)], 1)
        others = model.image_tower.encoder(
            torch.randn(64, 3, 64, 64, generator=torch.Generator().manual_seed(0))
        )
        told_apart = discriminant(views, torch.arange(len(photos)), others)
        clip_tokens = _tokens(before.tokenizer_path, text)
        features = {c: model.text_tower.pool(*clip_tokens(c))[0] for c in CAPTIONS}
    names = ConceptNames([{c: c} for c in CAPTIONS], [])
    named = coded(names, features, torch.zeros(0, 0), _CODE, seed=0)
    add_concepts(model, _CODE, None, told_apart, named)
    manifest = before.manifest
    lineage = {"datasets": {"noise": {"train/az": 14}}, "concepts": to_dict(model.config.concepts)}
    fields = {**vars(manifest), "schema_version": SCHEMA_VERSION, "model": model.config, "lineage": lineage}
    save_checkpoint(folder / "checkpoint", model, before.tokenizer_path, type(manifest)(**fields))
    return folder


def _tokens(path, spec):  # type: ignore[no-untyped-def]
    from lowclip_runtime.text import Tokenizer

    tokenizer = Tokenizer(path, spec)
    return lambda text: tuple(map(torch.from_numpy, tokenizer([text])))


def _towers(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    clip = LowClip.open(folder)
    return clip.embed_images(sorted((folder.parent / "photos").glob("*.png"))), clip.embed_texts(CAPTIONS)


def test_the_graphs_give_what_torch_gives_and_int8_names_the_same(work: Path) -> None:
    export(work / "checkpoint", work / "none", ExportOptions(quantize="none"))
    parity = read_manifest(work / "none").parity
    for tower in ("image", "text"):
        assert parity[tower]["optimized"]["min_cosine"] > 0.99999
    options = ExportOptions(quantize="int8", calibration=work / "pairs.tsv", images=work / "photos")
    export(work / "checkpoint", work / "int8", options)
    (images, texts), (small_images, small_texts) = _towers(work / "none"), _towers(work / "int8")
    assert images.shape[1] == 32 + _CODE
    assert (images * small_images).sum(1).mean() > 0.98 and (texts * small_texts).sum(1).mean() > 0.99
    code = slice(32, None)
    found = (texts[:, code] @ images[:, code].T).argmax(1)
    assert np.array_equal((small_texts[:, code] @ small_images[:, code].T).argmax(1), found)
    card = (work / "int8/README.md").read_text("utf-8")
    assert (
        "known by name, 14 of them: 0 classes" in card
        and f"14 concepts of training images (the last {_CODE} " in card
        and "shortened" not in card
    )
    # the large matrices of concepts are kept as integers
    for name, limit in (("vision", 0.5), ("text", 0.5)):
        model = onnx.load(work / f"int8/onnx/{name}_model_int8.onnx")
        floats = sum(
            np.prod(t.dims) for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT
        )
        wholes = sum(np.prod(t.dims) for t in model.graph.initializer if t.data_type == onnx.TensorProto.INT8)
        assert floats < limit * wholes, name


@pytest.mark.parametrize("dims", [32, 16])
def test_first_dims_are_those_of_its_own_projection(work: Path, dims: int) -> None:
    export(work / "checkpoint", work / f"short-{dims}", ExportOptions(quantize="none", dims=dims))
    export(work / "plain", work / f"without-{dims}", ExportOptions(quantize="none", dims=dims))
    for short, without in zip(
        _towers(work / f"short-{dims}"), _towers(work / f"without-{dims}"), strict=True
    ):
        np.testing.assert_allclose(short, without, atol=1e-5)
    sizes = [(work / f"{name}-{dims}/onnx/text_model.onnx").stat().st_size for name in ("short", "without")]
    assert sizes[0] < sizes[1] + 1000  # nothing of the concepts is left
    card = (work / f"short-{dims}/README.md").read_text("utf-8")
    assert "captions train/az 14" in card and "known by name" not in card
    assert f"were shortened from {32 + _CODE} to {dims} dimensions" in card
    assert f"Of the {_CODE} dimensions that knew things by name, none are left." in card
    assert "by name" not in (work / f"without-{dims}/README.md").read_text("utf-8")


def test_the_card_tells_how_many_dims_of_concepts_are_left(work: Path) -> None:
    export(work / "checkpoint", work / "partly", ExportOptions(quantize="none", dims=40))
    card = (work / "partly/README.md").read_text("utf-8")
    assert "known by name, 14 of them" in card and "(the last 8 dimensions)" in card
    assert f"Of the {_CODE} dimensions that knew things by name, 8 are left." in card
