"""What a run cannot start from: a tokenizer or a length of texts that the text encoder has no embeddings for."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from tiny_training import tiny_config

from lowclip_runtime.errors import ConfigError
from lowclip_train.config import TrainConfig
from lowclip_train.encoders import build_text_encoder
from lowclip_train.fitting_tokenizer import position_count
from lowclip_train.starting_model import starting_model


def _with_max_tokens(config: TrainConfig, max_tokens: int) -> TrainConfig:
    return replace(config, text=replace(config.text, max_tokens=max_tokens))


def test_a_token_without_an_embedding_is_refused(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    path = tmp_path / "bert/tokenizer.json"
    content = json.loads(path.read_text("utf-8"))
    content["model"]["vocab"]["şəkil"] = 24  # of 24 tokens, from 0
    path.write_text(json.dumps(content), "utf-8")
    with pytest.raises(ConfigError, match=r"gives 'şəkil' the id 24, .* ids up to 23; use the tokenizer"):
        starting_model(config, tmp_path)


def test_more_tokens_than_positions_are_refused(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    starting_model(_with_max_tokens(config, 64), tmp_path)
    with pytest.raises(ConfigError, match=r"text\.max_tokens must be at most 64, .*, not 65"):
        starting_model(_with_max_tokens(config, 65), tmp_path)


_SMALL = {
    "clip_text_model": {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8,
                        "max_position_embeddings": 40, "bos_token_id": 2, "eos_token_id": 3},
    "gpt2": {"n_embd": 8, "n_layer": 1, "n_head": 2, "n_positions": 40},
    "xlm-roberta": {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 8,
                    "max_position_embeddings": 42, "pad_token_id": 1},
}  # fmt: skip


@pytest.mark.parametrize("kind", _SMALL)
def test_positions_are_counted_whatever_their_table_is_called(kind: str) -> None:
    encoder, _ = build_text_encoder({"model_type": kind, "vocab_size": 9, **_SMALL[kind]})
    assert position_count(encoder) == 40


def test_positions_of_roberta_begin_behind_the_padding(tmp_path: Path) -> None:
    config = tiny_config(tmp_path)
    from transformers import RobertaConfig, RobertaModel  # after torchvision, which starting_model imports

    RobertaModel(
        RobertaConfig(
            vocab_size=24, hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64,
            max_position_embeddings=40, pad_token_id=1,
        ),
        add_pooling_layer=False,
    ).save_pretrained(tmp_path / "bert")  # fmt: skip
    starting_model(_with_max_tokens(config, 38), tmp_path)
    with pytest.raises(ConfigError, match=r"text\.max_tokens must be at most 38"):
        starting_model(_with_max_tokens(config, 39), tmp_path)


@pytest.mark.parametrize("kind", ["canine", "clip"])
def test_an_encoder_of_no_token_ids_is_refused(tmp_path: Path, kind: str) -> None:
    """CANINE reads characters, and CLIP as a whole texts and images."""
    config = tiny_config(tmp_path)
    from transformers import AutoConfig, AutoModel

    sizes = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    towers = {"text_config": sizes, "vision_config": sizes} if kind == "clip" else sizes
    AutoModel.from_config(AutoConfig.for_model(kind, **towers)).save_pretrained(tmp_path / "bert")
    with pytest.raises(ConfigError, match=r"(Canine|CLIP)Model, which has no table of embeddings"):
        starting_model(config, tmp_path)


@pytest.mark.parametrize(
    ("encoder", "own", "other"), [("vit_tiny_patch16_224", 224, 256), ("test_vit", 160, 161)]
)
def test_a_size_that_the_image_encoder_cannot_take_is_refused(
    tmp_path: Path, encoder: str, own: int, other: int
) -> None:
    config = tiny_config(tmp_path)
    config = replace(config, towers=replace(config.towers, image_encoder=encoder))

    def sized(size_px: int) -> TrainConfig:
        return replace(config, preprocess=replace(config.preprocess, size_px=size_px))

    starting_model(sized(own), tmp_path)
    with pytest.raises(
        ConfigError, match=rf"preprocess\.size_px is {other}, .*'{encoder}'.*; set it to {own}"
    ):
        starting_model(sized(other), tmp_path)
