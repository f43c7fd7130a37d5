"""The engine of one shard for all threads that use it, one of which may close it for a while and open it anew.

Qdrant Edge answers many threads at once. But its files can be replaced, and its settings changed, only while it is
closed. What is asked and told in words of the engine is `shard.py`'s affair.
"""

import contextlib
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import qdrant_edge

from lowclip_runtime.shard_errors import closed, engine_errors

T = TypeVar("T")


class SharedEngine:
    """An open engine.

    Attributes:
        writing: held by whoever changes points, and by whoever replaces them all, so that no change is lost.

    Raises:
        IndexFileError: every method, where the files are damaged, locked or cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self.writing = threading.RLock()
        self._path = path
        self._closing = threading.RLock()  # held by the one thread that closes it
        self._turn = threading.Condition()
        self._asking = 0  # threads
        self._is_closing = self._is_closed = False
        with engine_errors(path):
            self._engine = load_engine(path)

    def ask(self, question: Callable[[qdrant_edge.EdgeShard], T]) -> T:
        """What the engine answers; who asks while it is reopened waits for that.

        Raises:
            IndexFileError: also where `close` was called.
        """
        with self._turn:
            self._turn.wait_for(lambda: not self._is_closing)
            self._asking += 1
        try:
            with engine_errors(self._path):
                return question(self._engine)
        finally:
            with self._turn:
                self._asking -= 1
                self._turn.notify_all()

    def update(self, operation: Any) -> None:
        """Change points, in turn with others who do."""
        with self.writing:
            self.ask(lambda engine: engine.update(operation))

    def close(self) -> None:
        """Write what is pending and close the engine for good, once all have their answers."""
        with self._alone(), engine_errors(self._path):
            self._is_closed = True
            self._engine.close()

    @contextlib.contextmanager
    def reopened(self, config: qdrant_edge.EdgeConfig | None = None) -> Iterator[None]:
        """Closed inside the block and opened at its end, whatever happens in it; `config` changes the settings.

        Raises:
            IndexFileError: also where `close` was called: it would be opened behind the back of who did.
        """
        with self._alone(), engine_errors(self._path):
            if self._is_closed:
                raise closed(self._path)
            self._engine.close()
            try:
                yield
            finally:
                self._engine = load_engine(self._path, config)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """While nobody asks: the engine cannot be closed while it reads a page of points for another thread."""
        with self._closing:
            try:
                with self._turn:
                    self._is_closing = True
                    self._turn.wait_for(lambda: not self._asking)
                yield
            finally:
                with self._turn:
                    self._is_closing = False
                    self._turn.notify_all()


def load_engine(path: Path, config: qdrant_edge.EdgeConfig | None = None) -> qdrant_edge.EdgeShard:
    """The engine of the files at `path`."""
    return qdrant_edge.EdgeShard.load(str(path), config)
