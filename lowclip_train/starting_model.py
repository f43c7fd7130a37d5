"""The model a run starts from: pretrained encoders, new projections, vocabulary trimmed or whole; or a checkpoint."""

import gzip
import re
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from lowclip_runtime.errors import ConfigError, DatasetError
from lowclip_runtime.schema import to_dict
from lowclip_runtime.spec import TextSpec
from lowclip_train.config import TrainConfig
from lowclip_train.encoders import (
    check_image_size,
    keep_tokenizer,
    pretrained_image_encoder,
    pretrained_text_encoder,
    text_encoder_config,
    tokenizer_file,
)
from lowclip_train.fitting_tokenizer import check_texts_fit
from lowclip_train.model import DualEncoder, ModelConfig
from lowclip_train.parent import open_parent, parent_lineage
from lowclip_train.trim_vocab import TrimmedVocabulary, trim_tokenizer

_COLUMNS = {"image", "caption"}  # of a pairs.tsv; its other columns are no text
_IMAGE_NAME = re.compile(r"\S+\.(jpe?g|png|webp|gif|bmp)(#\d+)?", re.IGNORECASE)


@dataclass(frozen=True)
class StartingModel:
    """What a run starts from.

    Attributes:
        text: the config's spec with the right padding id.
        lineage: where its weights come from.
    """

    model: DualEncoder
    tokenizer_path: Path
    text: TextSpec
    lineage: dict[str, Any]


def starting_model(config: TrainConfig, folder: Path) -> StartingModel:
    """An earlier run's model, or encoders with new projections, whose new `tokenizer.json` is written into `folder`.

    Raises:
        ConfigError: an encoder or its weights cannot be had, the checkpoint is of another model, images have a
            size that the image encoder cannot take, or texts more tokens, or others, than the text encoder knows.
        CheckpointError: the checkpoint to start from is none, or damaged.
    """
    torch.manual_seed(config.schedule.seed)
    start = _of_checkpoint(config) if config.towers.checkpoint else _of_encoders(config, folder)
    check_image_size(start.model.image_tower.encoder, config.towers.image_encoder, config.preprocess.size_px)
    if not config.towers.train_token_embeddings:
        cast(Any, start.model.text_tower.encoder).get_input_embeddings().weight.requires_grad_(False)
    return start


def _of_checkpoint(config: TrainConfig) -> StartingModel:
    parent = open_parent(config)
    if parent.manifest.model.concepts and not config.trains_only_heads:
        raise ConfigError(
            f"the checkpoint {config.towers.checkpoint} knows concepts by what its encoders give, so these must stay "
            "as they are: train heads alone, or start from the checkpoint it was made of"
        )
    check_texts_fit(parent.model.text_tower.encoder, parent.tokenizer_path, parent.manifest.text)
    lineage = parent_lineage(config.towers.checkpoint, parent.manifest)
    return StartingModel(parent.model, parent.tokenizer_path, parent.manifest.text, lineage)


def _of_encoders(config: TrainConfig, folder: Path) -> StartingModel:
    image_encoder = pretrained_image_encoder(config.towers.image_encoder, config.towers.image_weights)
    text_encoder = pretrained_text_encoder(config.towers.text_encoder, config.towers.text_layers)
    padding = getattr(cast(Any, text_encoder).config, "pad_token_id", None)  # CLIP as a whole has no such
    text = replace(config.text, pad_token_id=padding or 0)
    tokenizer = tokenizer_file(config.towers.text_encoder, folder)
    check_texts_fit(text_encoder, tokenizer, text)
    lineage: dict[str, Any] = {
        "image_weights": config.towers.image_encoder,
        "text_weights": Path(config.towers.text_encoder).name,
        "text_layers": list(config.towers.text_layers),
    }
    if config.towers.vocabulary_corpora:
        vocabulary = trim_tokenizer(tokenizer, read_corpora(config.towers.vocabulary_corpora), text)
        tokenizer, text = _trim(text_encoder, vocabulary, text, folder)
        lineage["trimmed_vocabulary"] = to_dict(vocabulary.report)
    model = DualEncoder(_model_config(config, text_encoder))
    model.image_tower.encoder.load_state_dict(image_encoder.state_dict())
    model.text_tower.encoder.load_state_dict(text_encoder.state_dict())
    return StartingModel(model, tokenizer, text, lineage)


def read_corpora(paths: Sequence[str]) -> Iterator[str]:
    """Every line of the text files, which may be compressed by gzip.

    Of a pairs.tsv the captions; of another TSV every field that is no name of an image.

    Raises:
        DatasetError: a file cannot be read, or is no text.
    """
    for path in paths:
        try:
            yield from _texts(Path(path))
        except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
            raise DatasetError(
                f"{path}: a vocabulary corpus must be a UTF-8 text file, plain or .gz ({error})"
            ) from error


def _texts(path: Path) -> Iterator[str]:
    with path.open("rb") as file:
        compressed = file.read(2) == b"\x1f\x8b"
    with (
        gzip.open(path, "rt", encoding="utf-8-sig")
        if compressed
        else path.open(encoding="utf-8-sig") as lines
    ):
        caption = None
        for number, line in enumerate(lines):
            fields = line.rstrip("\r\n").split("\t")
            if number == 0 and set(fields) >= _COLUMNS:
                caption = fields.index("caption")
            elif caption is not None:
                yield from fields[caption : caption + 1]
            else:
                yield from (field for field in fields if field and not _IMAGE_NAME.fullmatch(field))


def _trim(
    encoder: nn.Module, vocabulary: TrimmedVocabulary, text: TextSpec, folder: Path
) -> tuple[Path, TextSpec]:
    keep_embedding_rows(encoder, vocabulary.kept_rows.tolist())
    path = folder / "tokenizer.json"
    keep_tokenizer(path, vocabulary.tokenizer_json)
    pad_token_id = vocabulary.new_id(text.pad_token_id)
    cast(Any, encoder).config.pad_token_id = pad_token_id
    return path, replace(text, pad_token_id=pad_token_id)


def keep_embedding_rows(encoder: nn.Module, rows: Sequence[int]) -> None:
    """Shrink the token embedding table to `rows`, in that order. Its class stays: Gemma's scales what it gives."""
    hf: Any = encoder
    table = hf.get_input_embeddings()
    table.weight = nn.Parameter(table.weight.data[list(rows)])
    table.num_embeddings, table.padding_idx = len(rows), None
    hf.config.vocab_size = len(rows)


def _model_config(config: TrainConfig, text_encoder: nn.Module) -> ModelConfig:
    towers = config.towers
    return ModelConfig(
        image_encoder=towers.image_encoder,
        text_encoder=text_encoder_config(text_encoder),
        text_pooling=towers.text_pooling,
        dims=towers.dims,
        projection=towers.projection,
        projection_hidden=towers.projection_hidden,
        dropout=towers.dropout,
    )
