"""SIGTERM, which ends a run after the step that it is in, with a state that the same command goes on from."""

import signal
from types import FrameType, TracebackType
from typing import Self


class StopRequest:
    """Whether this process was told to stop, within a `with`; called after each step.

    Before it is called first there is nothing to save, and SIGTERM does what it did before.
    """

    def __init__(self) -> None:
        self.came = False

    def __enter__(self) -> Self:
        self._before = signal.getsignal(signal.SIGTERM)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, where: TracebackType | None
    ) -> None:
        signal.signal(signal.SIGTERM, self._before)

    def __call__(self) -> bool:
        signal.signal(signal.SIGTERM, self._note)
        return self.came

    def _note(self, signal_number: int, frame: FrameType | None) -> None:
        self.came = True
