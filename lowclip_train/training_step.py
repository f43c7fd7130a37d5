"""One optimizer step: captions drawn, both encoders run, losses taken, weights moved.

What is optimized is `objective.py`, what is fed `image_inputs.py` and `captions.py`, and how a batch goes through an
encoder in pieces or by several processes `encoding.py`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lowclip_runtime.text import pad
from lowclip_train.captions import Caption, draw_captions
from lowclip_train.encoding import Encoding, Piece
from lowclip_train.finite import check_finite
from lowclip_train.frozen_stages import keep_batch_norm_statistics
from lowclip_train.heads_only import HeadsOnly
from lowclip_train.loss import cosine_distance
from lowclip_train.optimizer import learning_rate_factor, set_learning_rates
from lowclip_train.precision import autocast
from lowclip_train.run import Run
from lowclip_train.stages import is_of_encoder, stage_at, train_only
from lowclip_train.teacher_embeds import TeacherEmbeds
from lowclip_train.text_noise import noisy

_TEXT_CHUNK = 64  # captions of like length go through the text tower together, so little is padding


@dataclass(frozen=True)
class _Texts:
    """The texts of a step.

    Attributes:
        captions: the first of each image, then the second of each, and so on.
        parallel: texts without images, for distillation.
    """

    captions: list[Caption]
    parallel: list[Caption]

    @property
    def all(self) -> list[Caption]:
        return [*self.captions, *self.parallel]


def train_step(run: Run, step: int, rows: list[int]) -> dict[str, float]:
    """One optimizer step on the images of `rows`; returns the losses, named.

    Raises:
        LowClipError: the loss or its gradient is not finite; the weights are as they were.
    """
    generator = np.random.default_rng([run.config.schedule.seed, 1, step])
    seed = int(generator.integers(2**31))
    torch.manual_seed(seed + run.processes.index)  # dropout in the encoders
    run.model.train()
    run.split.frozen.eval()  # whose dropout and stochastic depth would be noise that nothing learns from
    keep_batch_norm_statistics(run.model.image_tower.encoder)
    _enter_stage(run, step)
    texts = _draw_texts(run, rows, generator)
    pooled, order = _encode_texts(run, texts.all, generator)
    features = _encode_images(run, rows, step // run.steps_per_epoch)
    if run.processes.count > 1:  # every process has all rows now, and shall drop the same of them
        torch.manual_seed(seed + run.processes.count)
    losses = _losses(run, rows, texts, features.output, pooled.output[order])
    total = torch.stack(list(losses.values())).sum()
    check_finite(f"the loss at step {step}", total)
    _move(run, step, total, [pooled, features])
    return {name: loss.item() for name, loss in losses.items()}


def _enter_stage(run: Run, step: int) -> None:
    stage = stage_at(run.stages, step)
    train_only(run.state.parameters, stage.train)
    factor = learning_rate_factor(step - stage.first_step, stage.steps, run.config.schedule.warmup)
    set_learning_rates(run.optimizer, stage.peaks, factor)


def _draw_texts(run: Run, rows: Sequence[int], generator: np.random.Generator) -> _Texts:
    count = run.config.schedule.captions_per_image
    drawn = [draw_captions(run.images[row], count, generator) for row in rows]
    captions = [of_image[k] for k in range(count) for of_image in drawn]
    if not run.parallel or run.config.distillation is None:
        return _Texts(captions, [])
    places = generator.integers(len(run.parallel), size=run.config.distillation.parallel_batch_size)
    return _Texts(captions, [run.parallel[int(i)] for i in places])


def _encode_texts(
    run: Run, captions: Sequence[Caption], generator: np.random.Generator
) -> tuple[Encoding, Tensor]:
    """Captions, as people type them, in pieces of like length → the text encoder's pooled vectors, and their order."""
    if run.heads:
        return _looked_up(run, run.heads, captions, generator), torch.arange(len(captions))
    typed = [noisy(caption.text, caption.lang, run.config.text_noise, generator) for caption in captions]
    again = iter(run.tokenizer.token_ids([t for t, c in zip(typed, captions, strict=True) if t != c.text]))
    rows = [c.token_ids if t == c.text else next(again) for t, c in zip(typed, captions, strict=True)]
    by_length = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    own = [rows[i] for i in by_length[run.processes.share]]
    size = run.config.schedule.micro_batch_size or _TEXT_CHUNK
    pieces = [_text_piece(run, own[start : start + size]) for start in range(0, len(own), size)]
    encoding = Encoding(pieces, len(rows), run.processes, cached=_cached(run))
    return encoding, torch.from_numpy(np.argsort(by_length)).to(run.processes.device)


def _looked_up(
    run: Run, heads: HeadsOnly, captions: Sequence[Caption], generator: np.random.Generator
) -> Encoding:
    views = heads.draw_views([c.text for c in captions], generator)
    own = heads.texts.vectors(views[run.processes.share]).to(run.processes.device)
    return Encoding([lambda: own], len(captions), run.processes, cached=False)


def _encode_images(run: Run, rows: Sequence[int], epoch: int) -> Encoding:
    batch = run.inputs.training_batch(rows, epoch, run.processes.share)
    size = run.config.schedule.micro_batch_size or len(batch)
    pieces = [_image_piece(run, batch[start : start + size]) for start in range(0, len(batch), size)]
    return Encoding(pieces, len(rows), run.processes, cached=_cached(run))


def _text_piece(run: Run, token_ids: Sequence[Sequence[int]]) -> Piece:
    def pool() -> Tensor:
        input_ids, mask = map(torch.from_numpy, pad(token_ids, run.text.pad_token_id))
        with autocast(run.config.schedule.precision, run.processes.device):
            return run.model.text_tower.pool(
                input_ids.to(run.processes.device), mask.to(run.processes.device)
            )

    return pool


def _image_piece(run: Run, batch: Tensor) -> Piece:
    def encode() -> Tensor:
        with autocast(run.config.schedule.precision, run.processes.device):
            own = batch.to(run.processes.device)
            encoded: Tensor = run.split.tail(own)
            if not run.class_retention:
                return encoded
            return torch.cat([encoded.float(), run.class_retention.targets(own)], dim=1)

    return encode


def _cached(run: Run) -> bool:
    return run.config.schedule.micro_batch_size > 0


def _losses(run: Run, rows: list[int], texts: _Texts, features: Tensor, pooled: Tensor) -> dict[str, Tensor]:
    """Encoder outputs of images (N, C) and texts (k * N + P, C) → losses, of the whole batch.

    Features of images have what `ClassRetention` shall keep of them behind them, if it shall.
    """
    features, classes = features.tensor_split([features.shape[1] - _class_count(run)], dim=1)
    image_embeds = run.model.image_tower.embed_pooled(features)
    text_embeds = run.model.text_tower.embed_pooled(pooled[: len(texts.captions)])
    losses = {"contrastive": _contrastive(run, rows, texts, image_embeds, text_embeds)}
    if run.dual_teacher:
        losses["affinity"] = _affinity(run, run.dual_teacher, rows, texts, image_embeds, text_embeds)
    if run.teacher and run.config.distillation:
        target = run.teacher.vectors([c.teacher_text for c in texts.all]).to(pooled.device)
        mean = run.teacher.mean.to(pooled.device)
        losses["distillation"] = run.config.distillation.weight * cosine_distance(
            pooled - mean, target - mean
        )
    if run.class_retention:
        losses["classes"] = run.class_retention.loss(features, classes)
    if run.heads and run.heads.start:
        first = texts.captions[: len(rows)]  # one of each image is enough
        as_they_are = run.heads.texts.vectors([c.text for c in first]).to(features.device)
        losses["retention"] = run.heads.start.distance(
            (features, as_they_are),
            (image_embeds, text_embeds[: len(rows)]),
            run.retention_weights(rows).to(features.device),
        )
    return losses


def _class_count(run: Run) -> int:
    return run.class_retention.class_count if run.class_retention else 0


def _contrastive(
    run: Run, rows: list[int], texts: _Texts, image_embeds: Tensor, text_embeds: Tensor
) -> Tensor:
    """The objective's mean over the first captions of all images, the second ones, and so on."""
    losses = []
    for captions, embeds in _turns(rows, texts, text_embeds):
        same = _no_negatives([run.photos[row] for row in rows], captions).to(embeds.device)
        losses.append(run.objective(image_embeds, embeds, run.model.logit_scale, same))
    return torch.stack(losses).mean()


def _affinity(
    run: Run,
    teacher: TeacherEmbeds,
    rows: list[int],
    texts: _Texts,
    image_embeds: Tensor,
    text_embeds: Tensor,
) -> Tensor:
    """The same mean of how far the matching is from the dual teacher's."""
    scale = run.model.logit_scale
    losses = [
        teacher.loss(rows, captions, image_embeds, embeds, scale)
        for captions, embeds in _turns(rows, texts, text_embeds)
    ]
    return torch.stack(losses).mean()


def _turns(rows: Sequence[int], texts: _Texts, text_embeds: Tensor) -> Iterator[tuple[list[Caption], Tensor]]:
    """The first captions of all images and their embeddings, then the second ones, and so on."""
    for start in range(0, len(text_embeds), len(rows)):
        turn = slice(start, start + len(rows))
        yield texts.captions[turn], text_embeds[turn]


def _move(run: Run, step: int, total: Tensor, encodings: Sequence[Encoding]) -> None:
    """Gradients of the whole batch, clipped, then one step of the optimizer."""
    state = run.state
    run.optimizer.zero_grad(set_to_none=True)
    state.scaler.scale(total).backward()  # type: ignore[no-untyped-call]
    for encoding in encodings:
        encoding.backward()
    named = state.parameters.items()
    run.processes.sum_gradients(
        [p for name, p in named if is_of_encoder(name)], [p for name, p in named if not is_of_encoder(name)]
    )
    state.scaler.unscale_(run.optimizer)
    norm = torch.nn.utils.clip_grad_norm_(state.parameters.values(), 1.0)
    if not state.scaler.is_enabled():  # which leaves out such a step by itself, and tries a smaller scale
        check_finite(f"the norm of the gradient at step {step}", norm)
    state.scaler.step(run.optimizer)
    state.scaler.update()
    run.objective.limit(run.model.logit_scale)
    if state.ema:
        state.ema.update(step)


def _no_negatives(photos: Sequence[int], captions: Sequence[Caption]) -> Tensor:
    """(N, N) bool: pairs that are no negatives of each other: of one photo, with one caption, or with one meaning."""
    keys = [photos, [c.text for c in captions], [c.meaning or i for i, c in enumerate(captions)]]
    same = torch.zeros(len(photos), len(photos), dtype=torch.bool)
    for of_kind in keys:
        ids = {key: i for i, key in enumerate(dict.fromkeys(of_kind))}
        numbers = torch.tensor([ids[key] for key in of_kind])
        same |= numbers[:, None] == numbers[None, :]
    return same
