"""What a run tells people while it trains: a bar on a terminal, else a line now and then, and `log.jsonl`."""

import json
import math
import resource
import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from lowclip_runtime.files import whole_file
from lowclip_runtime.one_line import on_one_line
from lowclip_train.scalar_log import ScalarLog

_LINE_EVERY_S = 30.0


class ProgressReport:
    """Counts steps; images/s and ETA are of this start, so a resumed run is not credited with earlier work.

    Args:
        batch_size: images a step, of all processes together.
        device: whose peak memory is told: a GPU's tensors, or all that this process takes.
        losses: running means that an earlier start came to.
        shown: false where another process speaks for this one.
        scalars: where curves are drawn from, too.

    Attributes:
        losses: the running mean of each loss, by its name.
    """

    def __init__(
        self,
        steps: int,
        batch_size: int,
        first_step: int,
        device: torch.device,
        *,
        losses: Mapping[str, float] | None = None,
        shown: bool = True,
        scalars: ScalarLog | None = None,
    ) -> None:
        self._device, self._shown, self._scalars = device, shown, scalars
        self._images_per_s, self._last_step = 0.0, first_step
        self._steps = steps
        self._batch_size = batch_size
        self._first_step = first_step
        self._started = self._spoke_at = time.monotonic()
        self.losses: Mapping[str, float] = losses or {}
        hidden = None if shown else True  # None: unless on a terminal
        self._bar = tqdm(total=steps, initial=first_step, unit="step", disable=hidden, desc="train")

    def step(self, step: int, losses: dict[str, float]) -> None:
        """After each step; keeps a running mean of each loss."""
        means = {name: 0.95 * self.losses.get(name, loss) + 0.05 * loss for name, loss in losses.items()}
        self.losses = {**self.losses, **means}
        shown = " ".join(f"{name} {loss:.3f}" for name, loss in self.losses.items())
        elapsed = time.monotonic() - self._started
        self._last_step = step
        self._images_per_s = (step - self._first_step) * self._batch_size / elapsed
        speed = f"{self._images_per_s:.1f} images/s  peak {self._peak_mb():.0f} MB"
        self._bar.set_postfix_str(f"{speed} {shown}", refresh=False)
        self._bar.update(1)
        if self._scalars:
            self._scalars.write(step, {**losses, **self._cost()})
        if self._shown and self._bar.disable and time.monotonic() - self._spoke_at > _LINE_EVERY_S:
            self._spoke_at = time.monotonic()
            left = (self._steps - step) * elapsed / (step - self._first_step)
            eta = timedelta(seconds=round(left))
            say(f"step {step}/{self._steps}  {speed}  ETA {eta}  {shown}")

    def epoch(self, log: Path, epoch: int, metrics: dict[str, Any]) -> None:
        """After each epoch: one line for people, one JSON line for programs, in place of any of a lost one."""
        row = {"epoch": epoch, "losses": self.losses, **self._cost(), "val": metrics}
        _forget(log, epoch)
        with log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        figures = [
            f"{lang}: R@1 {m['text_to_image']['R@1']:.3f} R@10 {m['text_to_image']['R@10']:.3f} "
            f"mAP {m['text_to_image']['mAP']:.3f} (gallery {m['gallery']})"
            for lang, m in metrics.items()
        ]
        say(f"epoch {epoch + 1}  " + "  ".join(figures))
        if self._scalars:
            directions = ("text_to_image", "image_to_text")
            curves = {f"{lang}/{d}/mAP": m[d]["mAP"] for lang, m in metrics.items() for d in directions}
            self._scalars.write(self._last_step, curves, "val")

    def close(self) -> None:
        """Leave the terminal tidy."""
        self._bar.close()
        if self._scalars:
            self._scalars.close()

    def _cost(self) -> dict[str, float]:
        return {"images_per_s": round(self._images_per_s, 1), "peak_memory_mb": round(self._peak_mb(), 1)}

    def _peak_mb(self) -> float:
        if self._device.type == "cuda":
            return torch.cuda.max_memory_allocated(self._device) / 2**20
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak / (2**20 if sys.platform == "darwin" else 2**10)  # bytes there, kibibytes elsewhere


def say(line: str) -> None:
    """One line to standard error, above a progress bar if there is one."""
    tqdm.write(on_one_line(line), file=sys.stderr)


def _forget(log: Path, epoch: int) -> None:
    """Take out the lines of `epoch` and of later ones: a kill came between them and the state that knows of them."""
    lines = log.read_text("utf-8", "replace").splitlines(keepends=True) if log.is_file() else []
    kept = [line for line in lines if _epoch_of(line) < epoch]
    if len(kept) < len(lines):
        with whole_file(log) as work:
            work.write_text("".join(kept), "utf-8")


def _epoch_of(line: str) -> float:
    """Of a line of the log; that of a line which a kill tore is after all others."""
    try:
        return float(json.loads(line)["epoch"])
    except (ValueError, KeyError, TypeError):
        return math.inf
