"""The folder of a run is one run's at a time: two would write over each other's caches and states.

Runs that come one after the other may share a cache, whose entries are known by what they were made of.
"""

import contextlib
import os
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
        held = hold(folder)
    except BlockingIOError as error:
        raise ConfigError(
            f"another run is at work in {folder}; wait until it ends, stop it, or name another folder"
        ) from error
    try:
        yield
    finally:
        let_go(held)


def share_cache(cache: Path, run: Path) -> None:
    """Let the run of the folder `run`, which may not be there yet, keep its cache in `cache`; one it has stays."""
    cache.mkdir(parents=True, exist_ok=True)
    run.mkdir(parents=True, exist_ok=True)
    if not (run / "cache").exists():
        (run / "cache").symlink_to(os.path.relpath(cache, run), target_is_directory=True)
