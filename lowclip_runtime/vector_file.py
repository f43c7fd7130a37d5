"""Embeddings on disk as they come, with an id each: `.npy` with a list of ids beside it, or `.parquet`.

A file exists whole or not at all, and memory stays flat however many rows it gets.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from lowclip_runtime.errors import InputError
from lowclip_runtime.files import check_file_target, flush, whole_file


class VectorWriter(Protocol):
    """Takes rows; `vector_file` gives one."""

    def add(self, ids: Sequence[str], embeddings: NDArray[np.float32]) -> None:
        """Append one id for each row of `embeddings` (n, D)."""
        ...


@contextlib.contextmanager
def vector_file(out: str | Path, dims: int, about: dict[str, str]) -> Iterator[VectorWriter]:
    """A writer for `out`, which appears when the block ends without an error.

    Args:
        dims: length D of each embedding.
        about: what a `.parquet` file's metadata shall say.

    Raises:
        InputError: the suffix is neither `.npy` nor `.parquet`, or pyarrow is missing.
    """
    out = Path(out)
    check_target(out)
    opened = _npy(out, dims) if out.suffix == ".npy" else _parquet(out, dims, about)
    with opened as writer:
        yield writer


def check_target(out: str | Path) -> None:
    """Refuse what `vector_file` could not write, before any work is done.

    Raises:
        InputError: a folder, a place that cannot be written to, another suffix than `.npy` or `.parquet`, or pyarrow
            is missing.
    """
    out = Path(out)
    if out.suffix not in (".npy", ".parquet"):
        raise InputError(f"{out} must end in .npy or .parquet, which is what embeddings are written as")
    for file in (out, ids_path(out)) if out.suffix == ".npy" else (out,):
        check_file_target(file)
    if out.suffix == ".parquet":
        try:
            import pyarrow  # type: ignore[import-not-found,unused-ignore]  # noqa: F401
        except ImportError as error:
            raise InputError(f"writing {out} needs pyarrow; get it with: pip install pyarrow") from error


def ids_path(out: str | Path) -> Path:
    """Where the ids of the rows of `out` are, one a line."""
    return Path(f"{out}.ids.txt")


@contextlib.contextmanager
def _npy(out: Path, dims: int) -> Iterator[VectorWriter]:
    with whole_file(ids_path(out)) as ids_work, whole_file(out) as work:
        with (
            work.open("wb") as file,
            # file names that are not UTF-8 come and go as their bytes
            ids_work.open("w", encoding="utf-8", errors="surrogateescape") as ids_file,
        ):
            writer = _NpyWriter(file, ids_file, dims)
            yield writer
            writer.finish()
        flush(work)
        flush(ids_work)
        # a kill between the one file's coming and the other's leaves no ids rather than those of other rows
        ids_path(out).unlink(missing_ok=True)


class _NpyWriter:
    def __init__(self, file: IO[bytes], ids_file: IO[str], dims: int) -> None:
        self._file, self._ids_file, self._dims, self._rows = file, ids_file, dims, 0
        self._write_header()

    def add(self, ids: Sequence[str], embeddings: NDArray[np.float32]) -> None:
        self._file.write(np.ascontiguousarray(embeddings, "<f4").tobytes())
        self._ids_file.writelines(f"{one}\n" for one in ids)
        self._rows += len(ids)

    def finish(self) -> None:
        """numpy pads the header so that it can be written again with more rows."""
        before = self._file.tell()
        self._file.seek(0)
        self._write_header()
        self._file.seek(before, os.SEEK_SET)

    def _write_header(self) -> None:
        header = {"descr": "<f4", "fortran_order": False, "shape": (self._rows, self._dims)}
        np.lib.format.write_array_header_1_0(self._file, header)


@contextlib.contextmanager
def _parquet(out: Path, dims: int, about: dict[str, str]) -> Iterator[VectorWriter]:
    import pyarrow as pa  # type: ignore[import-not-found,unused-ignore]
    import pyarrow.parquet as pq  # type: ignore[import-not-found,unused-ignore]

    fields = [("id", pa.string()), ("embedding", pa.list_(pa.float32(), dims))]
    schema = pa.schema(fields, metadata=about)
    # opened here, as pyarrow opens no name that is not UTF-8
    with whole_file(out) as work, work.open("wb") as opened, pq.ParquetWriter(opened, schema) as file:
        yield _ParquetWriter(pa, file, schema)


class _ParquetWriter:
    def __init__(self, arrow: Any, file: Any, schema: Any) -> None:
        self._arrow, self._file, self._schema = arrow, file, schema

    def add(self, ids: Sequence[str], embeddings: NDArray[np.float32]) -> None:
        arrow, dims = self._arrow, embeddings.shape[1]
        readable = [one.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace") for one in ids]
        vectors = arrow.FixedSizeListArray.from_arrays(arrow.array(embeddings.reshape(-1)), dims)
        self._file.write_table(arrow.table([arrow.array(readable), vectors], schema=self._schema))
