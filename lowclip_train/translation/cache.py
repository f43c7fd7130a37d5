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
from lowclip_runtime.files import hold, let_go, whole_file

_HEADER = {"lowclip_translation_cache": 1}


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
        if not self._path.exists():
            with whole_file(self._path) as work:
                work.write_text(json.dumps(_HEADER) + "\n", "utf-8")
        try:
            self._lock = hold(self._path)
        except BlockingIOError as error:
            raise InputError(
                f"{self._path} is being written by another run; wait for it or name another --cache"
            ) from error
        try:
            self._known, self.damaged_lines = _read(self._path)
            self._file = self._path.open("ab")
        except BaseException:
            let_go(self._lock)
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        let_go(self._lock)

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
        self._file.write(written.encode())
        self._file.flush()
        os.fsync(self._file.fileno())
        self._known.update({key: translation for key, _, translation in entries})


def _read(path: Path) -> tuple[dict[str, Translation], int]:
    data = path.read_bytes()
    header, *lines = data.split(b"\n")
    if _parsed(header) != _HEADER:
        raise InputError(
            f"{path} is not a translation cache of this version of lowclip; name another file with --cache"
        )
    if lines and lines[-1]:  # a kill tore the last line: what is appended must not continue it
        os.truncate(path, len(data) - len(lines[-1]))
    known, damaged = {}, 0
    for line in lines[:-1]:
        row = _parsed(line)
        try:
            known[row["key"]] = Translation(row["text"], row["problem"])
        except (KeyError, TypeError):
            damaged += 1
    return known, damaged


def _parsed(line: bytes) -> Any:
    try:
        return json.loads(line)
    except ValueError:  # not JSON, or not UTF-8
        return None
