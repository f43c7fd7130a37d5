"""What a process that was forked from one with an open index and model can do, as a worker of a server is."""

import gc
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from tiny_bundle import picture

from lowclip_runtime import new_shard, session, shared_engine
from lowclip_runtime.clip import LowClip
from lowclip_runtime.errors import IndexFileError
from lowclip_runtime.index import Index

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
_PATIENCE_S = 30.0


@pytest.fixture
def clip(tiny_bundle: Path) -> LowClip:
    """With threads of its own in the sessions, and all of them begun."""
    opened = LowClip.open(tiny_bundle, threads=2)
    opened.embed_images([picture((9, 9, 200))] * 4)
    opened.embed_texts(["göy"])
    opened.embed_texts(["göy", "it"] * 40)
    return opened


@pytest.fixture
def gallery(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    picture((9, 9, 200)).save(folder / "a.png")
    return folder


def in_child(work: Callable[[], object], *, leave: Callable[[], None] = lambda: os._exit(0)) -> None:
    """Do it in a forked process, which must come to its end."""
    child = os.fork()
    if not child:
        try:
            work()
        except BaseException:
            sys.excepthook(*sys.exc_info())
            os._exit(1)
        leave()
    ends = time.monotonic() + _PATIENCE_S
    while time.monotonic() < ends:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            assert status == 0
            return
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    pytest.fail("the child hung")


def test_a_model_embeds_in_a_child_as_in_its_parent(clip: LowClip) -> None:
    photos, texts = [picture((200, 9, 9))] * 4, ["qara it", "göy"] * 20
    images, queries = clip.embed_images(photos), clip.embed_texts(texts)

    def work() -> None:
        np.testing.assert_array_equal(clip.embed_images(photos), images)
        np.testing.assert_array_equal(clip.embed_texts(texts), queries)
        assert len(clip.embed_texts(["yox"])) == 1

    in_child(work)
    work()


def test_an_index_says_in_a_child_that_it_is_the_parents(
    tmp_path: Path, clip: LowClip, gallery: Path
) -> None:
    with Index.open(tmp_path / "i", clip) as index:
        index.add_folder(gallery)
        photo = str(gallery / "a.png")

        def work() -> None:
            for use in (
                lambda: index.search("göy"),
                lambda: index.set_facts({photo: {"who": "Leyla"}}),
                lambda: index.remove([photo]),
                lambda: len(index),
                index.compact,
            ):
                with pytest.raises(
                    IndexFileError, match="was opened by the process that this one was forked from"
                ):
                    use()
            index.close()

        in_child(work)
        with pytest.raises(IndexFileError, match=r"is open in (this|another) process"):
            Index.open(tmp_path / "i", clip)  # the child has closed nothing of its parent's
        assert [hit.path for hit in index.search("göy")] == [photo]


def test_an_index_says_so_also_where_another_thread_was_writing(
    tmp_path: Path, clip: LowClip, gallery: Path
) -> None:
    """That thread is not in the child, which must not wait for it."""
    with Index.open(tmp_path / "i", clip) as index, ThreadPoolExecutor() as threads:
        index.add_folder(gallery)
        writes, forked = threading.Event(), threading.Event()

        def write() -> None:
            with index._shard.writing(), index._shard.updating():
                writes.set()
                assert forked.wait(_PATIENCE_S)

        def work() -> None:
            for change in (
                index.compact,
                lambda: index.remove([gallery / "a.png"]),
                lambda: index.set_facts({str(gallery / "a.png"): {"who": "Leyla"}}),
                lambda: index.add_folder(gallery),
                lambda: index.forget(gallery),
            ):
                with pytest.raises(IndexFileError, match="that this one was forked from"):
                    change()

        writing = threads.submit(write)
        assert writes.wait(_PATIENCE_S)
        try:
            in_child(work)
        finally:
            forked.set()
        writing.result()


@pytest.mark.parametrize("way", ["as it is", "without the index"])
def test_a_child_comes_to_its_end_by_itself(way: str, tmp_path: Path, clip: LowClip) -> None:
    """Libraries wait for their threads when what they have opened is freed."""
    opened = {"index": Index.open(tmp_path / "i", clip)}

    def work() -> None:
        if way == "without the index":
            opened.clear()
            gc.collect()

    def leave() -> None:
        clip.__dict__.clear()  # its sessions are freed as at the end of the interpreter
        gc.collect()
        os._exit(0)

    in_child(work, leave=leave)
    opened["index"].close()


def test_a_child_that_lives_on_holds_nothing_that_its_parent_closes(tmp_path: Path, clip: LowClip) -> None:
    index = Index.open(tmp_path / "i", clip)
    other = multiprocessing.get_context("fork").Process(target=time.sleep, args=(_PATIENCE_S,))
    other.start()
    try:
        index.close()
        Index.open(tmp_path / "i", clip).close()
        assert other.is_alive()
    finally:
        other.kill()
        other.join()


def test_a_child_that_outlives_a_killed_parent_holds_nothing_of_it(tmp_path: Path, clip: LowClip) -> None:
    program = f"""
import os, time
from lowclip_runtime import Index, LowClip

index = Index.open({str(tmp_path / "i")!r}, LowClip.open({str(clip.path)!r}))
if not os.fork():
    print(os.getpid(), flush=True)
    time.sleep({_PATIENCE_S})
    os._exit(0)
os.kill(os.getpid(), 9)
"""
    parent = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    with parent.stdout as told:
        child = int(told.readline())
    assert parent.wait() == -signal.SIGKILL
    try:
        Index.open(tmp_path / "i", clip).close()
    finally:
        os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("where", [new_shard, shared_engine])
def test_a_child_of_the_moment_in_which_an_engine_is_opened_holds_nothing_of_it(
    where: ModuleType, tmp_path: Path, clip: LowClip, gallery: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another thread forked: the index, or a new shard beside the old one, would be locked as long as that child is."""
    load, children = where.load_engine, []

    def load_while_forking(*arguments: Any) -> Any:
        engine = load(*arguments)
        if not (child := os.fork()):
            time.sleep(_PATIENCE_S)
            os._exit(0)
        children.append(child)
        return engine

    with Index.open(tmp_path / "i", clip) as index:
        index.add_folder(gallery)
    del index  # which would close the files of this one, too
    monkeypatch.setattr(where, "load_engine", load_while_forking)
    try:
        Index.open(tmp_path / "i", clip).close()
        with Index.open(tmp_path / "i", clip) as index:
            index.compact()
        with Index.open(tmp_path / "i", clip) as index:
            assert len(index.search("göy")) == 1
    finally:
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    assert children


def test_a_child_keeps_files_of_its_own_beside_those_of_the_index(tmp_path: Path, clip: LowClip) -> None:
    with Index.open(tmp_path / "i", clip), (tmp_path / "i/log").open("w") as log:
        in_child(lambda: print("written", file=log, flush=True))
    assert (tmp_path / "i/log").read_text() == "written\n"


def test_a_child_that_opens_an_index_of_its_own_keeps_it(tmp_path: Path, clip: LowClip) -> None:
    """Also once it has closed its parent's, whose files' numbers its own have now."""
    index = Index.open(tmp_path / "i", clip)

    def work() -> None:
        with Index.open(tmp_path / "own", clip):
            index.close()
            with pytest.raises(IndexFileError, match=r"is open in (this|another) process"):
                Index.open(tmp_path / "own", clip)

    in_child(work)
    index.close()


@pytest.mark.parametrize(
    "under_way", ["a tower that is opened", "a photo that is decoded", "a picture that is read"]
)
def test_a_child_waits_for_nothing_that_another_thread_of_its_parent_does(
    under_way: str, clip: LowClip, gallery: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = LowClip.open(clip.path, threads=2)
    begun, forked = threading.Event(), threading.Event()
    opened = session._open

    def wait() -> None:
        begun.set()
        assert forked.wait(_PATIENCE_S)

    def open_late(*arguments: Any) -> Any:
        wait()
        return opened(*arguments)

    def decode_late() -> None:
        with clip._decode_budget.reserved(clip._decode_budget.total_bytes):
            wait()

    def work() -> None:
        monkeypatch.setattr(session, "_open", opened)
        assert len(clip.embed_images([gallery / "a.png", picture((9, 9, 9))])) == 2
        assert len(clip.embed_texts(["göy"])) == 1

    late_picture = picture((9, 9, 9))
    monkeypatch.setattr(late_picture, "load", wait)
    works: dict[str, Callable[[], object]] = {
        "a tower that is opened": lambda: clip.embed_texts(["it"]),
        "a photo that is decoded": decode_late,
        "a picture that is read": lambda: clip.read_pixels(late_picture),
    }
    if under_way == "a tower that is opened":
        monkeypatch.setattr(session, "_open", open_late)
    with ThreadPoolExecutor() as threads:
        late = threads.submit(works[under_way])
        try:
            assert begun.wait(_PATIENCE_S)
            in_child(work)
        finally:
            forked.set()
        late.result()


def test_an_index_that_is_dropped_is_let_go(tmp_path: Path, clip: LowClip) -> None:
    Index.open(tmp_path / "i", clip)
    gc.collect()
    Index.open(tmp_path / "i", clip).close()
