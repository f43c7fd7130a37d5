"""Files and folders that exist whole or not at all."""

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lowclip_runtime.errors import InputError
from lowclip_runtime.files import bytes_on_disk, check_file_target, sha256_of, whole_file, whole_folder

ROOT = Path(__file__).resolve().parents[1]


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


@pytest.mark.parametrize("target", [".", ".."])
def test_the_folder_one_is_in_is_replaced_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str
) -> None:
    (tmp_path / "out/below").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "out" / ("below" if target == ".." else ""))
    with whole_folder(target, overwrite=True) as work:
        (work / "new").write_text("2")
        assert work.parent == tmp_path
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


def test_a_target_that_cannot_be_written_is_refused_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("a file")
    for target, reason in ((tmp_path, "is a folder"), (tmp_path / "file/b/out", "file is not a folder")):
        with pytest.raises(InputError, match=reason):
            check_file_target(target)
    monkeypatch.chdir(tmp_path)
    for good in ("out", "file", "new/folder/out", tmp_path / "out"):  # `whole_file` makes the folders
        check_file_target(good)
    monkeypatch.setattr(os, "access", lambda path, _mode: path != tmp_path)
    with pytest.raises(InputError, match=f"^new/out cannot be written, as {tmp_path} is closed to you"):
        check_file_target("new/out")


def test_modes_are_those_that_the_umask_gives(tmp_path: Path) -> None:
    for umask, folder_mode, file_mode in (
        (0o022, 0o755, 0o644),
        (0o077, 0o700, 0o600),
        (0o002, 0o775, 0o664),
    ):
        before = os.umask(umask)
        try:
            with whole_folder(tmp_path / f"{umask}") as work:
                (work / "a").write_text("1")
            with whole_file(tmp_path / f"{umask}.txt") as work:
                work.write_text("1")
        finally:
            os.umask(before)
        modes = [
            (tmp_path / name).stat().st_mode & 0o777 for name in (f"{umask}", f"{umask}/a", f"{umask}.txt")
        ]
        assert modes == [folder_mode, file_mode, file_mode]


def test_an_error_without_a_name_gets_the_targets(tmp_path: Path) -> None:
    for writer in (whole_folder, whole_file):
        with pytest.raises(OSError) as caught, writer(tmp_path / "out"):
            raise OSError(errno.ENOSPC, "No space left on device")
        assert caught.value.filename == str(tmp_path / "out")
    assert names(tmp_path) == []


def test_files_that_come_and_go_meanwhile_are_no_error(tmp_path: Path) -> None:
    (tmp_path / "stays").write_bytes(b"x" * 8192)
    alone, stop = bytes_on_disk(tmp_path), threading.Event()

    def come_and_go() -> None:
        while not stop.is_set():
            (tmp_path / "folder").mkdir()
            for name in "abc":
                (tmp_path / "folder" / name).touch()
            shutil.rmtree(tmp_path / "folder")

    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(come_and_go)
        try:
            assert {bytes_on_disk(tmp_path) for _ in range(500)} == {alone}
        finally:
            stop.set()
        done.result()


def test_a_target_made_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    target = tmp_path / "out"
    with pytest.raises(FileExistsError, match="--overwrite"), whole_folder(target) as work:
        (work / "a").write_text("mine")
        target.mkdir()
        (target / "a").write_text("theirs")
    assert (target / "a").read_text() == "theirs"
    assert names(tmp_path) == ["out", "out/a"]


def test_a_link_is_replaced_and_not_what_it_points_to(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/a").write_text("old")
    (tmp_path / "out").symlink_to("elsewhere")
    with whole_folder(tmp_path / "out", overwrite=True) as work:
        (work / "a").write_text("new")
    assert (tmp_path / "elsewhere/a").read_text() == "old"
    assert names(tmp_path) == ["elsewhere", "elsewhere/a", "out", "out/a"]


# Writes OUT again and again, each time in a child that is killed one file operation later than the last one, and
# prints what stands there after each kill. SWAP 0: as on a file system that cannot exchange two names.
KILLED_EVERYWHERE = """
import os, signal, sys
from pathlib import Path
from lowclip_runtime import files

out, old, swap = Path(sys.argv[1]), sys.argv[2] == "old", sys.argv[3] == "1"
if not swap:
    files._exchange = lambda one, other: False

def write(content):
    with files.whole_folder(out, overwrite=True) as work:
        (work / "sub").mkdir()
        (work / "sub/a").write_text(content)
        (work / "b").write_text(content)

def killed_at(step):
    seen = 0
    def hook(event, arguments):
        nonlocal seen
        if event == "open" or event.startswith(("os.", "shutil.", "ctypes.")):
            seen += 1
            if seen == step:
                os.kill(os.getpid(), signal.SIGKILL)
    sys.addaudithook(hook)

step, status = 0, -1
while status != 0:
    step += 1
    if old:
        write("old")
    elif out.exists():
        files._remove(out)
    child = os.fork()
    if child == 0:
        killed_at(step)
        write("new")
        os._exit(0)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    there = {p.relative_to(out).as_posix(): p.read_text() for p in out.rglob("*") if p.is_file()}
    print(status, *sorted(f"{name}={content}" for name, content in there.items()), flush=True)
"""


@pytest.mark.parametrize("swap", [True, False])
@pytest.mark.parametrize("before", ["old", "nothing"])
def test_killed_at_any_moment_there_is_the_old_folder_or_the_new(
    tmp_path: Path, before: str, swap: bool
) -> None:
    command = [sys.executable, "-c", KILLED_EVERYWHERE, str(tmp_path / "out"), before, "01"[swap]]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    *killed, finished = result.stdout.splitlines()
    states = [line.split()[1:] for line in killed]
    old, new = ["b=old", "sub/a=old"], ["b=new", "sub/a=new"]
    allowed = [old if before == "old" else [], new]
    if before == "old" and not swap:
        allowed.append([])  # between two renames; the next writer puts the old one back, see below
    assert len(killed) > 10 and all(line.split()[0] == "-9" for line in killed)
    assert all(state in allowed for state in states), states
    assert states[0] == allowed[0] and states[-1] == new  # kills before and after the rename were among them
    assert finished.split() == ["0", *new]
    assert names(tmp_path) == [
        "out",
        "out/b",
        "out/sub",
        "out/sub/a",
    ]  # nothing is left of all the killed ones


def test_a_folder_that_a_kill_left_aside_is_put_back(tmp_path: Path) -> None:
    aside = tmp_path / ".out.lowclip-0123abcd.old"
    (aside / "out").mkdir(parents=True)
    (aside / "out/a").write_text("old")
    with pytest.raises(FileExistsError), whole_folder(tmp_path / "out"):
        pytest.fail("the old folder is back, so there is nothing to write")
    assert names(tmp_path) == ["out", "out/a"]


def test_only_what_dead_writers_of_this_target_left_is_removed(tmp_path: Path) -> None:
    for folder in (".out.lowclip-0123abcd.tmp", ".outer.lowclip-0123abcd.tmp", ".out.mine.tmp"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a").write_text("1")
    for file in (".a.txt.lowclip-0123abcd.txt", ".a.txt.backup12.txt"):
        (tmp_path / file).write_text("half")
    with whole_folder(tmp_path / "out") as live, whole_file(tmp_path / "a.txt") as live_file:
        (live / "first").write_text("1")
        live_file.write_text("first")
        with whole_folder(tmp_path / "out") as work, whole_file(tmp_path / "a.txt") as other:
            assert live.is_dir() and live_file.is_file()  # another writer of the same names leaves them alone
            (work / "second").write_text("2")
            other.write_text("second")
        shutil.rmtree(tmp_path / "out")
    left = [name for name in names(tmp_path) if "/" not in name]
    assert left == [".a.txt.backup12.txt", ".out.mine.tmp", ".outer.lowclip-0123abcd.tmp", "a.txt", "out"]
    assert names(tmp_path / "out") == ["first"]
    assert (tmp_path / "a.txt").read_text() == "first"
