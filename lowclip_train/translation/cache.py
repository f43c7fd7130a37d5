"""What was translated before: an append-only file of JSON lines that a kill at any moment leaves readable.

A batch is acknowledged once it is on the disk, so a kill loses at most the one in flight. One process writes at a time.
"""

import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from lowclip_runtime.errors import InputError
from lowclip_runtime.files import Held, hold, let_go

_HEADER = b'{"lowclip_translation_cache": 1}\n'


@dataclass(frozen=True, slots=True)
class Translation:
    """One sentence as a model translated it; `problem` is why the model itself would not keep it, or empty."""

    text: str
    problem: str = ""


def cache_key(settings: Sequence[Any], sentence: str) -> str:
    """Hash of all that a translation depends on: the model's identity, codes, generation settings, the sentence."""
    return hashlib.sha256(json.dumps([*settings, sentence]).encode()).hexdigest()


class TranslationCache:
    """Translations by key.

    Attributes:
        damaged_lines: lines that could not be read and are translated anew.

    Raises:
        InputError: the file is something else, of a newer version, or another process writes it.
        OSError: it cannot be read or written.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._file = self._path.open("ab")  # creates it empty: the header is written by who holds the lock
        try:
            self._lock = self._hold()
        except BaseException:
            self._file.close()
            raise
        try:
            self._known, self.damaged_lines = self._read()
        except BaseException:
            self._close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, key: str) -> Translation | None:
        """What is known under `key`."""
        return self._known.get(key)

    def append(self, entries: Sequence[tuple[str, str, Translation]]) -> None:
        """Put (key, sentence, translation) of one batch on the disk; the sentence is for people who look inside."""
        lines = [
            {"key": key, "sentence": sentence, "text": translation.text, "problem": translation.problem}
            for key, sentence, translation in entries
        ]
        written = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        self._write(written.encode())
        self._known.update({key: translation for key, _, translation in entries})

    def _hold(self) -> Held | None:
        try:
            return hold(self._path)
        except BlockingIOError as error:
            raise InputError(
                f"{self._path} is being written by another run; wait for it or name another --cache"
            ) from error

    def _close(self) -> None:
        self._file.close()
        let_go(self._lock)

    def _write(self, data: bytes) -> None:
        self._file.write(data)
        self._file.flush()
        os.fsync(self._file.fileno())

    def _read(self) -> tuple[dict[str, Translation], int]:
        data = self._path.read_bytes()
        if data != _HEADER and _HEADER.startswith(data):  # new, or a kill tore the header
            os.truncate(self._path, 0)
            self._write(_HEADER)
            return {}, 0
        if not data.startswith(_HEADER):
            raise InputError(
                f"{self._path} is not a translation cache of this version of lowclip; name another file with --cache"
            )
        *lines, torn = data.removeprefix(_HEADER).split(b"\n")
        if torn:  # by a kill: what is appended must not continue it
            os.truncate(self._path, len(data) - len(torn))
        return _known(lines)


def _known(lines: Sequence[bytes]) -> tuple[dict[str, Translation], int]:
    """Translations by key, and how many lines could not be read."""
    known, damaged = {}, 0
    for line in lines:
        match _parsed(line):
            case {"key": str(key), "text": str(text), "problem": str(problem)}:
                known[key] = Translation(text, problem)
            case _:
                damaged += 1
    return known, damaged


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:  # not JSON, or not UTF-8
        return None
