"""One index and one model used by several threads, signals that come in between, and objects that callers use again."""

import io
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import qdrant_edge
from PIL import Image, ImageSequence
from tiny_bundle import COLOURS, picture
from tiny_pictures import encoded

from lowclip_runtime import clip as clip_module
from lowclip_runtime import indexing, shared_engine
from lowclip_runtime.clip import LowClip
from lowclip_runtime.errors import IndexFileError, InputError, TextError
from lowclip_runtime.index import Index
from lowclip_runtime.shard import Shard


@pytest.fixture
def gallery(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("a", "b"):
        picture((9, 9, 200 if name == "a" else 100)).save(folder / f"{name}.png")
    return folder


def who(index: Index, photo: Path) -> object:
    (payload,) = (hit.payload for hit in index.search("göy") if hit.path == str(photo))
    return payload.get("who")


def test_what_is_said_while_a_photo_is_stored_anew_is_kept(
    tmp_path: Path, tiny_clip: LowClip, gallery: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Facts that another thread gives between the reading of what is replaced and its replacement."""
    photo = gallery / "a.png"
    with Index.open(tmp_path / "i", tiny_clip) as index, ThreadPoolExecutor() as threads:
        index.add_folder(gallery)
        picture((9, 99, 9)).save(photo)
        told = []
        upsert = Shard.upsert

        def late(shard: Shard, points: Any) -> None:
            told.append(threads.submit(index.set_facts, {str(photo): {"who": "Leyla"}}))
            threading.Event().wait(0.2)
            upsert(shard, points)

        monkeypatch.setattr(Shard, "upsert", late)
        assert index.add_folder(gallery).updated == 1
        assert [one.result() for one in told] == [1]
        assert who(index, photo) == "Leyla"


def test_what_is_said_of_a_photo_by_its_old_name_moves_with_it(
    tmp_path: Path, tiny_clip: LowClip, gallery: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = gallery / "a.png", gallery / "c.png"
    with Index.open(tmp_path / "i", tiny_clip) as index:
        index.add_folder(gallery)
        old.rename(new)
        remove_gone = indexing._GalleryUpdate.remove_gone

        def late(update: Any) -> None:
            assert index.set_facts({str(old): {"who": "Leyla"}}) == 1
            remove_gone(update)

        monkeypatch.setattr(indexing._GalleryUpdate, "remove_gone", late)
        index.add_folder(gallery)
        assert who(index, new) == "Leyla"
        assert index.set_facts({str(old): {"who": "Leyla"}}) == 0


@pytest.mark.parametrize("first", ["add_folder", "forget"])
def test_a_folder_is_added_by_what_others_have_made_of_it(
    first: str, tmp_path: Path, tiny_clip: LowClip, gallery: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two requests to a server at once, one of which has looked at the index before the other is done."""
    with Index.open(tmp_path / "i", tiny_clip) as index, ThreadPoolExecutor() as threads:
        index.add_folder(gallery)
        (gallery / "a.png").rename(gallery / "c.png")
        known, others, told = indexing._known, [], []

        def late(*arguments: Any) -> Any:
            seen = known(*arguments)
            if not others:
                others.append(threads.submit(getattr(index, first), gallery))
                wait(others, timeout=0.5)
                told.append(index.set_facts({str(gallery / "c.png"): {"who": "Leyla"}}))
            return seen

        monkeypatch.setattr(indexing, "_known", late)
        report = index.add_folder(gallery)
        assert (report.added, report.removed, report.unchanged) == (1, 1, 1)
        if first == "forget":
            assert (others[0].result(), len(index)) == (2, 0)
        else:
            assert (others[0].result().unchanged, len(index)) == (2, 2)
            assert told == [0] or who(index, gallery / "c.png") == "Leyla"


def test_a_signal_in_the_midst_of_a_search_keeps_nobody_waiting(
    tmp_path: Path, tiny_clip: LowClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(BaseException):
        pass

    def interrupted(*_: object, **__: object) -> None:
        raise Interrupted

    with Index.open(tmp_path / "i", tiny_clip) as index:
        engine = index._shard._engine
        for broken in ("wait_for", "notify_all"):
            with monkeypatch.context() as patch:
                patch.setattr(engine._turn, broken, interrupted)
                with pytest.raises(Interrupted):
                    index.search("it")
        assert not engine._asking
        index.compact()
        load = qdrant_edge.EdgeShard.load
        with monkeypatch.context() as patch:
            patch.setattr("lowclip_runtime.shared_engine.load_engine", interrupted)
            with pytest.raises(Interrupted), engine.reopened():
                pass
        assert load is qdrant_edge.EdgeShard.load
        assert index.search("it") == []  # it is opened by whoever asks next


def test_who_waits_while_an_index_is_opened_anew_is_answered_though_that_fails(
    tmp_path: Path, tiny_clip: LowClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, asked, answered = shared_engine.load_engine, threading.Event(), threading.Event()
    failed: list[Path] = []

    def fail_once(path: Path, config: Any = None) -> qdrant_edge.EdgeShard:
        if not failed:
            failed.append(path)
            raise Exception("Too many open files")
        return load(path, config)

    def ask_slowly(_: object) -> None:
        asked.set()
        answered.wait()

    with Index.open(tmp_path / "i", tiny_clip) as index, ThreadPoolExecutor() as threads:
        engine = index._shard._engine
        slow = threads.submit(engine.ask, ask_slowly)
        asked.wait()
        monkeypatch.setattr(shared_engine, "load_engine", fail_once)

        def open_anew() -> None:
            with pytest.raises(IndexFileError, match="may open no more files"), engine.reopened():
                pass

        reopening = threads.submit(open_anew)
        while not engine._is_closing:
            threading.Event().wait(0.01)
        search = threads.submit(index.search, "it")
        threading.Event().wait(0.2)  # it waits as well
        answered.set()
        for one in (slow, reopening):
            one.result()
        assert search.result() == []


def test_an_index_that_was_closed_after_it_could_not_be_opened_anew_says_so(
    tmp_path: Path, tiny_clip: LowClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise Exception("Too many open files")

    with Index.open(tmp_path / "i", tiny_clip) as index:
        monkeypatch.setattr(shared_engine, "load_engine", fail)
        with pytest.raises(IndexFileError, match="may open no more files"), index._shard._engine.reopened():
            pass
    with pytest.raises(IndexFileError, match="is closed; open it again"):
        index.search("it")


def test_closing_by_several_threads_closes_once(tmp_path: Path, tiny_clip: LowClip) -> None:
    with ThreadPoolExecutor(8) as threads:
        for _ in range(20):
            index = Index.open(tmp_path / "i", tiny_clip)
            for done in [threads.submit(index.close) for _ in range(8)]:
                done.result()


def test_frames_of_an_animation_are_embedded_as_they_come(tiny_clip: LowClip) -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in COLOURS.values()]
    animation = encoded(frames[0], "WEBP", save_all=True, append_images=frames[1:], lossless=True)
    alone = tiny_clip.embed_images(frames)
    with Image.open(io.BytesIO(animation)) as opened:
        np.testing.assert_allclose(tiny_clip.embed_images(ImageSequence.Iterator(opened)), alone, atol=1e-5)


def test_a_buffer_may_be_filled_again_for_the_next_image(tiny_clip: LowClip) -> None:
    def filled() -> Iterator[np.ndarray[Any, np.dtype[np.uint8]]]:
        buffer = np.empty((20, 20, 3), np.uint8)
        for colour in COLOURS.values():
            buffer[:] = colour
            yield buffer

    alone = tiny_clip.embed_images([np.full((20, 20, 3), colour, np.uint8) for colour in COLOURS.values()])
    np.testing.assert_allclose(tiny_clip.embed_images(filled()), alone, atol=1e-5)


def test_an_image_that_is_not_read_yet_may_be_given_twice(tiny_clip: LowClip, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (700, 700, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    alone = tiny_clip.embed_images([tmp_path / "a.png"])[0]
    with ThreadPoolExecutor(4) as threads:
        for _ in range(5):
            with Image.open(tmp_path / "a.png") as lazy:
                found = [threads.submit(tiny_clip.embed_images, [lazy, lazy]) for _ in range(4)]
                for one in found:
                    np.testing.assert_allclose(one.result(), [alone, alone], atol=1e-5)


def test_only_texts_that_people_may_type_are_remembered(tiny_clip: LowClip) -> None:
    longest = clip_module._LONGEST_REMEMBERED
    clip = LowClip.open(tiny_clip.path)
    for text in ("it", "it " * longest, "göy"):
        clip.embed_texts([text])
    assert clip._remembered.cache_info().currsize == 2  # type: ignore[attr-defined]


class Person(str, Enum):  # noqa: UP042 which writes itself Person.LEYLA, a StrEnum does not
    LEYLA = "Leyla"


def test_a_filter_takes_what_a_fact_takes(tmp_path: Path, tiny_clip: LowClip, gallery: Path) -> None:
    with Index.open(tmp_path / "i", tiny_clip) as index:
        index.add_folder(gallery)
        index.set_facts({str(gallery / "a.png"): {"who": Person.LEYLA, "stars": 2}})
        for where in ({"who": Person.LEYLA}, {"who": "Leyla"}, {"stars": range(3)}, {"stars": {2}}):
            assert len(index.search("it", where=where)) == 1
        assert index.search("it", where={"stars": range(2)}) == []
        index.set_facts({str(gallery / "a.png"): {"year": np.int16(2024)}})
        for year in (2024, np.int64(2024), [np.uint16(2024)]):
            assert len(index.search("it", where={"year": year})) == 1


def test_scores_of_an_embedding_of_any_length_are_cosines(
    tmp_path: Path, tiny_clip: LowClip, gallery: Path
) -> None:
    with Index.open(tmp_path / "i", tiny_clip) as index:
        index.add_folder(gallery)
        embedding = tiny_clip.embed_texts(["göy"])[0]
        expected = [hit.score for hit in index.search_embedding(embedding)]
        for length in (0.01, 7.0):
            found = [hit.score for hit in index.search_embedding(embedding * length)]
            assert found == pytest.approx(expected, abs=1e-5)


def test_what_is_no_path_and_no_text_is_refused(tmp_path: Path, tiny_clip: LowClip) -> None:
    with Index.open(tmp_path / "i", tiny_clip) as index:
        for path in (b"a.png", None, 1):
            with pytest.raises(InputError, match="a photo must be a path, not"):
                index.remove([path])  # type: ignore[list-item]
            with pytest.raises(InputError, match="a photo must be a path, not"):
                index.set_facts({path: {"who": "Leyla"}})  # type: ignore[dict-item]
    with pytest.raises(TextError, match="wants a list of texts, not NoneType"):
        tiny_clip.embed_texts(None)  # type: ignore[arg-type]
    with (
        (tmp_path / "a.png").open("w+b") as file,
        pytest.raises(InputError, match=r"write \[image\], not one"),
    ):
        tiny_clip.embed_images(file)
    for place in ("/dev/null/x", "a\0b"):
        with pytest.raises(Exception, match="name another") as refused:
            Index.open(place, tiny_clip)
        assert type(refused.value).__name__ == "IndexFileError"


def test_hits_can_be_put_into_sets(tmp_path: Path, tiny_clip: LowClip, gallery: Path) -> None:
    with Index.open(tmp_path / "i", tiny_clip) as index:
        index.add_folder(gallery)
        hits = index.search("göy")
        assert {*hits, *index.search("göy")} == set(hits) and len(set(hits)) == 2


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="this system does not tell what is open")
def test_an_index_that_is_opened_twice_says_that_it_is_open_here(tmp_path: Path, tiny_clip: LowClip) -> None:
    """And sends nobody to look for another process that there is not."""
    (tmp_path / "link").symlink_to(tmp_path / "i")
    with Index.open(tmp_path / "i", tiny_clip):
        for name in ("i", "link"):
            with pytest.raises(IndexFileError, match="is open in this process already; use that one, which"):
                Index.open(tmp_path / name, tiny_clip)
