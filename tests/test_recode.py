"""A finished bundle whose concepts get other names and codes: what is found, what stays, and what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import numpy_helper
from tiny_concepts import CODE_DIMS, heads_config, with_concepts
from tiny_training import COLOURS

from lowclip_export.export import ExportOptions, export
from lowclip_export.recipe import Quantize
from lowclip_export.recode import Retrieval, main, recode
from lowclip_runtime.bundle import read_manifest
from lowclip_runtime.clip import LowClip
from lowclip_runtime.errors import ConfigError, InputError
from lowclip_runtime.pairs import Pair, write_pairs
from lowclip_runtime.verify import verify_bundle
from lowclip_train.config import TrainConfig
from lowclip_train.trainer import train

_TEXTS = [azerbaijani for azerbaijani, _ in COLOURS.values()]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, TrainConfig]:
    """A checkpoint in `run` that knows concepts, and the config that made it."""
    folder = tmp_path_factory.mktemp("recode")
    config = with_concepts(heads_config(folder), folder)
    train(config, folder / "run")
    return folder, config


def _bundle(folder: Path, quantize: Quantize) -> Path:
    out = folder / quantize
    if not out.exists():
        calibration = {"calibration": folder / "pictures"} if quantize == "int8" else {}
        export(folder / "run/checkpoint", out, ExportOptions(quantize=quantize, **calibration))
    return out


def _embeddings(bundle: Path) -> tuple[np.ndarray, np.ndarray]:
    clip = LowClip.open(bundle)
    return clip.embed_images(sorted((bundle.parent / "pictures").glob("one-*.png"))), clip.embed_texts(_TEXTS)


@pytest.mark.parametrize(("quantize", "large"), [("none", None), ("fp16", None), ("int8", None), ("int8", 0)])
def test_the_same_names_get_the_codes_that_they_had(
    work: tuple[Path, TrainConfig], monkeypatch: pytest.MonkeyPatch, quantize: Quantize, large: int | None
) -> None:
    """From what the finished graphs give, whose integers are a little off; also with products of integers."""
    folder, config = work
    source = _bundle(folder, quantize)
    if large is not None:
        monkeypatch.setattr("lowclip_export.int8_storage._LARGE_PROJECTION", large)
        source = folder / "large"
        export(folder / "run/checkpoint", source, ExportOptions(calibration=folder / "pictures"))
    again = folder / f"again-{quantize}-{large}"
    recode(source, again, config)
    for before, after in zip(_embeddings(source), _embeddings(again), strict=True):
        assert (before * after).sum(1).min() > {"none": 0.9999, "fp16": 0.999, "int8": 0.98}[quantize]
    verify_bundle(again)


def test_a_new_word_is_known_and_all_else_is_as_it_was(
    work: tuple[Path, TrainConfig], tmp_path: Path
) -> None:
    folder, config = work
    source = _bundle(folder, "int8")
    names = [Pair("x", "unused", "az"), Pair("x", "red", "en"), Pair("y", "boz", "az")]
    write_pairs(tmp_path / "words.tsv", names)
    assert config.concepts
    words = replace(config, concepts=replace(config.concepts, words=str(tmp_path / "words.tsv")))
    pictures = sorted((folder / "pictures").glob("one-*.png"))
    pairs = [Pair(path.name, path.stem.removeprefix("one-"), "en") for path in pictures]
    write_pairs(tmp_path / "pairs.tsv", pairs)
    manifest = recode(source, tmp_path / "out", words, Retrieval(tmp_path / "pairs.tsv", folder / "pictures"))
    before = read_manifest(source)
    assert (
        manifest.lineage["concepts"]["names"] == before.lineage["concepts"]["names"] + 1
    )  # the others were known
    assert manifest.evaluation[tmp_path.name]["en"]["queries"] == 8
    assert "made, once more after the export" in (tmp_path / "out/README.md").read_text("utf-8")
    code, former = (
        LowClip.open(one).embed_texts(["unused"])[0, -CODE_DIMS:] for one in (tmp_path / "out", source)
    )
    assert np.linalg.norm(code) > 0.6 > 0.2 > np.linalg.norm(former)
    for tower in ("image_tower", "text_tower"):
        old, new = (onnx.load(bundle / getattr(before, tower).file) for bundle in (source, tmp_path / "out"))
        assert [node.op_type for node in old.graph.node] == [node.op_type for node in new.graph.node]
        values, others = (
            {one.name: numpy_helper.to_array(one) for one in graph.graph.initializer} for graph in (new, old)
        )
        differ = [name for name in others if not np.array_equal(values[name], others[name])]
        assert differ and all(".concepts." in name for name in differ)


@pytest.mark.parametrize("quantize", ["none", "fp16", "int8"])
def test_a_bundle_of_long_keys_gets_short_ones(
    work: tuple[Path, TrainConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, quantize: Quantize
) -> None:
    """And once it has them, it keeps them."""
    folder, config = work
    source = _bundle(folder, quantize)
    monkeypatch.setattr("lowclip_train.name_keys.KEY_DIMS", 24)
    manifest = recode(source, tmp_path / "short", config)
    assert manifest.lineage["concepts"]["key_dims"] == 24
    again = recode(tmp_path / "short", tmp_path / "again", config)
    assert again.lineage["concepts"] == manifest.lineage["concepts"]
    _, before = _embeddings(source)
    for out in ("short", "again"):
        verify_bundle(tmp_path / out)
        after = LowClip.open(tmp_path / out).embed_texts(_TEXTS)
        assert (before * after).sum(1).min() > 0.9
    graphs = [onnx.load(tmp_path / out / manifest.text_tower.file).graph for out in ("short", "again")]
    assert [n.op_type for n in graphs[0].node] == [n.op_type for n in graphs[1].node]
    weights = {one.name: one for one in graphs[0].initializer}
    stored = "projection.concepts.narrow.weight" + ("/int8" if quantize == "int8" else "")
    assert tuple(weights[stored].dims) == (24, 32)


def test_the_command_needs_no_checkpoint(work: tuple[Path, TrainConfig], tmp_path: Path) -> None:
    """What only the checkpoint that the run started from could say is not asked."""
    folder, config = work
    assert config.concepts
    (tmp_path / "config.toml").write_text(
        f"""
name = "tiny"
licence = "Apache-2.0"
[towers]
checkpoint = "nowhere"
image_frozen_stages = 2
[[sources]]
dataset = "{config.sources[0].dataset}"
[[sources]]
dataset = "{config.sources[1].dataset}"
concepts = true
[concepts]
dims = {CODE_DIMS}
names = "{config.concepts.names}"
image_weights = "{config.concepts.image_weights}"
[[stages]]
train = "heads"
epochs = 1
[schedule]
image_views = 2
""",
        "utf-8",
    )
    arguments = [
        str(_bundle(folder, "none")),
        str(tmp_path / "out"),
        "--config",
        str(tmp_path / "config.toml"),
    ]
    result = CliRunner().invoke(main, arguments)
    assert (result.exit_code, result.stdout) == (0, f"{tmp_path / 'out'}\n"), result.output
    assert verify_bundle(tmp_path / "out")
    again = CliRunner().invoke(main, arguments)
    assert again.exit_code == 1 and "exists already" in again.stderr


def test_what_cannot_be_named_anew_is_refused(work: tuple[Path, TrainConfig], tmp_path: Path) -> None:
    folder, config = work
    source = _bundle(folder, "none")
    assert config.concepts
    with pytest.raises(InputError, match="exists already"):
        recode(source, source, config)
    with pytest.raises(ConfigError, match="the config knows no concepts"):
        recode(source, tmp_path / "out", replace(config, concepts=None, sources=config.sources[:1]))
    with pytest.raises(ConfigError, match=f"have {CODE_DIMS} dims and those of the config 16"):
        recode(source, tmp_path / "out", replace(config, concepts=replace(config.concepts, dims=16)))
    export(folder / "run/checkpoint", tmp_path / "cut", ExportOptions(quantize="none", dims=16))
    with pytest.raises(ConfigError, match="exported with --dims, which cut off its concepts"):
        recode(tmp_path / "cut", tmp_path / "out", config)
    other = replace(config.sources[1], dataset=config.sources[0].dataset)
    with pytest.raises(ConfigError, match="leave it out"):
        recode(source, tmp_path / "out", replace(config, sources=(config.sources[0], other)))
    assert not (tmp_path / "out").exists()
