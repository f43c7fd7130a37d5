"""Curves for TensorBoard, whose package is an extra that only runs that ask for curves need."""

from collections.abc import Mapping
from pathlib import Path

from lowclip_runtime.errors import ConfigError


def require_tensorboard() -> None:
    """Raise `ConfigError` where the package is not installed."""
    try:
        import torch.utils.tensorboard  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            "schedule.tensorboard is true, but the package is not installed; "
            "run: pip install 'lowclip[tensorboard]', or set it to false"
        ) from error


class ScalarLog:
    """Event files in `folder`.

    Args:
        first_step: what an earlier start wrote of later steps, and a kill then lost, is not shown.

    Raises:
        ConfigError: the package is not installed.
    """

    def __init__(self, folder: Path, first_step: int) -> None:
        require_tensorboard()
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(folder), purge_step=first_step + 1)

    def write(self, step: int, scalars: Mapping[str, float], group: str = "train") -> None:
        """One point on each curve."""
        for name, value in scalars.items():
            self._writer.add_scalar(f"{group}/{name}", value, step)

    def close(self) -> None:
        """Write what is not yet on the disk."""
        self._writer.close()
