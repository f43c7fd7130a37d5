"""One optimizer step: captions drawn, both encoders run, losses taken, weights moved.

What is optimized is `objective.py`, what is fed `image_inputs.py` and `captions.py`, and how a batch goes through an
encoder in pieces or by several processes `encoding.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from lowclip_runtime.errors import LowClipError
from lowclip_runtime.text import pad
from lowclip_train.captions import Caption, draw_captions
from lowclip_train.encoding import Encoding, Piece
from lowclip_train.frozen_stages import keep_batch_norm_statistics
from lowclip_train.loss import cosine_distance
from lowclip_train.optimizer import learning_rate_factor, set_learning_rates
from lowclip_train.precision import autocast
from lowclip_train.run import Run
from lowclip_train.stages import is_of_encoder, stage_at, train_only
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
        LowClipError: the loss is not a finite number.
    """
    generator = np.random.default_rng([run.config.schedule.seed, 1, step])
    seed = int(generator.integers(2**31))
    torch.manual_seed(seed + run.processes.index)  # dropout in the encoders
    run.model.train()
    keep_batch_norm_statistics(run.model.image_tower.encoder)
    _enter_stage(run, step)
    texts = _draw_texts(run, rows, generator)
    pooled, order = _encode_texts(run, texts.all, generator)
    features = _encode_images(run, rows, step // run.steps_per_epoch)
    if run.processes.count > 1:  # every process has all rows now, and shall drop the same of them
        torch.manual_seed(seed + run.processes.count)
    losses = _losses(run, texts, features.output, pooled.output[order])
    total = losses["contrastive"] + losses.get("distillation", 0.0)
    if not torch.isfinite(total):
        raise LowClipError(
            f"the loss is {total.item()} at step {step}; lower the learning rates, then resume from the last state"
        )
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
    typed = [noisy(caption.text, run.config.text_noise, generator) for caption in captions]
    again = iter(run.tokenizer.token_ids([t for t, c in zip(typed, captions, strict=True) if t != c.text]))
    rows = [c.token_ids if t == c.text else next(again) for t, c in zip(typed, captions, strict=True)]
    by_length = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    own = [rows[i] for i in by_length[run.processes.share]]
    size = run.config.schedule.micro_batch_size or _TEXT_CHUNK
    pieces = [_text_piece(run, own[start : start + size]) for start in range(0, len(own), size)]
    encoding = Encoding(pieces, len(rows), run.processes, cached=_cached(run))
    return encoding, torch.from_numpy(np.argsort(by_length)).to(run.processes.device)


def _encode_images(run: Run, rows: Sequence[int], epoch: int) -> Encoding:
    batch = run.inputs.training_batch(rows, epoch, run.processes.share)
    size = run.config.schedule.micro_batch_size or len(batch)
    pieces = [_image_piece(run, part) for part in torch.split(batch, size)]
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
            encoded: Tensor = run.split.tail(batch.to(run.processes.device))
            return encoded

    return encode


def _cached(run: Run) -> bool:
    return run.config.schedule.micro_batch_size > 0


def _losses(run: Run, texts: _Texts, features: Tensor, pooled: Tensor) -> dict[str, Tensor]:
    """Encoder outputs of images (N, C) and texts (k * N + P, C) → losses, of the whole batch."""
    count = len(features)
    image_embeds = run.model.image_tower.embed_pooled(features)
    text_embeds = run.model.text_tower.embed_pooled(pooled[: len(texts.captions)])
    parts = zip(torch.split(text_embeds, count), _groups(texts.captions, count), strict=True)
    contrastive = [
        run.objective(image_embeds, embeds, run.model.logit_scale, _same_text(group).to(embeds.device))
        for embeds, group in parts
    ]
    losses = {"contrastive": torch.stack(contrastive).mean()}
    if run.teacher and run.config.distillation:
        target = run.teacher.vectors([c.teacher_text for c in texts.all]).to(pooled.device)
        mean = run.teacher.mean.to(pooled.device)
        losses["distillation"] = run.config.distillation.weight * cosine_distance(
            pooled - mean, target - mean
        )
    return losses


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
    torch.nn.utils.clip_grad_norm_(run.model.parameters(), 1.0)
    state.scaler.step(run.optimizer)
    state.scaler.update()
    if state.ema:
        state.ema.update(step)


def _same_text(captions: Sequence[Caption]) -> Tensor:
    """(N, N) bool: pairs of rows with the same caption, which are no negatives of each other."""
    ids = {text: i for i, text in enumerate(dict.fromkeys(c.text for c in captions))}
    numbers = torch.tensor([ids[c.text] for c in captions])
    return numbers[:, None] == numbers[None, :]


def _groups(captions: Sequence[Caption], size: int) -> list[Sequence[Caption]]:
    return [captions[i : i + size] for i in range(0, len(captions), size)]
