"""The folder of a run is one run's at a time: two would write over each other's caches and states."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from lowclip_runtime.errors import ConfigError
from lowclip_runtime.files import hold, let_go


@contextlib.contextmanager
def held_by_this_run(folder: Path) -> Iterator[None]:
    """Make `folder` where there is none, and keep other runs out of it; a killed run keeps nobody out.

    Raises:
        ConfigError: another run is at work in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = hold(folder)
    except BlockingIOError as error:
        raise ConfigError(
            f"another run is at work in {folder}; wait until it ends, stop it, or name another folder"
        ) from error
    try:
        yield
    finally:
        let_go(descriptor)
