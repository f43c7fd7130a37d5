"""Stages and layer-wise rates: what each trains, how fast, and that a resumed run takes the same steps."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tiny_training import tiny_config
from torch import Tensor, nn

from lowclip_runtime.errors import ConfigError
from lowclip_runtime.spec import PreprocessSpec
from lowclip_train.config import TrainConfig, load_config
from lowclip_train.encoders import build_image_encoder, build_text_encoder
from lowclip_train.layer_decay import layer_scales
from lowclip_train.run import Run, prepare_run
from lowclip_train.schedule import Schedule, Stage, Trained
from lowclip_train.stages import check_stages, plan_stages, stage_at, train_only
from lowclip_train.trainer import epoch_steps, train, train_step

_STAGES = (
    Stage(train="heads", epochs=1, learning_rate_projection=0.01),
    Stage(train="attention", epochs=1),
    Stage(train="all", epochs=1, learning_rate_text=0.002),
)


def _staged(folder: Path, image_encoder: str = "test_efficientnet") -> TrainConfig:
    config = tiny_config(folder)
    return replace(
        config,
        stages=_STAGES,
        towers=replace(config.towers, image_encoder=image_encoder),
        preprocess=PreprocessSpec(size_px=160 if image_encoder == "test_vit" else 32),
        distillation=None,
    )


def _changed(run: Run, first: int, last: int) -> set[str]:
    """Names of the weights that steps `first` to `last` change."""
    before = {name: p.detach().clone() for name, p in run.state.parameters.items()}
    for step, rows in epoch_steps(run, first, last):
        train_step(run, step, rows)
    return {name for name, p in run.state.parameters.items() if not torch.equal(before[name], p)}


def test_each_stage_trains_its_own(tmp_path: Path) -> None:
    """Two steps an epoch; ViT's attention is `attn`, BERT's `attention`, with its LayerNorm."""
    run = prepare_run(_staged(tmp_path, "test_vit"), tmp_path / "run")
    heads = _changed(run, 0, 2)
    assert heads and not [name for name in heads if ".encoder." in name]
    assert {"model.logit_scale", "model.image_tower.projection.mix.weight"} <= heads
    attention = _changed(run, 2, 4) - heads
    assert all(".attn." in name or ".attention." in name for name in attention)
    assert "model.image_tower.encoder.blocks.0.attn.qkv.weight" in attention
    layer = "model.text_tower.encoder.encoder.layer.1.attention."
    assert {f"{layer}self.query.weight", f"{layer}output.LayerNorm.weight"} <= attention
    everything = _changed(run, 4, 6)
    assert "model.text_tower.encoder.embeddings.word_embeddings.weight" in everything
    assert "model.image_tower.encoder.patch_embed.proj.weight" in everything


@pytest.mark.parametrize(
    ("name", "some"),
    [("test_efficientnet", False), ("resnet18", False), ("swin_tiny_patch4_window7_224", True)],
)
def test_attention_of_image_encoders(name: str, some: bool) -> None:
    encoder, _ = build_image_encoder(name)
    parameters = {f"model.image_tower.encoder.{n}": p for n, p in encoder.named_parameters()}
    train_only(parameters, "attention")
    found = [n for n, p in parameters.items() if p.requires_grad]
    assert bool(found) == some and all(".attn." in n for n in found)


def test_each_stage_warms_up_and_decays_at_its_own_rates(tmp_path: Path) -> None:
    config = replace(_staged(tmp_path), schedule=Schedule(learning_rate_text=3e-4, warmup=0.2))
    planned = plan_stages(config, steps_per_epoch=10)
    assert [(p.train, p.first_step, p.steps) for p in planned] == [
        ("heads", 0, 10), ("attention", 10, 10), ("all", 20, 10),
    ]  # fmt: skip
    assert [p.peaks["projection"] for p in planned] == [0.01, 1e-3, 1e-3]
    assert [p.peaks["text"] for p in planned] == [3e-4, 3e-4, 0.002]
    assert [stage_at(planned, step).train for step in (9, 10, 29)] == ["heads", "attention", "all"]


def test_stages_replace_the_epochs_and_start_anew(tmp_path: Path) -> None:
    config = _staged(tmp_path)
    run = prepare_run(replace(config, schedule=replace(config.schedule, warmup=0.5)), tmp_path / "run")
    assert run.steps == 6
    rates = []
    for step, rows in epoch_steps(run, 0, 6):
        train_step(run, step, rows)
        rates.append({g["lr"] for g in run.optimizer.param_groups if g["part"] == "projection"})
    assert rates == [{0.01}, {0.01}, {1e-3}, {1e-3}, {1e-3}, {1e-3}]  # one step of warm-up, then the peak


def test_no_stages_is_one_stage_of_all(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    spelt = replace(config, stages=(Stage(train="all", epochs=config.schedule.epochs),))
    train(config, tmp_path / "plain")
    train(spelt, tmp_path / "spelt")
    assert _same(_weights(tmp_path / "plain"), _weights(tmp_path / "spelt"))


def test_a_staged_run_resumes(tmp_path: Path) -> None:
    config = _staged(tmp_path)
    config = replace(config, schedule=replace(config.schedule, layer_decay=0.7, ema_decay=0.9))
    train(config, tmp_path / "whole")
    for leave_off_after in (1, 2, 3, 4, 5):
        train(config, tmp_path / "resumed", max_steps=leave_off_after)
    train(config, tmp_path / "resumed")
    assert _same(_weights(tmp_path / "whole"), _weights(tmp_path / "resumed"))
    assert _same(_last(tmp_path / "whole"), _last(tmp_path / "resumed"))


def test_lower_layers_learn_slower() -> None:
    """Layers from the projection down: 0.5 each."""
    bert, _ = build_text_encoder(
        {"model_type": "bert", "vocab_size": 10, "hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2,
         "intermediate_size": 8}
    )  # fmt: skip
    scales = layer_scales(bert, 0.5)
    assert scales["embeddings.word_embeddings.weight"] == 0.125
    assert scales["encoder.layer.0.attention.self.query.weight"] == 0.25
    assert scales["encoder.layer.1.output.dense.weight"] == 0.5
    net = layer_scales(build_image_encoder("resnet18")[0], 0.5)
    assert net["conv1.weight"] == 0.5**5 and net["layer1.0.conv1.weight"] == 0.5**4
    assert net["layer4.1.bn2.bias"] == 0.5
    assert set(layer_scales(bert, 1.0).values()) == {1.0}


def test_layers_that_timm_cannot_tell_apart_have_no_decay() -> None:
    with torch.device("meta"):
        net, _ = build_image_encoder("rdnet_tiny")
    with pytest.raises(
        ConfigError, match=r"layer_decay needs layers .* cannot for RDNet .*; set it to 1 or name"
    ):
        layer_scales(net, 0.5)
    assert set(layer_scales(net, 1.0).values()) == {1.0}


@pytest.mark.parametrize(
    ("kind", "widens"),
    [
        ("electra", "embeddings_project"),
        ("rembert", "encoder.embedding_hidden_mapping_in"),
        ("albert", "encoder.embedding_hidden_mapping_in"),
    ],
)
def test_what_widens_embeddings_learns_as_they_do(kind: str, widens: str) -> None:
    width = "input_embedding_size" if kind == "rembert" else "embedding_size"
    encoder, _ = build_text_encoder(
        {"model_type": kind, "vocab_size": 10, width: 4, "hidden_size": 8, "num_hidden_layers": 2,
         "num_attention_heads": 2, "intermediate_size": 8}
    )  # fmt: skip
    scales = layer_scales(encoder, 0.5)
    lowest = 0.25 if kind == "albert" else 0.125  # whose layers are one, run several times
    assert scales[f"{widens}.weight"] == scales["embeddings.word_embeddings.weight"] == lowest
    assert scales["embeddings.LayerNorm.weight"] == lowest
    assert max(scales.values()) == 0.5


def test_layers_of_xlm_and_embeddings_of_xlnet_are_known() -> None:
    sizes = {"vocab_size": 10, "n_heads": 2, "n_layers": 2}
    scales = layer_scales(build_text_encoder({"model_type": "xlm", "emb_dim": 8, **sizes})[0], 0.5)
    kinds = ("attentions.{}.q_lin", "layer_norm1.{}", "ffns.{}.lin1", "layer_norm2.{}")
    for layer, expected in ((0, 0.25), (1, 0.5)):
        assert {scales[f"{kind.format(layer)}.weight"] for kind in kinds} == {expected}
    assert {scales[f"{name}.weight"] for name in ("embeddings", "position_embeddings", "layer_norm_emb")} == {
        0.125
    }
    sizes = {"vocab_size": 10, "n_head": 2, "n_layer": 2}
    xlnet, _ = build_text_encoder({"model_type": "xlnet", "d_model": 8, "d_inner": 8, **sizes})
    assert layer_scales(xlnet, 0.5)["word_embedding.weight"] == 0.125


@pytest.mark.parametrize(
    ("encoder", "kept"), [("test_vit", {"cls_token", "pos_embed"}), ("test_efficientnet", set[str]())]
)
def test_what_an_image_encoder_keeps_from_decay_does_not_decay(
    tmp_path: Path, encoder: str, kept: set[str]
) -> None:
    config = tiny_config(tmp_path, weight_decay=0.01)
    towers = replace(config.towers, image_encoder=encoder)
    run = prepare_run(replace(config, towers=towers), tmp_path / "run")
    decays = {id(p): group["weight_decay"] for group in run.optimizer.param_groups for p in group["params"]}
    matrices = {n: p for n, p in run.model.image_tower.encoder.named_parameters() if p.ndim > 1}
    assert {name for name, p in matrices.items() if not decays[id(p)]} == kept


def test_layer_rates_reach_the_optimizer(tmp_path: Path) -> None:
    config = tiny_config(tmp_path, layer_decay=0.5, warmup=0.9, learning_rate_text=1.0)
    run = prepare_run(config, tmp_path / "run")
    for step, rows in epoch_steps(run, 0, 1):
        train_step(run, step, rows)
    embeddings = run.model.text_tower.encoder.get_input_embeddings().weight  # type: ignore[operator]
    (group,) = [g for g in run.optimizer.param_groups if any(p is embeddings for p in g["params"])]
    top = max(g["lr"] for g in run.optimizer.param_groups if g["part"] == "text")
    assert group["lr"] == top / 4  # two layers above it, of which the upper has half the peak


@pytest.mark.parametrize("trained", ["heads", "attention"])
def test_text_encoders_without_known_attention_are_refused_where_it_matters(
    tmp_path: Path, trained: Trained
) -> None:
    config = replace(tiny_config(tmp_path), stages=(Stage(train=trained, epochs=1),), distillation=None)
    parameters = {"model.text_tower.encoder.mixer.weight": nn.Parameter(torch.zeros(1))}
    if trained == "heads":
        check_stages(config, parameters)
        return
    with pytest.raises(ConfigError, match="no module named attention"):
        check_stages(config, parameters)


def test_stages_of_a_file(tmp_path: Path) -> None:
    text = (
        'name = "n"\nlicence = "l"\n[towers]\nimage_encoder = "resnet50"\ntext_encoder = "bert"\n'
        '[[sources]]\ndataset = "d"\n[[stages]]\ntrain = "heads"\nepochs = 2\n[[stages]]\ntrain = "all"\n'
    )
    (tmp_path / "c.toml").write_text(text + "epochs = 3\nlearning_rate_image = 1e-5\n", "utf-8")
    first, second = load_config(tmp_path / "c.toml").stages
    assert (first.epochs, first.learning_rate_image) == (2, None) and second.learning_rate_image == 1e-5
    (tmp_path / "c.toml").write_text(text.replace("heads", "head") + "epochs = 0\n", "utf-8")
    with pytest.raises(ConfigError, match=r"stages\[0\].train must be one of 'heads'.*stages\[1\]: epochs"):
        load_config(tmp_path / "c.toml")


def _weights(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "checkpoint" / "model.safetensors")


def _last(folder: Path) -> dict[str, Tensor]:
    (state,) = (folder / "state").glob("step-*")
    return load_file(state / "model.safetensors")


def _same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)
