"""The engine of one shard for all threads that use it, one of which may close it for a while and open it anew.

Qdrant Edge answers many threads at once. But its files can be replaced, and its settings changed, only while it is
closed. What is asked and told in words of the engine is `shard.py`'s affair.

An exception may come between any two lines of the main thread, as of Ctrl-C: nobody may wait for it forever then.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import qdrant_edge

from lowclip_runtime.forks import after_forks, close_files_of, keep
from lowclip_runtime.shard_errors import closed, engine_errors, forked, moved, unsent

T = TypeVar("T")
_LOOK_EVERY_S = 0.1  # whether anyone still asks, should a signal have come before it was told


class SharedEngine:
    """An open engine, for the process that opened it.

    Raises:
        IndexFileError: every method, where the files are damaged, locked or cannot be written, or after a fork.
    """

    def __init__(self, path: Path) -> None:
        self._writing, self._updating = threading.RLock(), threading.RLock()
        self._path = path
        self._place = _place(path.parent)
        self._process = os.getpid()
        self._closing = threading.RLock()  # held by the one thread that closes it
        self._lock = threading.Lock()
        self._turn = threading.Condition(self._lock)
        self._asking: set[object] = set()  # one for each question
        self._is_closing = self._is_closed = False
        self._engine: Any  # an EdgeShard, or None while it is opened anew
        after_forks(self, SharedEngine._leave_to_parent)  # also while it is opened
        with engine_errors(path):
            self._engine = load_engine(path)

    def __reduce__(self) -> str:
        raise unsent(self._path)

    def _leave_to_parent(self) -> None:
        keep(self)
        close_files_of(self._path.resolve())

    @property
    def is_of_parent(self) -> bool:
        """Whether this process was forked from the one that opened it."""
        return os.getpid() != self._process

    def writing(self) -> contextlib.AbstractContextManager[None]:
        """Held by whoever changes points, and by whoever replaces them all, so that no change is lost.

        Raises:
            IndexFileError: also where the folder around the files is no longer the one that was opened: what is written
                would go into another index, or nowhere.
        """
        return self._in_turn(self._writing)

    def updating(self) -> contextlib.AbstractContextManager[None]:
        """Held, around `writing`, by whoever goes by what the shard held when they began; raises as that does."""
        return self._in_turn(self._updating)

    @contextlib.contextmanager
    def _in_turn(self, lock: contextlib.AbstractContextManager[bool]) -> Iterator[None]:
        if self.is_of_parent:  # another thread of which may have held it when this process was forked
            raise forked(self._path)
        with lock:
            if _place(self._path.parent) != self._place:
                raise moved(self._path)
            yield

    def ask(self, question: Callable[[qdrant_edge.EdgeShard], T]) -> T:
        """What the engine answers; who asks while it is reopened waits for that.

        Raises:
            IndexFileError: also where `close` was called.
        """
        if self.is_of_parent:
            raise forked(self._path)
        mine = object()
        try:
            engine = self._kept_open(mine)
            with engine_errors(self._path):
                return question(engine)
        finally:
            self._asking.discard(mine)
            with self._lock:
                self._turn.notify_all()

    def update(self, operation: Any) -> None:
        """Change points, in turn with others who do."""
        with self.writing():
            self.ask(lambda engine: engine.update(operation))

    def close(self) -> None:
        """Write what is pending and close the engine for good, once all have their answers.

        After a fork nothing is: the engine is the parent's.
        """
        if self.is_of_parent:
            return
        with self._alone(), engine_errors(self._path):
            self._is_closed = True
            if self._engine is not None:
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
            try:
                engine, self._engine = self._engine, None
                if engine is not None:
                    engine.close()
                yield
            finally:
                self._engine = load_engine(self._path, config)

    def _kept_open(self, mine: object) -> qdrant_edge.EdgeShard:
        """The engine, which is not closed before `mine` is taken from those who ask."""
        while True:
            with self._lock:
                self._turn.wait_for(lambda: not self._is_closing)
                engine: qdrant_edge.EdgeShard | None = self._engine
                if engine is not None:
                    self._asking.add(mine)
                    return engine
            self._reload()

    def _reload(self) -> None:
        """Open it should an exception have come while it was opened anew."""
        with self._closing, engine_errors(self._path):
            if self._is_closed:
                raise closed(self._path)
            if self._engine is None:
                self._engine = load_engine(self._path)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """While nobody asks: the engine cannot be closed while it reads a page of points for another thread."""
        with self._closing:
            try:
                with self._lock:
                    self._is_closing = True
                    while self._asking:
                        self._turn.wait(_LOOK_EVERY_S)
                yield
            finally:
                with self._lock:
                    self._is_closing = False
                    self._turn.notify_all()


def _place(folder: Path) -> tuple[int, int] | None:
    """What a folder is by any name, None where it is gone."""
    with contextlib.suppress(OSError):
        about = folder.stat()
        return about.st_dev, about.st_ino
    return None


def load_engine(path: Path, config: qdrant_edge.EdgeConfig | None = None) -> qdrant_edge.EdgeShard:
    """The engine of the files at `path`."""
    return qdrant_edge.EdgeShard.load(str(path), config)
