"""Facts of users, where photos are renumbered, change places or are moved together; galleries in galleries."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_bundle import picture

from lowclip_runtime import forgetting, indexing, kept_facts
from lowclip_runtime.clip import LowClip
from lowclip_runtime.index import Index


@pytest.fixture
def numbered(tmp_path: Path) -> Path:
    """A gallery of four photos, 1.jpg to 4.jpg."""
    folder = tmp_path / "photos"
    (folder / "sub").mkdir(parents=True)
    for number in range(1, 5):
        picture((50 * number, 9, 9)).save(folder / f"{number}.jpg")
    return folder


def said(index: Index, value: str) -> list[str]:
    """The names of the photos of which the user said so."""
    return sorted(Path(hit.path).name for hit in index.search("göy", where={"who": value}))


@pytest.mark.parametrize("batch", [1, 64])
def test_renumbered_photos_keep_what_was_said_of_them(
    tmp_path: Path, tiny_clip: LowClip, numbered: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(indexing, "STORE_BATCH", batch)  # each is stored before the next one is looked up
    monkeypatch.setattr(indexing, "BATCH_SIZE", batch)
    with Index.open(tmp_path / "i", tiny_clip) as index:
        index.add_folder(numbered)
        index.set_facts({str(numbered / f"{number}.jpg"): {"who": f"w{number}"} for number in (1, 2, 4)})
        for number in (4, 3, 2, 1):
            (numbered / f"{number}.jpg").rename(numbered / f"{number + 1}.jpg")
        index.add_folder(numbered)
        assert [said(index, f"w{number}") for number in (1, 2, 4)] == [["2.jpg"], ["3.jpg"], ["5.jpg"]]
        assert index.search("göy", where={"who": "w3"}) == []
        assert sum(bool(hit.payload.get("who")) for hit in index.search("göy")) == 3


def test_two_photos_that_change_places_change_facts(
    tmp_path: Path, tiny_clip: LowClip, numbered: Path
) -> None:
    with Index.open(tmp_path / "i", tiny_clip) as index:
        index.add_folder(numbered)
        index.set_facts({str(numbered / f"{number}.jpg"): {"who": f"w{number}"} for number in (1, 2)})
        (numbered / "1.jpg").rename(numbered / "aside")
        (numbered / "2.jpg").rename(numbered / "1.jpg")
        (numbered / "aside").rename(numbered / "2.jpg")
        index.add_folder(numbered)
        assert (said(index, "w1"), said(index, "w2")) == (["2.jpg"], ["1.jpg"])


def test_what_is_overwritten_with_another_photo_is_that_photo(
    tmp_path: Path, tiny_clip: LowClip, numbered: Path
) -> None:
    with Index.open(tmp_path / "i", tiny_clip) as index:
        index.add_folder(numbered)
        index.set_facts({str(numbered / "1.jpg"): {"who": "w1"}})
        (numbered / "1.jpg").write_bytes((numbered / "2.jpg").read_bytes())
        index.add_folder(numbered)
        assert said(index, "w1") == []


@pytest.mark.parametrize("batch", [1, 64])
def test_copies_that_are_edited_alike_keep_their_facts(
    tmp_path: Path, tiny_clip: LowClip, numbered: Path, monkeypatch: pytest.MonkeyPatch, batch: int
) -> None:
    monkeypatch.setattr(indexing, "STORE_BATCH", batch)
    monkeypatch.setattr(indexing, "BATCH_SIZE", batch)
    (numbered / "2.jpg").write_bytes((numbered / "1.jpg").read_bytes())
    with Index.open(tmp_path / "i", tiny_clip) as index:
        index.add_folder(numbered)
        index.set_facts({str(numbered / f"{number}.jpg"): {"who": f"w{number}"} for number in (1, 2)})
        for name in ("0.jpg", "1.jpg", "2.jpg"):  # and the edited photo is exported once more
            picture((1, 2, 3)).save(numbered / name)
        index.add_folder(numbered)
        assert (said(index, "w1"), said(index, "w2")) == (["1.jpg"], ["2.jpg"])


def test_what_is_said_while_the_folder_is_added_stays(
    tmp_path: Path, tiny_clip: LowClip, numbered: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexing, "STORE_BATCH", 1)

    def say(done: int, total: int) -> None:
        if done == 1:
            index.set_facts({str(numbered / "4.jpg"): {"who": "w4"}, str(numbered / "3.jpg"): {"who": "new"}})

    with Index.open(tmp_path / "i", tiny_clip) as index:
        index.add_folder(numbered)
        index.set_facts({str(numbered / "3.jpg"): {"who": "old", "where": "x"}})
        for number in range(1, 5):
            picture((7, 7, 50 * number)).save(numbered / f"{number}.jpg")
        index.add_folder(numbered, progress=say)
        assert (said(index, "w4"), said(index, "new"), said(index, "old")) == (["4.jpg"], ["3.jpg"], [])
        assert len(index.search("göy", where={"where": "x"})) == 1


def test_photos_of_one_content_keep_their_facts_by_their_names(
    tmp_path: Path, tiny_clip: LowClip, numbered: Path
) -> None:
    with Index.open(tmp_path / "i", tiny_clip) as index:
        for name in "abc":
            (numbered / "sub" / f"{name}.jpg").write_bytes((numbered / "1.jpg").read_bytes())
        index.add_folder(numbered)
        index.set_facts({str(numbered / "sub" / f"{name}.jpg"): {"who": name} for name in "abc"})
        (numbered / "sub").rename(numbered / "moved")
        index.add_folder(numbered)
        assert [said(index, name) for name in "abc"] == [["a.jpg"], ["b.jpg"], ["c.jpg"]]


def test_a_photo_with_a_new_time_keeps_its_facts_though_a_copy_is_read_first(
    tmp_path: Path, tiny_clip: LowClip, numbered: Path
) -> None:
    with Index.open(tmp_path / "i", tiny_clip) as index:
        index.add_folder(numbered)
        index.set_facts({str(numbered / "4.jpg"): {"who": "w4"}})
        (numbered / "0.jpg").write_bytes((numbered / "4.jpg").read_bytes())
        os.utime(numbered / "4.jpg", ns=(1, 1))
        index.add_folder(numbered)
        assert "4.jpg" in said(index, "w4")


def test_a_photo_with_a_new_time_takes_no_facts_of_a_copy_that_was_moved(
    tmp_path: Path, tiny_clip: LowClip, numbered: Path
) -> None:
    (numbered / "1.jpg").write_bytes((numbered / "4.jpg").read_bytes())
    with Index.open(tmp_path / "i", tiny_clip) as index:
        index.add_folder(numbered)
        index.set_facts({str(numbered / "4.jpg"): {"who": "w4"}})
        (numbered / "4.jpg").rename(numbered / "5.jpg")
        os.utime(numbered / "1.jpg", ns=(1, 1))
        index.add_folder(numbered)
        assert said(index, "w4") == ["5.jpg"]


def test_facts_of_a_photo_that_is_gone_are_taken_before_those_of_one_with_a_new_time(
    tmp_path: Path, tiny_clip: LowClip, numbered: Path
) -> None:
    copies = [numbered / f"sub/{number}.jpg" for number in range(8)]
    with Index.open(tmp_path / "i", tiny_clip) as index:
        for copy in copies:
            copy.write_bytes((numbered / "4.jpg").read_bytes())
        index.add_folder(numbered)
        index.set_facts({str(copy): {"who": copy.stem} for copy in copies})
        copies[0].rename(numbered / "moved.jpg")
        for copy in copies[1:]:
            os.utime(copy, ns=(1, 1))
        index.add_folder(numbered)
        assert said(index, "0") == ["moved.jpg"]
        assert [said(index, copy.stem) for copy in copies[1:]] == [[copy.name] for copy in copies[1:]]


@pytest.mark.parametrize("inner_first", [True, False])
def test_photos_of_a_gallery_within_a_gallery_get_its_albums(
    tmp_path: Path, tiny_clip: LowClip, numbered: Path, inner_first: bool
) -> None:
    with Index.open(tmp_path / "i", tiny_clip) as index:
        for name in ("1.jpg", "2.jpg"):
            if not inner_first:
                index.add_folder(numbered)
            (numbered / name).rename(numbered / "sub" / name)
            index.add_folder(numbered / "sub")
        assert index.add_folder(numbered).added == (2 if inner_first else 0)
        found = index.search("göy", where={"album": "sub"})
        assert sorted(Path(hit.path).name for hit in found) == ["1.jpg", "2.jpg"]
        assert len(index) == 4
        assert index.add_folder(numbered / "sub").unchanged == 2
        assert index.add_folder(numbered).unchanged == 4


def test_a_hidden_gallery_outlives_that_of_the_folder_above(
    tmp_path: Path, tiny_clip: LowClip, numbered: Path
) -> None:
    hidden = numbered / ".private"
    hidden.mkdir()
    (numbered / "4.jpg").rename(hidden / "4.jpg")
    (numbered / "3.jpg").rename(hidden / "3.jpg")
    with Index.open(tmp_path / "i", tiny_clip) as index:
        index.add_folder(hidden)
        assert index.add_folder(numbered).removed == 0
        assert len(index) == 4
        (hidden / "4.jpg").unlink()
        assert index.add_folder(hidden).removed == 1


def test_a_gallery_that_was_moved_and_forgotten_keeps_its_facts(
    tmp_path: Path, tiny_clip: LowClip, numbered: Path
) -> None:
    (numbered / "sub/4.jpg").write_bytes((numbered / "4.jpg").read_bytes())  # a copy of which nothing is said
    with Index.open(tmp_path / "i", tiny_clip) as index:
        index.add_folder(numbered)
        facts = {str(numbered / f"{number}.jpg"): {"who": f"w{number}", "n": number} for number in (1, 2, 4)}
        index.set_facts(facts)
        moved = numbered.rename(tmp_path / "moved")
        (moved / "1.jpg").rename(moved / "renamed.jpg")
        index.add_folder(moved)
        index.set_facts({str(moved / "2.jpg"): {"who": "said anew"}})
        assert index.forget(numbered) == 5
        assert [said(index, f"w{number}") for number in (1, 2, 4)] == [["renamed.jpg"], [], ["4.jpg"]]
        (second,) = index.search("göy", where={"who": "said anew"})
        assert (second.path, second.payload["n"]) == (str(moved.resolve() / "2.jpg"), 2)
        with_facts = [hit.path for hit in index.search("göy", 20) if "who" in hit.payload]
        assert len(with_facts) == 3 and len(index) == 5


def test_copies_of_one_name_keep_their_facts_by_their_folders(tmp_path: Path, tiny_clip: LowClip) -> None:
    folders = [str(number) for number in range(8)]
    for folder in folders:
        (tmp_path / "photos" / folder).mkdir(parents=True)
        picture((9, 9, 200)).save(tmp_path / "photos" / folder / "cover.jpg")
    with Index.open(tmp_path / "i", tiny_clip) as index:
        index.add_folder(tmp_path / "photos")
        index.set_facts({str(tmp_path / "photos" / one / "cover.jpg"): {"who": one} for one in folders})
        moved = (tmp_path / "photos").rename(tmp_path / "moved")
        index.add_folder(moved)
        assert index.forget(tmp_path / "photos") == 8
        albums = {hit.payload["album"][0]: hit.payload["who"] for hit in index.search("göy", k=20)}
        assert albums == {folder: folder for folder in folders}


def test_many_copies_of_one_photo_are_not_all_looked_at_for_each(
    tmp_path: Path, tiny_clip: LowClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked: list[object] = []

    def counted(of: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *given: (looked.append(given), of(*given))[1]

    monkeypatch.setattr(kept_facts, "PurePosixPath", counted(kept_facts.PurePosixPath))
    monkeypatch.setattr(forgetting, "_alike", counted(forgetting._alike))
    photos = tmp_path / "photos"
    (photos / "a").mkdir(parents=True)
    picture((9, 9, 200)).save(photos / "a/0.png")
    for number in range(1, 100):
        shutil.copy(photos / "a/0.png", photos / f"a/{number}.png")
    with Index.open(tmp_path / "i", tiny_clip) as index:
        index.add_folder(photos)
        index.set_facts({str(photos / f"a/{number}.png"): {"nr": number} for number in range(100)})
        (photos / "a").rename(photos / "b")
        assert index.add_folder(photos).removed == 100
        moved = photos.rename(tmp_path / "moved")
        index.add_folder(moved)
        assert index.forget(photos) == 100
        assert {int(Path(hit.path).stem) - hit.payload["nr"] for hit in index.search("göy", 100)} == {0}
    assert len(looked) <= 5 * 100  # 100 × 100 if each were compared with each


def test_a_folder_that_is_given_up_leaves_no_facts_where_there_is_no_copy(
    tmp_path: Path, tiny_clip: LowClip, numbered: Path
) -> None:
    (numbered / "4.jpg").rename(numbered / "sub/4.jpg")
    with Index.open(tmp_path / "i", tiny_clip) as index:
        index.add_folder(numbered)
        index.set_facts({str(numbered / "sub/4.jpg"): {"who": "w4"}})
        assert index.forget(numbered / "sub") == 1
        assert said(index, "w4") == [] and len(index) == 3
