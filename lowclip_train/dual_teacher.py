"""A larger dual encoder to learn from, opened: one of our checkpoints, or a CLIP or SigLIP model of transformers.

What the student learns from it is `affinity.py`, and its embeddings are kept by `teacher_embeds.py`.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from lowclip_runtime.errors import ConfigError
from lowclip_runtime.evaluate import Embedder
from lowclip_runtime.files import sha256_of
from lowclip_runtime.preprocess import decode
from lowclip_runtime.spec import PreprocessSpec
from lowclip_runtime.stream import batches
from lowclip_train.checkpoint import load_checkpoint
from lowclip_train.evaluate import TorchEmbedder
from lowclip_train.fitting_tokenizer import check_words
from lowclip_train.loss import MAX_LOGIT_SCALE
from lowclip_train.model_identity import model_identity
from lowclip_train.pretrained import NO_CODE, told_in_one_sentence
from lowclip_train.torchvision_repair import import_torchvision

import_torchvision()  # before transformers, which imports it

from transformers import AutoConfig, AutoModel, AutoProcessor  # noqa: E402

_IMAGE_BATCH = 32
_TEXT_BATCH = 64
_IN_FULL = PreprocessSpec(decode_scale=0)  # the teacher's own processor makes it small
_PARTS = ("get_image_features", "get_text_features", "logit_scale")
_ADVICE = (
    "name the folder of a checkpoint, or the hub name or folder of a CLIP or SigLIP model of transformers with its "
    "processor"
)


def teacher_identity(teacher: str) -> str:
    """What the teacher is, by content, without loading its weights.

    Raises:
        ConfigError: there is no such model.
    """
    if _is_ours(teacher):
        return f"sha256:{sha256_of(Path(teacher) / 'manifest.json')}"  # which holds the hashes of the rest
    if Path(teacher).is_dir():
        return model_identity(teacher, None)
    with _told(teacher):
        return model_identity(teacher, AutoConfig.from_pretrained(teacher, **NO_CODE)._commit_hash)


def open_teacher(teacher: str, device: torch.device) -> tuple[Embedder, float]:
    """The teacher, and the number its similarities are multiplied by (the inverse of its temperature).

    Raises:
        CheckpointError: a checkpoint that is damaged, or a bundle.
        ConfigError: transformers cannot load it, or it is no dual encoder.
    """
    if not _is_ours(teacher):
        embedder = TransformersEmbedder(teacher, device)
        return embedder, embedder.scale
    checkpoint = load_checkpoint(teacher)
    scale = checkpoint.model.logit_scale.clamp(max=MAX_LOGIT_SCALE).exp().item()
    checkpoint.model.to(device)
    return TorchEmbedder(checkpoint), scale


class TransformersEmbedder:
    """A dual encoder of transformers with its own processor, as an `Embedder`.

    Attributes:
        scale: the inverse of its temperature.
    """

    def __init__(self, teacher: str, device: torch.device) -> None:
        with _told(teacher):
            self._model: Any = AutoModel.from_pretrained(teacher, **NO_CODE).float().eval().to(device)
        lacking = [part for part in _PARTS if not hasattr(self._model, part)]
        if lacking:
            kind = type(self._model).__name__
            raise ConfigError(f"the teacher {teacher!r} is a {kind} without {', '.join(lacking)}; {_ADVICE}")
        with _told(teacher):
            self._processor = cast(Any, AutoProcessor).from_pretrained(teacher, **NO_CODE)
            tokenizer = self._processor.tokenizer
            check_words(tokenizer.get_vocab(), tokenizer.get_added_vocab(), teacher)
        self._device = device
        self.scale = float(self._model.logit_scale.exp().item())
        # SigLIP was trained on captions filled up to its full length, and reads the padding (its model card)
        filled = self._model.config.model_type.startswith("siglip")
        self._padding = "max_length" if filled else "longest"

    def embed_images(self, images: Iterable[Path], batch_size: int = _IMAGE_BATCH, /) -> NDArray[np.float32]:
        """Image files → (N, D) float32, unit norm.

        Raises:
            ImageError: one cannot be decoded; the message names it.
        """
        embeds = []
        for some in batches(images, batch_size):
            inputs = self._processor(images=[decode(path, _IN_FULL) for path in some], return_tensors="pt")
            embeds.append(self._embed(self._model.get_image_features, inputs))
        return np.concatenate(embeds)

    def embed_texts(self, texts: Sequence[str], /) -> NDArray[np.float32]:
        """Texts → (N, D) float32, unit norm; those that are too long for the teacher are cut."""
        longest = self._model.config.text_config.max_position_embeddings
        embeds = []
        for some in batches(texts, _TEXT_BATCH):
            inputs = self._processor(
                text=some, return_tensors="pt", padding=self._padding, truncation=True, max_length=longest
            )
            embeds.append(self._embed(self._model.get_text_features, inputs))
        return np.concatenate(embeds)

    @torch.no_grad()
    def _embed(self, encode: Any, inputs: Any) -> NDArray[np.float32]:
        pooled = encode(**inputs.to(self._device)).pooler_output
        embeds: NDArray[np.float32] = F.normalize(pooled, dim=-1).cpu().numpy()
        return embeds


def _is_ours(teacher: str) -> bool:
    return (Path(teacher) / "manifest.json").is_file()


def _told(teacher: str) -> Any:
    return told_in_one_sentence(f"the teacher {teacher!r} cannot be loaded", _ADVICE)
