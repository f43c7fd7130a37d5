"""A frozen text encoder that the student follows: its vectors of every text, computed once and cached on disk.

The teacher reads the English parallel of a caption where there is one (knowledge distillation over parallel text,
Reimers and Gurevych 2020, arXiv 2004.09813).
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from lowclip_runtime.files import whole_file
from lowclip_runtime.spec import TextSpec
from lowclip_runtime.text import Tokenizer, pad
from lowclip_train.config import Distillation
from lowclip_train.encoders import pretrained_text_encoder, tokenizer_file
from lowclip_train.model import masked_mean

_BATCH = 64
_PART = 2048  # texts: half a minute's work of e5-small on two slow cores


class Teacher:
    """Vectors of `texts`, looked up by text.

    Attributes:
        mean: (C,), their mean. E5's vectors lie in a narrow cone (any two have cosine above 0.7), so distances tell
            texts apart only after it is subtracted.
    """

    def __init__(self, config: Distillation, texts: Sequence[str], folder: Path) -> None:
        ordered = sorted(set(texts))
        self._rows = {text: row for row, text in enumerate(ordered)}
        self._vectors = _cached_vectors(config, ordered, folder)  # (T, C) float16
        self.mean = torch.from_numpy(self._vectors.astype(np.float32).mean(0))

    def vectors(self, texts: Sequence[str]) -> Tensor:
        """(N, C) float32."""
        rows = [self._rows[text] for text in texts]
        return torch.from_numpy(self._vectors[rows].astype(np.float32))


def _cached_vectors(config: Distillation, texts: list[str], folder: Path) -> NDArray[np.float16]:
    """(T, C), kept part by part, so that a kill costs one part."""
    parts = [texts[i : i + _PART] for i in range(0, len(texts), _PART)]
    bar = tqdm(parts, "text teacher", unit=f"{_PART} texts", mininterval=5, disable=None)
    return np.concatenate([_cached_part(config, part, folder) for part in bar])


def _cached_part(config: Distillation, texts: list[str], folder: Path) -> NDArray[np.float16]:
    teacher = str(Path(config.teacher).resolve()) if Path(config.teacher).is_dir() else config.teacher
    described = "\n".join([teacher, config.teacher_prefix, *texts])
    path = folder / f"teacher-{hashlib.sha256(described.encode()).hexdigest()[:16]}.npy"
    if not path.is_file():
        vectors = mean_pooled_vectors(config.teacher, config.teacher_prefix, texts, folder)
        with whole_file(path) as work, work.open("wb") as file:
            np.save(file, vectors)
    return cast(NDArray[np.float16], np.load(path))


@torch.no_grad()
def mean_pooled_vectors(source: str, prefix: str, texts: list[str], folder: Path) -> NDArray[np.float16]:
    """(T, C) vectors of T texts, each with `prefix`, by the encoder of a hub name or local folder.

    A tokenizer that must be fetched or converted is put into `folder`.

    Raises:
        ConfigError: no encoder or fast tokenizer can be loaded from `source`.
    """
    encoder: Any = pretrained_text_encoder(source).eval()
    pad_token_id = encoder.config.pad_token_id or 0
    spec = TextSpec(prefix=prefix, pad_token_id=pad_token_id)
    token_ids = Tokenizer(tokenizer_file(source, folder), spec).token_ids(texts)
    by_length = sorted(range(len(texts)), key=lambda i: len(token_ids[i]))
    vectors = np.empty((len(texts), encoder.config.hidden_size), np.float16)
    for start in range(0, len(texts), _BATCH):
        rows = by_length[start : start + _BATCH]
        input_ids, mask = map(torch.from_numpy, pad([token_ids[i] for i in rows], pad_token_id))
        hidden = encoder(input_ids=input_ids, attention_mask=mask).last_hidden_state
        vectors[rows] = masked_mean(hidden, mask).numpy().astype(np.float16)
    return vectors
