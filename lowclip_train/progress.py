"""What a run tells people while it trains: a bar on a terminal, else a line now and then, and `log.jsonl`."""

import json
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from tqdm import tqdm

_LINE_EVERY_S = 30.0


class ProgressReport:
    """Counts steps; images/s and ETA are of this process, so a resumed run is not credited with earlier work."""

    def __init__(self, steps: int, batch_size: int, first_step: int) -> None:
        self._steps = steps
        self._batch_size = batch_size
        self._first_step = first_step
        self._started = self._spoke_at = time.monotonic()
        self._losses: dict[str, float] = {}
        self._bar = tqdm(total=steps, initial=first_step, unit="step", disable=None, desc="train")

    def step(self, step: int, losses: dict[str, float]) -> None:
        """After each step; keeps a running mean of each loss."""
        for name, loss in losses.items():
            self._losses[name] = 0.95 * self._losses.get(name, loss) + 0.05 * loss
        shown = " ".join(f"{name} {loss:.3f}" for name, loss in self._losses.items())
        elapsed = time.monotonic() - self._started
        images_per_s = (step - self._first_step) * self._batch_size / elapsed
        self._bar.set_postfix_str(f"{images_per_s:.1f} images/s {shown}", refresh=False)
        self._bar.update(1)
        if self._bar.disable and time.monotonic() - self._spoke_at > _LINE_EVERY_S:
            self._spoke_at = time.monotonic()
            left = (self._steps - step) * elapsed / (step - self._first_step)
            eta = timedelta(seconds=round(left))
            say(f"step {step}/{self._steps}  {images_per_s:.1f} images/s  ETA {eta}  {shown}")

    def epoch(self, log: Path, epoch: int, metrics: dict[str, Any]) -> None:
        """After each epoch: one line for people, one JSON line for programs."""
        row = {"epoch": epoch, "losses": self._losses, "val": metrics}
        with log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")
        figures = [
            f"{lang}: R@1 {m['text_to_image']['R@1']:.3f} R@10 {m['text_to_image']['R@10']:.3f} "
            f"mAP {m['text_to_image']['mAP']:.3f} (gallery {m['gallery']})"
            for lang, m in metrics.items()
        ]
        say(f"epoch {epoch + 1}  " + "  ".join(figures))

    def close(self) -> None:
        """Leave the terminal tidy."""
        self._bar.close()


def say(line: str) -> None:
    """One line to standard error, above a progress bar if there is one."""
    tqdm.write(line, file=sys.stderr)
