"""Runs of heads alone: the same steps from pooled outputs, what is kept, and concepts known by name."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from tiny_concepts import class_name, heads_config, with_concepts
from tiny_training import COLOURS

from lowclip_runtime.errors import ConfigError
from lowclip_runtime.pairs import read_pairs
from lowclip_train import frozen_outputs
from lowclip_train.checkpoint import load_checkpoint
from lowclip_train.concepts_config import ConceptsConfig
from lowclip_train.config import TextNoise, TrainConfig
from lowclip_train.dataset import write_dataset
from lowclip_train.encoders import pretrained_classifier
from lowclip_train.frozen_outputs import pool_images
from lowclip_train.image_inputs import CachedInputs
from lowclip_train.run import prepare_run
from lowclip_train.trainer import epoch_steps, train, train_step


@pytest.fixture
def parent(tmp_path: Path) -> TrainConfig:
    return heads_config(tmp_path)


def test_pooled_outputs_are_what_the_encoders_give(parent: TrainConfig, tmp_path: Path) -> None:
    run = prepare_run(parent, tmp_path / "run")
    assert run.heads
    rows = list(range(len(run.images)))
    captions = [i.captions["az"][0] for i in run.images]
    run.model.eval()
    with torch.no_grad():
        pixel_values = prepare_run(replace(parent, stages=()), tmp_path / "other").inputs.clean_batch(rows)
        other = prepare_run(replace(parent, stages=()), tmp_path / "other").split.tail.eval()(pixel_values)
        input_ids, mask = run.tokenizer([c.text for c in captions])
        pooled = run.model.text_tower.pool(torch.from_numpy(input_ids), torch.from_numpy(mask))
    # kept as float16, which has eleven bits
    torch.testing.assert_close(run.inputs.clean_batch(rows), other, rtol=2e-3, atol=2e-3)
    torch.testing.assert_close(
        run.heads.texts.vectors([c.text for c in captions]), pooled, rtol=2e-3, atol=2e-3
    )


def test_captions_are_pooled_as_typed_too(parent: TrainConfig, tmp_path: Path) -> None:
    noise = TextNoise(no_diacritics_probability=1.0)
    config = replace(parent, text_noise=noise, schedule=replace(parent.schedule, text_views=1))
    run = prepare_run(config, tmp_path / "run")
    assert run.heads
    drawn = run.heads.draw_views(["qırmızı şəkil"] * 200, np.random.default_rng(0))
    assert {drawn.count(view) for view in ("qırmızı şəkil", "qirmizi sekil")} <= set(range(70, 131))
    run.heads.texts.vectors(drawn)
    whole = train(config, tmp_path / "run")
    train(config, tmp_path / "cut", max_steps=3)
    assert (whole / "model.safetensors").read_bytes() == (
        train(config, tmp_path / "cut") / "model.safetensors"
    ).read_bytes()
    with pytest.raises(ValueError, match="text_views works where only heads train"):
        replace(config, stages=())


def test_cyrillic_views_are_of_azerbaijani_captions(parent: TrainConfig, tmp_path: Path) -> None:
    pairs = read_pairs(tmp_path / "data/pairs.tsv")
    renamed = {
        "a black picture": "a façade",
        "qara şəkil": "qara it",
    }  # their letters alone would say the opposite
    pairs = [replace(p, caption=renamed.get(p.caption, p.caption)) for p in pairs]
    unnamed = [replace(p, caption="boz it", lang="") for p in pairs if p.caption == "boz şəkil"]
    pairs = [p for p in pairs if p.caption != "boz şəkil"] + unnamed
    write_dataset(tmp_path / "data", "colours", tmp_path / "pictures", pairs, overwrite=True)
    noise = TextNoise(cyrillic_probability=1.0)
    config = replace(parent, text_noise=noise, schedule=replace(parent.schedule, text_views=1))
    heads = prepare_run(config, tmp_path / "run").heads
    assert heads
    assert heads.views["qara it"] == ("qara it", "гара ит")
    assert heads.views["boz it"] == ("boz it", "боз ит")  # as captions of no named language are measured
    assert heads.views["a façade"] == ("a façade", "a façade")


def test_a_new_branch_changes_nothing_yet(parent: TrainConfig, tmp_path: Path) -> None:
    run = prepare_run(parent, tmp_path / "run")
    before = load_checkpoint(parent.towers.checkpoint).model
    features = torch.randn(4, run.model.image_tower.projection.project.in_features)  # type: ignore[union-attr]
    run.model.eval()
    assert torch.equal(
        run.model.image_tower.embed_pooled(features), before.image_tower.embed_pooled(features)
    )
    assert run.model.config.projection_hidden == 8


def test_only_heads_change_and_a_resumed_run_is_the_same(parent: TrainConfig, tmp_path: Path) -> None:
    whole = train(parent, tmp_path / "whole")
    train(parent, tmp_path / "cut", max_steps=3)
    resumed = train(parent, tmp_path / "cut")
    tensors = load_file(whole / "model.safetensors")
    again = load_file(resumed / "model.safetensors")
    assert all(torch.equal(tensors[name], again[name]) for name in tensors)
    start = load_file(Path(parent.towers.checkpoint) / "model.safetensors")
    changed = {name for name in start if not torch.equal(start[name], tensors[name])}
    assert changed and not [name for name in changed if ".encoder." in name]


def _moved(config: TrainConfig, folder: Path) -> float:
    """Mean cosine distance of the training images' embeddings from those of the start, after all steps."""
    run = prepare_run(config, folder)
    rows = list(range(len(run.images)))
    before = load_checkpoint(config.towers.checkpoint).model
    for step, of_step in epoch_steps(run, 0, run.steps):
        train_step(run, step, of_step)
    run.model.eval()
    features = run.inputs.clean_batch(rows)
    with torch.no_grad():
        now, then = run.model.image_tower.embed_pooled(features), before.image_tower.embed_pooled(features)
    return float(1 - (now * then).sum(-1).mean())


def test_retention_keeps_embeddings_near_the_start(parent: TrainConfig, tmp_path: Path) -> None:
    kept = replace(parent, sources=(replace(parent.sources[0], retention=50.0),))
    assert _moved(kept, tmp_path / "kept") < 0.5 * _moved(parent, tmp_path / "free")


def test_concepts_are_found_by_name_before_any_training(parent: TrainConfig, tmp_path: Path) -> None:
    run = prepare_run(with_concepts(parent, tmp_path), tmp_path / "run")
    count = pretrained_classifier("test_efficientnet", str(tmp_path / "weights.safetensors")).out_features
    sizes = run.model.config.concepts
    assert sizes and (sizes.pretrained, sizes.learned, sizes.dims) == (count, 8, 32)
    assert run.model.config.dims == 16 + 32
    run.model.eval()
    features = run.inputs.clean_batch(run.source_rows[1])
    seen = run.model.image_tower.projection.concepts.classify(features)[:, count:]  # type: ignore[union-attr]
    assert seen.argmax(1).tolist() == [k // 2 for k in range(16)]  # two drawings of each colour, side by side
    texts = [azerbaijani for azerbaijani, _ in COLOURS.values()]
    input_ids, mask = run.tokenizer(texts)
    with torch.no_grad():
        pooled = run.model.text_tower.pool(torch.from_numpy(input_ids), torch.from_numpy(mask))
        told = run.model.text_tower.projection.concepts  # type: ignore[union-attr]
        names = told.names(torch.nn.functional.normalize(pooled - told.centre, dim=-1))
        other = told.names(torch.zeros(1, pooled.shape[1]))
    of_classes = len({class_name(k) for k in range(count)})
    assert names.argmax(1).tolist() == [of_classes + 2 * k + 1 for k in range(8)]  # after "red", and so on
    assert other.argmax(1).item() == sizes.names  # none


def test_a_run_with_concepts_is_resumed_as_it_was_and_trains_none_of_them(
    parent: TrainConfig, tmp_path: Path
) -> None:
    config = with_concepts(parent, tmp_path)
    config = replace(config, schedule=replace(parent.schedule, ema_decay=0.5))
    whole = train(config, tmp_path / "whole")
    train(config, tmp_path / "cut", max_steps=3)
    resumed = train(config, tmp_path / "cut")
    assert (whole / "model.safetensors").read_bytes() == (resumed / "model.safetensors").read_bytes()
    trained = load_checkpoint(whole).model.state_dict()
    assert load_checkpoint(whole).manifest.lineage["concepts"]["learned"] == 8
    at_first = prepare_run(config, tmp_path / "other").model.state_dict()
    same = {name for name in trained if torch.equal(trained[name], at_first[name])}
    assert {name for name in trained if ".concepts." in name} <= same
    assert "image_tower.projection.own.project.weight" not in same


def test_a_model_that_knows_concepts_keeps_its_encoders(parent: TrainConfig, tmp_path: Path) -> None:
    config = with_concepts(parent, tmp_path)
    checkpoint = train(config, tmp_path / "second")
    towers = replace(config.towers, checkpoint=str(checkpoint), dims=48)
    with pytest.raises(ConfigError, match="knows concepts by what its encoders give"):
        prepare_run(replace(parent, towers=towers, stages=()), tmp_path / "all")
    with pytest.raises(ConfigError, match="knows concepts already"):
        prepare_run(replace(config, towers=towers), tmp_path / "again")
    heads = train(replace(parent, towers=towers), tmp_path / "heads")
    before, after = (load_checkpoint(folder).model.state_dict() for folder in (checkpoint, heads))
    assert all(torch.equal(before[name], after[name]) for name in before if ".concepts." in name)


def test_a_branch_grows_and_what_it_knew_stays(parent: TrainConfig, tmp_path: Path) -> None:
    checkpoint = train(parent, tmp_path / "second")
    wider = replace(parent, towers=replace(parent.towers, checkpoint=str(checkpoint), projection_hidden=20))
    run = prepare_run(wider, tmp_path / "run")
    run.model.eval()
    features = torch.randn(4, run.model.image_tower.projection.project.in_features)  # type: ignore[union-attr]
    before = load_checkpoint(checkpoint).model.image_tower
    torch.testing.assert_close(run.model.image_tower.embed_pooled(features), before.embed_pooled(features))


def test_what_only_heads_can_do_is_refused_elsewhere(parent: TrainConfig, tmp_path: Path) -> None:
    named = ConceptsConfig(names="names.tsv")
    with pytest.raises(ValueError, match="every stage must be heads"):
        replace(parent, concepts=named, text_noise=TextNoise(typo_probability=0.1))
    with pytest.raises(ValueError, match="every stage must be heads"):
        replace(parent, stages=(), sources=(replace(parent.sources[0], retention=1.0),))
    with pytest.raises(ValueError, match=r"towers\.checkpoint must name it"):
        replace(
            parent,
            towers=replace(parent.towers, checkpoint=""),
            sources=(replace(parent.sources[0], retention=1.0),),
        )


def test_concepts_need_something_that_shows_them_and_something_that_does_not(parent: TrainConfig) -> None:
    shows = replace(parent.sources[0], concepts=True)
    with pytest.raises(ValueError, match="concepts has none"):
        replace(parent, concepts=ConceptsConfig())
    with pytest.raises(ValueError, match="needs another source without it"):
        replace(parent, concepts=ConceptsConfig(), sources=(shows,))
    with pytest.raises(ValueError, match=r"needs a table \[concepts\]"):
        replace(parent, sources=(*parent.sources, shows))


def test_the_code_of_concepts_leaves_the_embedding_a_length_that_it_may_have(parent: TrainConfig) -> None:
    with pytest.raises(ValueError, match=r"beside the 16 of towers\.dims, together at most 4096, not 4090"):
        replace(parent, concepts=ConceptsConfig(dims=4090, names="names.tsv"))


def test_shares_above_one_draw_images_again(parent: TrainConfig, tmp_path: Path) -> None:
    run = prepare_run(replace(parent, sources=(replace(parent.sources[0], share=2.5),)), tmp_path / "run")
    rows = [row for _, of_step in epoch_steps(run, 0, run.steps_per_epoch) for row in of_step]
    assert len(rows) == 20
    counts = np.bincount(rows, minlength=8)
    assert sorted(counts) == [2, 2, 2, 2, 3, 3, 3, 3]


def test_a_kill_costs_one_part_of_the_pooled_images(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frozen_outputs, "_PART", 4)
    seen: list[list[int]] = []

    class Inputs:
        key, image_count, view_count = "key", 10, 1

        def view_batch(self, rows: Sequence[int], view: int) -> torch.Tensor:
            if len(seen) == killed_at:
                raise KeyboardInterrupt
            seen.append(list(rows))
            return torch.tensor([[float(row), view] for row in rows])

    inputs, tail, killed_at = cast(CachedInputs, Inputs()), torch.nn.Identity(), 3
    with pytest.raises(KeyboardInterrupt):
        pool_images(inputs, tail, torch.device("cpu"), tmp_path)
    seen.clear()
    killed_at = -1
    pooled = pool_images(inputs, tail, torch.device("cpu"), tmp_path).pooled
    assert pooled.tolist() == [[[row, 0], [row, 1]] for row in range(10)]
    assert seen == [[4, 5, 6, 7]] * 2 + [[8, 9]] * 2
