"""One optimizer step: captions drawn, both towers run, losses taken, weights moved.

What is optimized is `objective.py`, what is fed `image_inputs.py` and `captions.py`.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from lowclip_runtime.errors import LowClipError
from lowclip_runtime.text import pad
from lowclip_train.captions import Caption, draw_captions
from lowclip_train.frozen_stages import keep_batch_norm_statistics
from lowclip_train.loss import cosine_distance
from lowclip_train.optimizer import learning_rate_factor, set_learning_rates
from lowclip_train.run import Run
from lowclip_train.stages import stage_at, train_only
from lowclip_train.text_noise import noisy

_TEXT_CHUNK = 64  # captions of like length go through the text tower together, so little is padding


def train_step(run: Run, step: int, rows: list[int]) -> dict[str, float]:
    """One optimizer step on the images of `rows`; returns the losses, named.

    Raises:
        LowClipError: the loss is not a finite number.
    """
    generator = np.random.default_rng([run.config.schedule.seed, 1, step])
    torch.manual_seed(int(generator.integers(2**31)))  # dropout
    run.model.train()
    keep_batch_norm_statistics(run.model.image_tower.encoder)
    _enter_stage(run, step)
    losses = _losses(run, rows, step // run.steps_per_epoch, generator)
    total = losses["contrastive"] + losses.get("distillation", torch.zeros(()))
    if not torch.isfinite(total):
        raise LowClipError(
            f"the loss is {total.item()} at step {step}; lower the learning rates, then resume from the last state"
        )
    run.optimizer.zero_grad(set_to_none=True)
    total.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_(run.model.parameters(), 1.0)
    run.optimizer.step()
    if run.state.ema:
        run.state.ema.update(step)
    return {name: loss.item() for name, loss in losses.items()}


def _enter_stage(run: Run, step: int) -> None:
    stage = stage_at(run.stages, step)
    train_only(run.state.parameters, stage.train)
    factor = learning_rate_factor(step - stage.first_step, stage.steps, run.config.schedule.warmup)
    set_learning_rates(run.optimizer, stage.peaks, factor)


def _losses(run: Run, rows: list[int], epoch: int, generator: np.random.Generator) -> dict[str, Tensor]:
    count = run.config.schedule.captions_per_image
    drawn = [draw_captions(run.images[row], count, generator) for row in rows]
    captions = [
        of_image[k] for k in range(count) for of_image in drawn
    ]  # the first of each image, then the second
    extra = _draw_parallel(run, generator)
    pooled = pool_texts(run, [*captions, *extra], generator)  # (count * N + P, C)
    image_embeds = run.model.image_tower.embed_pooled(run.split.tail(run.inputs.training_batch(rows, epoch)))
    text_embeds = run.model.text_tower.embed_pooled(pooled[: len(captions)])
    parts = zip(torch.split(text_embeds, len(rows)), _groups(captions, len(rows)), strict=True)
    contrastive = [
        run.objective(image_embeds, embeds, run.model.logit_scale, _same_text(group))
        for embeds, group in parts
    ]
    losses = {"contrastive": torch.stack(contrastive).mean()}
    if run.teacher and run.config.distillation:
        target = run.teacher.vectors([c.teacher_text for c in [*captions, *extra]])
        distance = cosine_distance(pooled - run.teacher.mean, target - run.teacher.mean)
        losses["distillation"] = run.config.distillation.weight * distance
    return losses


def pool_texts(run: Run, captions: Sequence[Caption], generator: np.random.Generator) -> Tensor:
    """Captions, as people type them → the text encoder's pooled vectors (N, C), in chunks of like length."""
    typed = [noisy(caption.text, run.config.text_noise, generator) for caption in captions]
    again = iter(run.tokenizer.token_ids([t for t, c in zip(typed, captions, strict=True) if t != c.text]))
    rows = [c.token_ids if t == c.text else next(again) for t, c in zip(typed, captions, strict=True)]
    by_length = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    chunks = []
    for start in range(0, len(rows), _TEXT_CHUNK):
        chunk = [rows[i] for i in by_length[start : start + _TEXT_CHUNK]]
        input_ids, mask = map(torch.from_numpy, pad(chunk, run.text.pad_token_id))
        chunks.append(run.model.text_tower.pool(input_ids, mask))
    return torch.cat(chunks)[torch.from_numpy(np.argsort(by_length))]


def _same_text(captions: Sequence[Caption]) -> Tensor:
    """(N, N) bool: pairs of rows with the same caption, which are no negatives of each other."""
    ids = {text: i for i, text in enumerate(dict.fromkeys(c.text for c in captions))}
    numbers = torch.tensor([ids[c.text] for c in captions])
    return numbers[:, None] == numbers[None, :]


def _groups(captions: Sequence[Caption], size: int) -> list[Sequence[Caption]]:
    return [captions[i : i + size] for i in range(0, len(captions), size)]


def _draw_parallel(run: Run, generator: np.random.Generator) -> list[Caption]:
    if not run.parallel or run.config.distillation is None:
        return []
    count = run.config.distillation.parallel_batch_size
    return [run.parallel[int(i)] for i in generator.integers(len(run.parallel), size=count)]
