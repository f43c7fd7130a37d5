"""A dual teacher's embeddings of every photo and caption of a run, computed once, and what a batch learns from them."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lowclip_runtime.errors import DatasetError, ImageError
from lowclip_runtime.evaluate import Embedder
from lowclip_train.affinity import affinity
from lowclip_train.array_cache import kept_in_parts
from lowclip_train.captions import Caption, CaptionedImage
from lowclip_train.dual_teacher import open_teacher, teacher_identity
from lowclip_train.dual_teacher_config import DualTeacherConfig
from lowclip_train.image_check import PUT_BACK, check_unchanged

_PART = (
    256  # photos: a quarter of an hour's work of ViT-L/14 on two slow cores; as many captions are a minute's
)


class TeacherEmbeds:
    """Embeddings of photos, without augmentation, and of captions; kept in `folder` part by part.

    Attributes:
        identity: what the teacher is, by content.

    Raises:
        LowClipError: the teacher cannot be opened, a photo cannot be read or was changed, or the teacher could read no
            caption.
    """

    def __init__(
        self,
        config: DualTeacherConfig,
        images: Sequence[CaptionedImage],
        device: torch.device,
        folder: Path,
    ) -> None:
        self._config, self._images = config, images
        self.identity = teacher_identity(config.teacher)
        paths = {image.sha256: image.path for image in images}
        texts = sorted(_texts(config, images), key=lambda text: (len(text), text))
        maker = _Maker(config.teacher, self.identity, device, folder)
        self._image_rows = {sha256: row for row, sha256 in enumerate(paths)}
        self._text_rows = {text: row for row, text in enumerate(texts)}
        self._image_embeds = maker.image_embeds(paths)  # (images, E) float16
        self._text_embeds = maker.scaled_text_embeds(texts)  # (texts, E) float16

    def loss(
        self,
        rows: Sequence[int],
        captions: Sequence[Caption],
        image_embeds: Tensor,
        text_embeds: Tensor,
        logit_scale: Tensor,
    ) -> Tensor:
        """How far the student's matching of a batch is from the teacher's, times the weight.

        Args:
            rows: of the batch's images among those of the run; captions: what the student read for each.
            image_embeds, text_embeds: (N, D), the student's; logit_scale: scalar, likewise.
        """
        texts = [
            text_for_teacher(self._images[row], caption, self._config.teacher_lang)
            for row, caption in zip(rows, captions, strict=True)
        ]
        read = [i for i, text in enumerate(texts) if text is not None]
        if not read:
            return 0.0 * logit_scale
        teacher_logits = self._logits([rows[i] for i in read], [text for text in texts if text is not None])
        return self._config.weight * affinity(
            image_embeds[read], text_embeds[read], logit_scale, teacher_logits.to(image_embeds.device)
        )

    def _logits(self, rows: Sequence[int], texts: Sequence[str]) -> Tensor:
        """(N, N), images by texts."""
        images = self._image_embeds[[self._image_rows[self._images[row].sha256] for row in rows]].astype(
            np.float32
        )
        scaled = self._text_embeds[[self._text_rows[text] for text in texts]].astype(np.float32)
        return torch.from_numpy(images) @ torch.from_numpy(scaled).T


def text_for_teacher(image: CaptionedImage, caption: Caption, lang: str) -> str | None:
    """What the teacher reads where the student reads `caption` of `image`: itself, or its parallel in `lang`.

    That is the one with the same caption_id, else the photo's first in that language; None where it has none.
    """
    of_lang = image.captions.get(lang, [])
    if not lang or caption in of_lang:
        return caption.text
    same = [c.text for c in of_lang if c.caption_id and c.caption_id == caption.caption_id]
    return next(iter([*same, *(c.text for c in of_lang)]), None)


def _texts(config: DualTeacherConfig, images: Sequence[CaptionedImage]) -> set[str]:
    """All that the teacher may be asked to read."""
    found = {
        text
        for image in images
        for of_lang in image.captions.values()
        for caption in of_lang
        if (text := text_for_teacher(image, caption, config.teacher_lang)) is not None
    }
    if not found:
        langs = sorted({lang for image in images for lang in image.captions})
        raise DatasetError(
            f"dual_teacher.teacher_lang is {config.teacher_lang!r}, and no training photo has a caption in it; "
            f"the captions are in {', '.join(langs)}"
        )
    return found


class _Maker:
    """Computes embeddings that no earlier run kept; only then is the teacher opened."""

    def __init__(self, teacher: str, identity: str, device: torch.device, folder: Path) -> None:
        self._teacher, self._identity, self._device, self._folder = teacher, identity, device, folder

    def image_embeds(self, paths: Mapping[str, Path]) -> NDArray[np.float16]:
        """(images, E), unit norm, of photos by their hashes."""

        def embed(hashes: Sequence[str]) -> NDArray[np.float32]:
            for sha256 in hashes:
                check_unchanged(paths[sha256], sha256)
            try:
                return self._opened[0].embed_images([paths[sha256] for sha256 in hashes])
            except ImageError as error:
                raise DatasetError(f"an image cannot be read: {error}; {PUT_BACK}") from error

        return self._kept("images", list(paths), embed)

    def scaled_text_embeds(self, texts: Sequence[str]) -> NDArray[np.float16]:
        """(texts, E), divided by the temperature: times image embeddings they are the teacher's logits."""
        return self._kept("texts", texts, lambda part: self._opened[0].embed_texts(part) * self._opened[1])

    def _kept(
        self, name: str, keys: Sequence[str], embed: Callable[[Sequence[str]], NDArray[np.float32]]
    ) -> NDArray[np.float16]:
        return kept_in_parts(self._folder, f"dual-teacher-{name}", [self._identity], keys, embed, _PART)

    @cached_property
    def _opened(self) -> tuple[Embedder, float]:
        return open_teacher(self._teacher, self._device)
