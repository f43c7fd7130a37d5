"""`train`: from a config to a checkpoint, resumable at any step with the same result.

Every random choice of a step is a function of the seed and the step alone, so a run that was killed and resumed
takes the very steps that an uninterrupted one takes. What is optimized is `objective.py`, what is fed `image_inputs.py`
and `captions.py`.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import numpy as np
import torch
from torch import Tensor

from lowclip_runtime.errors import LowClipError
from lowclip_runtime.text import pad
from lowclip_train.captions import Caption, draw_captions
from lowclip_train.checkpoint import SCHEMA_VERSION, CheckpointManifest, save_checkpoint
from lowclip_train.config import TrainConfig
from lowclip_train.frozen_stages import keep_batch_norm_statistics
from lowclip_train.loss import cosine_distance
from lowclip_train.optimizer import set_learning_rates
from lowclip_train.progress import ProgressReport
from lowclip_train.run import Run, drawn_count, prepare_run
from lowclip_train.text_noise import noisy
from lowclip_train.training_state import Progress, load_state, save_state
from lowclip_train.validation import validate

_TEXT_CHUNK = 64  # captions of like length go through the text tower together, so little is padding


def train(
    config: TrainConfig,
    folder: str | Path,
    *,
    max_steps: int | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Path:
    """Train, or go on with what `folder` holds, and return the folder of the best checkpoint.

    Args:
        max_steps: leave off after this many steps in all, with a resumable state (for dry runs and tests).
        stop: asked after each step; true saves a state and leaves off.

    Raises:
        LowClipError: a config, data or hub problem, or a loss that is not finite.
    """
    run = prepare_run(config, Path(folder))
    progress = load_state(run.folder / "state", run.fingerprint, run.trained, run.optimizer)
    progress = progress or Progress(step=0, best_score=-1.0, best_epoch=-1)
    report = ProgressReport(run.steps, run.config.schedule.batch_size, progress.step)
    saved_at = time.monotonic()
    last = min(run.steps, max_steps or run.steps)
    for step, rows in epoch_steps(run, progress.step, last):
        losses = train_step(run, step, rows)
        progress = Progress(**{**vars(progress), "step": step + 1})
        report.step(step + 1, losses)
        if (step + 1) % run.steps_per_epoch == 0:
            progress = _end_epoch(run, progress, report)
        leaving = stop() or step + 1 == last
        if leaving or time.monotonic() - saved_at > config.schedule.save_every_s:
            save_state(run.folder / "state", progress, run.fingerprint, run.trained, run.optimizer)
            saved_at = time.monotonic()
        if leaving:
            break
    report.close()
    return run.folder / "checkpoint"


def epoch_steps(run: Run, first: int, last: int) -> Iterator[tuple[int, list[int]]]:
    """(step, rows of `run.images`) for steps `first` to `last`; the order is new each epoch."""
    for step in range(first, last):
        epoch, place = divmod(step, run.steps_per_epoch)
        if place == 0 or step == first:
            order = _epoch_order(run, epoch)
        size = run.config.schedule.batch_size
        yield step, order[place * size : (place + 1) * size]


def train_step(run: Run, step: int, rows: list[int]) -> dict[str, float]:
    """One optimizer step on the images of `rows`; returns the losses, named.

    Raises:
        LowClipError: the loss is not a finite number.
    """
    generator = np.random.default_rng([run.config.schedule.seed, 1, step])
    torch.manual_seed(int(generator.integers(2**31)))  # dropout
    run.model.train()
    keep_batch_norm_statistics(run.model.image_tower.encoder)
    set_learning_rates(run.optimizer, run.config.schedule, step, run.steps)
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
    return {name: loss.item() for name, loss in losses.items()}


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


def _end_epoch(run: Run, progress: Progress, report: ProgressReport) -> Progress:
    """Validate, and write the checkpoint if it is the best so far (or the only one, without validation data)."""
    epoch = progress.step // run.steps_per_epoch - 1
    metrics = (
        validate(run.model, run.split, run.val_inputs, run.val_images, run.text) if run.val_inputs else {}
    )
    score = float(np.mean([m["text_to_image"]["mAP"] for m in metrics.values()])) if metrics else float(epoch)
    report.epoch(run.folder / "log.jsonl", epoch, metrics)
    if score <= progress.best_score:
        return progress
    manifest = CheckpointManifest(
        schema_version=SCHEMA_VERSION,
        name=run.config.name,
        created=datetime.now(UTC).date().isoformat(),
        model=run.model.config,
        preprocess=run.config.preprocess,
        text=run.text,
        licence=run.config.licence,
        lineage={**run.lineage, "epoch": epoch, "step": progress.step},
        metrics={"val": metrics},
        files={},
    )
    save_checkpoint(run.folder / "checkpoint", run.model, run.tokenizer_path, manifest, overwrite=True)
    return Progress(step=progress.step, best_score=score, best_epoch=epoch)


def _epoch_order(run: Run, epoch: int) -> list[int]:
    generator = np.random.default_rng([run.config.schedule.seed, 0, epoch])
    drawn: list[int] = []
    for rows, source in zip(run.source_rows, run.config.sources, strict=True):
        drawn += generator.permutation(rows)[: drawn_count(rows, source.share)].tolist()
    order = cast(list[int], generator.permutation(drawn).tolist())
    size = run.config.schedule.batch_size
    return order if len(order) >= size else (order * size)[:size]  # a tiny set fills one batch by repetition
