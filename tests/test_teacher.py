"""A text encoder that is only read, as a teacher or to compare translations: it must know every token and position."""

import json
from pathlib import Path
from typing import Any

import pytest
from tiny_training import write_text_encoder

from lowclip_runtime.errors import ConfigError
from lowclip_train.distillation_config import Distillation
from lowclip_train.encoders import build_text_encoder
from lowclip_train.teacher import Teacher, mean_pooled_vectors


def _refused(encoder: Path, folder: Path, reason: str) -> None:
    """By both that read texts with it."""
    with pytest.raises(ConfigError, match=reason):
        Teacher(Distillation(teacher=str(encoder)), 32, ["a red picture"], folder)
    with pytest.raises(ConfigError, match=reason):
        mean_pooled_vectors(str(encoder), "query: ", ["a red picture"], folder)


def test_a_token_without_an_embedding_is_refused(tmp_path: Path) -> None:
    encoder = write_text_encoder(tmp_path / "bert")
    path = encoder / "tokenizer.json"
    content = json.loads(path.read_text("utf-8"))
    content["model"]["vocab"]["red"] = 500
    path.write_text(json.dumps(content), "utf-8")
    _refused(encoder, tmp_path, r"gives 'red' the id 500, .* ids up to 23; use the tokenizer")


def test_more_tokens_than_positions_are_refused(tmp_path: Path) -> None:
    encoder = write_text_encoder(tmp_path / "bert")
    config = json.loads((encoder / "config.json").read_text("utf-8"))
    shorter: Any = build_text_encoder({**config, "max_position_embeddings": 63})[0]
    shorter.save_pretrained(encoder)
    _refused(
        encoder, tmp_path, r"bert' has 63 positions, but must read texts of up to 64 tokens; name another"
    )


def test_without_a_tokenizer_it_is_refused(tmp_path: Path) -> None:
    encoder = write_text_encoder(tmp_path / "bert")
    (encoder / "tokenizer.json").unlink()
    _refused(encoder, tmp_path, "bert' must know words")
