"""A frozen text encoder that the student follows: its vectors of every text, computed once and cached on disk.

The teacher reads the English parallel of a caption where there is one (knowledge distillation over parallel text,
Reimers and Gurevych 2020, arXiv 2004.09813).
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lowclip_runtime.errors import ConfigError
from lowclip_runtime.spec import TextSpec
from lowclip_runtime.text import Tokenizer
from lowclip_train.array_cache import kept_texts, weights_sha256
from lowclip_train.distillation_config import Distillation
from lowclip_train.encoders import pretrained_text_encoder, tokenizer_file
from lowclip_train.fitting_tokenizer import check_ids_fit, position_count
from lowclip_train.model import masked_mean
from lowclip_train.text_batches import encode_by_length


class Teacher:
    """Vectors of `texts`, looked up by text.

    Args:
        width: C, of the student's vectors.
        folder: where the teacher's are kept.

    Attributes:
        mean: (C,), their mean. E5's vectors lie in a narrow cone (any two have cosine above 0.7), so distances tell
            texts apart only after it is subtracted.

    Raises:
        ConfigError: the teacher cannot be loaded, has no embedding for a token or its position, or gives vectors of
            another width.
    """

    def __init__(self, config: Distillation, width: int, texts: Sequence[str], folder: Path) -> None:
        encoder = _MeanPooled(config.teacher, config.teacher_prefix, folder)
        if encoder.width != width:
            raise ConfigError(
                f"distillation.teacher {config.teacher!r} gives vectors of {encoder.width} dims and the text encoder "
                f"that shall follow it of {width}; name a teacher of that width"
            )
        ordered = sorted(set(texts))
        self._rows = {text: row for row, text in enumerate(ordered)}
        token_ids = encoder.tokenizer.token_ids(ordered)
        self._vectors = kept_texts(folder, "teacher", encoder.key, token_ids, encoder.vectors)  # (T, C)
        self.mean = torch.from_numpy(self._vectors.astype(np.float32).mean(0))

    def vectors(self, texts: Sequence[str]) -> Tensor:
        """(N, C) float32."""
        rows = [self._rows[text] for text in texts]
        return torch.from_numpy(self._vectors[rows].astype(np.float32))


def mean_pooled_vectors(source: str, prefix: str, texts: list[str], folder: Path) -> NDArray[np.float16]:
    """(T, C) vectors of T texts, each with `prefix`, by the encoder of a hub name or local folder.

    A tokenizer that must be fetched or converted is put into `folder`.

    Raises:
        ConfigError: no encoder or fast tokenizer can be loaded from `source`, or they do not fit together.
    """
    encoder = _MeanPooled(source, prefix, folder)
    return encoder.vectors(encoder.tokenizer.token_ids(texts)).astype(np.float16)


class _MeanPooled:
    """A text encoder with its tokenizer; each text gets `prefix`."""

    def __init__(self, source: str, prefix: str, folder: Path) -> None:
        self._encoder: nn.Module = pretrained_text_encoder(source).eval()
        config = cast(Any, self._encoder).config
        self.width = int(config.hidden_size)
        spec = TextSpec(prefix=prefix, pad_token_id=config.pad_token_id or 0)
        path = tokenizer_file(source, folder)
        _check_texts_fit(self._encoder, source, path, spec)
        self.tokenizer = Tokenizer(path, spec)

    @property
    def key(self) -> list[str]:
        """What decides a vector beside the text's token ids."""
        return ["mean", weights_sha256(self._encoder)]

    def vectors(self, token_ids: Sequence[Sequence[int]]) -> NDArray[np.float32]:
        """(T, C)."""
        return encode_by_length(token_ids, self.tokenizer.spec.pad_token_id, self._pool)

    def _pool(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        hidden = self._encoder(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        return masked_mean(hidden, attention_mask)


def _check_texts_fit(encoder: nn.Module, source: str, tokenizer: Path, spec: TextSpec) -> None:
    check_ids_fit(encoder, tokenizer)
    positions = position_count(encoder)
    if positions is not None and spec.max_tokens > positions:
        raise ConfigError(
            f"the text encoder {source!r} has {positions} positions, but must read texts of up to {spec.max_tokens} "
            "tokens; name another"
        )
