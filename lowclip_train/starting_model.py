"""The model a run starts from: encoders with their pretrained weights, new projections, vocabulary trimmed or whole."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from lowclip_runtime.errors import DatasetError
from lowclip_runtime.files import whole_file
from lowclip_runtime.spec import TextSpec
from lowclip_train.config import TrainConfig
from lowclip_train.encoders import (
    pretrained_image_encoder,
    pretrained_text_encoder,
    text_encoder_config,
    tokenizer_file,
)
from lowclip_train.model import DualEncoder, ModelConfig
from lowclip_train.trim_vocab import TrimmedVocabulary, trim_tokenizer


def starting_model(config: TrainConfig, folder: Path) -> tuple[DualEncoder, Path, TextSpec]:
    """Model, its `tokenizer.json` (written into `folder`) and the text spec with the right padding id.

    Raises:
        ConfigError: an encoder or its weights cannot be had.
    """
    torch.manual_seed(config.schedule.seed)
    image_encoder = pretrained_image_encoder(config.towers.image_encoder, config.towers.image_weights)
    text_encoder = pretrained_text_encoder(config.towers.text_encoder, config.towers.text_layers)
    text = replace(config.text, pad_token_id=cast(Any, text_encoder).config.pad_token_id or 0)
    tokenizer = tokenizer_file(config.towers.text_encoder, folder)
    if config.towers.vocabulary_corpora:
        tokenizer, text = _trim(text_encoder, tokenizer, text, config.towers.vocabulary_corpora, folder)
    model = DualEncoder(_model_config(config, text_encoder))
    model.image_tower.encoder.load_state_dict(image_encoder.state_dict())
    model.text_tower.encoder.load_state_dict(text_encoder.state_dict())
    if not config.towers.train_token_embeddings:
        cast(Any, model.text_tower.encoder).get_input_embeddings().weight.requires_grad_(False)
    return model, tokenizer, text


def read_corpora(paths: Sequence[str]) -> Iterator[str]:
    """Every line of the text files; for a TSV every field of it."""
    for path in paths:
        try:
            with Path(path).open(encoding="utf-8") as lines:
                for line in lines:
                    yield from filter(None, line.rstrip("\n").split("\t"))
        except (OSError, UnicodeDecodeError) as error:
            raise DatasetError(f"{path}: a vocabulary corpus must be a UTF-8 text file ({error})") from error


def _trim(
    encoder: nn.Module, tokenizer: Path, text: TextSpec, corpora: Sequence[str], folder: Path
) -> tuple[Path, TextSpec]:
    trimmed: TrimmedVocabulary = trim_tokenizer(tokenizer, read_corpora(corpora), text)
    keep_embedding_rows(encoder, trimmed.kept_rows.tolist())
    path = folder / "tokenizer.json"
    with whole_file(path) as work:
        work.write_text(trimmed.tokenizer_json, "utf-8")
    pad_token_id = trimmed.kept_rows.tolist().index(text.pad_token_id)
    cast(Any, encoder).config.pad_token_id = pad_token_id
    return path, replace(text, pad_token_id=pad_token_id)


def keep_embedding_rows(encoder: nn.Module, rows: Sequence[int]) -> None:
    """Shrink the token embedding table to `rows`, in that order."""
    hf: Any = encoder
    table = hf.get_input_embeddings()
    smaller = nn.Embedding(len(rows), table.embedding_dim)
    smaller.weight.data.copy_(table.weight.data[list(rows)])
    hf.set_input_embeddings(smaller)
    hf.config.vocab_size = len(rows)


def _model_config(config: TrainConfig, text_encoder: nn.Module) -> ModelConfig:
    towers = config.towers
    return ModelConfig(
        image_encoder=towers.image_encoder,
        text_encoder=text_encoder_config(text_encoder),
        text_pooling=towers.text_pooling,
        dims=towers.dims,
        projection=towers.projection,
        dropout=towers.dropout,
    )
