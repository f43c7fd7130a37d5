"""The control groups that hold this process: where a container's limits on cores and memory are written."""

from collections.abc import Iterator
from pathlib import Path
from typing import Literal


def cgroup_folders(root: Path, controller: str) -> Iterator[tuple[Literal["v1", "v2"], Path]]:
    """This process's group and each one above it, of both versions; `root` is where `/proc` and `/sys` are.

    Args:
        controller: `cpu` or `memory`.
    """
    for line in lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            for folder in _up_from(root / "sys/fs/cgroup", path):
                yield "v2", folder
        elif controller in controllers.split(","):
            for folder in _up_from(root / "sys/fs/cgroup" / controller, path):
                yield "v1", folder


def lines(path: Path) -> list[str]:
    """The file's lines; none where the system has no such file."""
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _up_from(top: Path, path: str) -> list[Path]:
    folder = top / path.lstrip("/")
    return [folder, *(parent for parent in folder.parents if parent.is_relative_to(top))]
