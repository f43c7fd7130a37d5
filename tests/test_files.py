"""Files and folders that exist whole or not at all."""

import hashlib
from pathlib import Path

import pytest

from lowclip_runtime.files import sha256_of, whole_file, whole_folder


class CrashError(Exception):
    """What the block under test dies of."""


def names(folder: Path) -> list[str]:
    """Everything below `folder`, hidden or not."""
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_sha256_is_that_of_the_content(tmp_path: Path) -> None:
    content = bytes(range(256)) * 5000
    (tmp_path / "a").write_bytes(content)
    assert sha256_of(tmp_path / "a") == hashlib.sha256(content).hexdigest()


def test_folder_appears_whole_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "out"
    with whole_folder(target) as work:
        (work / "sub").mkdir()
        (work / "sub/a").write_text("1")
        assert not target.exists()
    assert names(tmp_path / "deep") == ["out", "out/sub", "out/sub/a"]
    assert target.stat().st_mode & 0o777 == 0o755


def test_crash_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(CrashError), whole_folder(tmp_path / "out") as work:
        (work / "a").write_text("1")
        raise CrashError
    assert names(tmp_path) == []


def test_existing_folder_is_refused_untouched(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/old").write_text("1")
    with pytest.raises(FileExistsError, match="--overwrite"), whole_folder(tmp_path / "out"):
        pytest.fail("the block must not run")
    assert names(tmp_path) == ["out", "out/old"]


def test_overwrite_replaces_the_whole_folder(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/old").write_text("1")
    with whole_folder(tmp_path / "out", overwrite=True) as work:
        (work / "new").write_text("2")
    assert names(tmp_path) == ["out", "out/new"]


def test_crash_while_overwriting_keeps_the_old_folder(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out/old").write_text("1")
    with pytest.raises(CrashError), whole_folder(tmp_path / "out", overwrite=True) as work:
        (work / "new").write_text("2")
        raise CrashError
    assert names(tmp_path) == ["out", "out/old"]


def test_file_replaces_the_old_one_at_the_end(tmp_path: Path) -> None:
    target = tmp_path / "a.npy"
    target.write_text("old")
    with whole_file(target) as work:
        assert work.suffix == ".npy"
        work.write_text("new")
        assert target.read_text() == "old"
    assert target.read_text() == "new"
    assert names(tmp_path) == ["a.npy"]


def test_crash_keeps_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(CrashError), whole_file(target) as work:
        work.write_text("half")
        raise CrashError
    assert target.read_text() == "old"
    assert names(tmp_path) == ["a.txt"]
