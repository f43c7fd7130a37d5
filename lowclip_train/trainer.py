"""`train`: from a config to a checkpoint, resumable at any step with the same result.

Every random choice of a step is a function of the seed and the step alone, so a run that was killed and resumed
takes the very steps that an uninterrupted one takes. What a step does is `training_step.py`.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import numpy as np

from lowclip_runtime.errors import CheckpointError, ConfigError
from lowclip_train.checkpoint import SCHEMA_VERSION, CheckpointManifest, read_manifest, save_checkpoint
from lowclip_train.config import TrainConfig
from lowclip_train.distributed import Processes, joined_processes
from lowclip_train.fitting_tokenizer import read_tokenizer, unknown_share
from lowclip_train.progress import ProgressReport, say
from lowclip_train.run import Run, drawn_count, prepare_run
from lowclip_train.run_folder import held_by_this_run
from lowclip_train.scalar_log import ScalarLog, require_tensorboard
from lowclip_train.training_state import Progress, load_state, save_state
from lowclip_train.training_step import train_step
from lowclip_train.validation import EmbeddedParts, forget_parts, mean_average_precision, validate

_MUCH_UNKNOWN = 0.2  # of the pieces of captions; a tokenizer of their language knows nearly all
_VALIDATION = "validation"  # of the run's folder, what an epoch's has embedded so far


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
        LowClipError: a config, data or hub problem, or numbers that are not finite.
    """
    _refuse_to_lose(config, Path(folder) / "checkpoint")
    if config.schedule.tensorboard:
        require_tensorboard()
    with joined_processes(config.schedule.device) as processes, _held(Path(folder), processes):
        with processes.first_goes_first():
            run = prepare_run(config, Path(folder), processes)
        progress = load_state(run.folder / "state", run.fingerprint, run.state)
        progress = progress or Progress(step=0, best_score=-1.0, best_epoch=-1)
        last = progress.step if _out_of_patience(run, progress) else min(run.steps, max_steps or run.steps)
        _take_steps(run, progress, last, stop)
    return run.folder / "checkpoint"


def _refuse_to_lose(config: TrainConfig, written: Path) -> None:
    """The first epoch would replace what the run starts or learns from, or somebody's folder of that name."""
    teacher = config.dual_teacher.teacher if config.dual_teacher else ""
    for key, path in (("towers.checkpoint", config.towers.checkpoint), ("dual_teacher.teacher", teacher)):
        if path and Path(path).resolve() == written.resolve():
            raise ConfigError(
                f"{key} is {path}, which this run would replace by its own; name another folder to train in"
            )
    if not written.exists() or (written.is_dir() and not any(written.iterdir())):
        return
    try:
        read_manifest(written)
    except CheckpointError as error:
        raise ConfigError(
            f"{written} is no checkpoint of this lowclip, and this run would replace it by its own; move it away, or "
            "name another folder to train in"
        ) from error


def _tell_unknown(run: Run) -> None:
    """Captions of words that the tokenizer does not know look alike to the model, and nothing else would say so."""
    captions = [c for image in run.images for of_lang in image.captions.values() for c in of_lang]
    share = unknown_share(read_tokenizer(run.tokenizer_path), (c.token_ids for c in captions))
    if share > _MUCH_UNKNOWN:
        say(
            f"the tokenizer does not know {share:.0%} of what the captions are made of; "
            "name a text encoder, or vocabulary_corpora, of their languages"
        )


def _held(folder: Path, processes: Processes) -> contextlib.AbstractContextManager[None]:
    return held_by_this_run(folder) if processes.is_first else contextlib.nullcontext()


def _take_steps(run: Run, progress: Progress, last: int, stop: Callable[[], bool]) -> None:
    if run.processes.is_first:
        _tell_unknown(run)
    report = _report(run, progress)
    saved_at, validated = time.monotonic(), False
    for step, rows in epoch_steps(run, progress.step, last):
        losses = train_step(run, step, rows)
        report.step(step + 1, losses)
        progress = replace(progress, step=step + 1, losses=report.losses)
        if (step + 1) % run.steps_per_epoch == 0:
            progress, validated = _end_epoch(run, progress, report), True
        leaving = run.processes.any(stop()) or step + 1 == last or _out_of_patience(run, progress)
        if leaving or time.monotonic() - saved_at > run.config.schedule.save_every_s:
            if run.processes.is_first:
                save_state(run.folder / "state", progress, run.fingerprint, run.state)
                if validated:  # else a killed run's parts of the validation to come may be there
                    forget_parts(run.folder / _VALIDATION)
            saved_at = time.monotonic()
        if leaving:
            break
    report.close()
    if run.processes.is_first and progress.step < run.steps and not _out_of_patience(run, progress):
        say(f"left off at step {progress.step} of {run.steps}; the same command goes on")


def _report(run: Run, progress: Progress) -> ProgressReport:
    first = run.processes.is_first
    wanted = first and run.config.schedule.tensorboard
    scalars = ScalarLog(run.folder / "tensorboard", progress.step) if wanted else None
    return ProgressReport(
        run.steps,
        run.config.schedule.batch_size,
        progress.step,
        run.processes.device,
        losses=progress.losses,
        shown=first,
        scalars=scalars,
    )


def epoch_steps(run: Run, first: int, last: int) -> Iterator[tuple[int, list[int]]]:
    """(step, rows of `run.images`) for steps `first` to `last`; the order is new each epoch."""
    for step in range(first, last):
        epoch, place = divmod(step, run.steps_per_epoch)
        if place == 0 or step == first:
            order = _epoch_order(run, epoch)
        size = run.config.schedule.batch_size
        yield step, order[place * size : (place + 1) * size]


def _end_epoch(run: Run, progress: Progress, report: ProgressReport) -> Progress:
    """Validate and save, in the first process; the others learn what came of it."""
    if run.processes.is_first:
        with run.state.ema.in_place() if run.state.ema else contextlib.nullcontext():
            progress = _keep_if_best(run, progress, report)
    score, epoch = run.processes.from_first([progress.best_score, progress.best_epoch])
    return replace(progress, best_score=score, best_epoch=int(epoch))


def _keep_if_best(run: Run, progress: Progress, report: ProgressReport) -> Progress:
    """Write the checkpoint if it is the best so far (or the newest, without validation data)."""
    epoch = progress.step // run.steps_per_epoch - 1
    parts = EmbeddedParts(run.folder / _VALIDATION, run.model, run.fingerprint)
    if run.val_inputs:
        metrics = validate(run.model, run.split, run.val_inputs, run.val_images, run.text, parts)
    else:  # no figures of what is trained on, but what the last step left must still be a model
        validate(run.model, run.split, run.inputs, run.images[:1], run.text, parts)
        metrics = {}
    score = mean_average_precision(metrics) if metrics else float(epoch)
    report.epoch(run.folder / "log.jsonl", epoch, metrics)
    if score <= progress.best_score:
        return progress
    manifest = _manifest(run, metrics, {"epoch": epoch, "step": progress.step})
    save_checkpoint(run.folder / "checkpoint", run.model, run.tokenizer_path, manifest, overwrite=True)
    return replace(progress, best_score=score, best_epoch=epoch)


def _out_of_patience(run: Run, progress: Progress) -> bool:
    """Whether too many epochs of the last stage ended without a better score."""
    last_before = run.stages[-1].first_step // run.steps_per_epoch - 1
    waited = progress.step // run.steps_per_epoch - 1 - max(progress.best_epoch, last_before)
    return 0 < run.config.schedule.patience <= waited


def _manifest(run: Run, metrics: dict[str, Any], when: dict[str, int]) -> CheckpointManifest:
    return CheckpointManifest(
        schema_version=SCHEMA_VERSION,
        name=run.config.name,
        created=datetime.now(UTC).date().isoformat(),
        model=run.model.config,
        preprocess=run.config.preprocess,
        text=run.text,
        licence=run.config.licence,
        lineage={**run.lineage, **when},
        metrics={"val": metrics},
        files={},
    )


def _epoch_order(run: Run, epoch: int) -> list[int]:
    generator = np.random.default_rng([run.config.schedule.seed, 0, epoch])
    drawn: list[int] = []
    for rows, source in zip(run.source_rows, run.config.sources, strict=True):
        left = drawn_count(rows, source.share)
        while left > 0:  # more than once through a source that has a share above one
            passed = generator.permutation(rows)[:left].tolist()
            drawn, left = drawn + passed, left - len(passed)
    order = cast(list[int], generator.permutation(drawn).tolist())
    size = run.config.schedule.batch_size
    return order if len(order) >= size else (order * size)[:size]  # a tiny set fills one batch by repetition
