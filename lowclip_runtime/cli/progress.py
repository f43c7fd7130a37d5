"""A progress bar on standard error, only where that is a terminal: photos a second, time left, and how many failed."""

import contextlib
import sys
from collections.abc import Iterator

from lowclip_runtime.one_line import on_one_line


class ProgressBar:
    """What the library's callbacks are told goes into one bar."""

    def __init__(self, unit: str) -> None:
        from tqdm import tqdm

        self._left_out = 0
        self.bar = tqdm(unit=unit, disable=None, leave=False)

    def show(self, done: int, total: int | None) -> None:
        """Items done, and their number (None: not known)."""
        self.bar.total = total
        self.bar.update(done - self.bar.n)

    def tell_failed(self, item: str, reason: str) -> None:
        """One line on standard error, and one more in the bar's count."""
        self._left_out += 1
        self.bar.write(f"left out: {on_one_line(item)}: {on_one_line(reason)}", file=sys.stderr)
        self.bar.set_postfix_str(f"{self._left_out:,} left out", refresh=False)


@contextlib.contextmanager
def progress(unit: str) -> Iterator[ProgressBar]:
    """A bar that is gone when the block ends."""
    shown = ProgressBar(unit)
    with shown.bar:
        yield shown
