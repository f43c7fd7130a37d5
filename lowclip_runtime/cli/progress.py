"""A progress bar on standard error, only where that is a terminal."""

import contextlib
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def progress(unit: str) -> Iterator[Callable[[int, int | None], None]]:
    """Give a function to call with the items done and their number (None: not known)."""
    from tqdm import tqdm

    with tqdm(unit=unit, disable=None, leave=False) as bar:

        def show(done: int, total: int | None) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield show
