"""Facts of users, where `lowclip index` is killed while photos that were renumbered are stored over each other."""

import contextlib
import random
from pathlib import Path

import pytest
from test_kept_facts import numbered as numbered
from test_kept_facts import said
from tiny_bundle import picture

from lowclip_runtime import indexing
from lowclip_runtime.clip import LowClip
from lowclip_runtime.errors import IndexFileError
from lowclip_runtime.index import Index
from lowclip_runtime.indexing import Progress


class KilledError(Exception):
    """Stands for a kill between two batches, each of which is safe on the disk."""


def killed_after(batches: int) -> Progress:
    def progress(done: int, _total: int) -> None:
        if done == batches:
            raise KilledError

    return progress


@pytest.fixture
def one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each photo is stored before the next one is looked up."""
    monkeypatch.setattr(indexing, "STORE_BATCH", 1)
    monkeypatch.setattr(indexing, "BATCH_SIZE", 1)


@pytest.mark.usefixtures("one_by_one")
@pytest.mark.parametrize("stored", range(6))
def test_renumbered_photos_keep_their_facts_through_kills(
    tmp_path: Path, tiny_clip: LowClip, numbered: Path, stored: int
) -> None:
    picture((9, 9, 250)).save(numbered / "5.jpg")
    other = tmp_path / "other"
    other.mkdir()
    picture((9, 99, 9)).save(other / "9.jpg")
    path = tmp_path / "i"
    with Index.open(path, tiny_clip) as index:
        index.add_folder(numbered)
        index.add_folder(other)
        facts = {str(numbered / f"{number}.jpg"): {"who": f"w{number}"} for number in range(1, 6)}
        index.set_facts({**facts, str(other / "9.jpg"): {"who": "w9"}})
    for number in range(5, 0, -1):
        (numbered / f"{number}.jpg").rename(numbered / f"{number + 1}.jpg")
    with Index.open(path, tiny_clip) as index, pytest.raises(KilledError):
        index.add_folder(numbered, progress=killed_after(stored))
    picture((9, 100, 9)).save(other / "9.jpg")
    with Index.open(path, tiny_clip) as index:
        index.add_folder(other)  # leaves alone what the killed run was about
    with Index.open(path, tiny_clip) as index, pytest.raises(KilledError):
        index.add_folder(numbered, progress=killed_after(min(1, 5 - stored)))
    with Index.open(path, tiny_clip) as index:
        index.add_folder(numbered)
        found = [said(index, f"w{number}") for number in (*range(1, 6), 9)]
        assert found == [["2.jpg"], ["3.jpg"], ["4.jpg"], ["5.jpg"], ["6.jpg"], ["9.jpg"]]
    assert sorted(one.name for one in path.iterdir()) == ["index.json", "shard"]


@pytest.mark.usefixtures("one_by_one")
@pytest.mark.parametrize("stored", range(5))
def test_a_folder_that_a_killed_run_left_is_forgotten_but_not_its_facts(
    tmp_path: Path, tiny_clip: LowClip, numbered: Path, stored: int
) -> None:
    """What it overwrote and did not store again is said of the copies, and nothing of it is left."""
    path, moved = tmp_path / "i", tmp_path / "moved"
    with Index.open(path, tiny_clip) as index:
        index.add_folder(numbered)
        index.set_facts({str(numbered / f"{number}.jpg"): {"who": f"w{number}"} for number in range(1, 5)})
    for number in range(4, 0, -1):
        (numbered / f"{number}.jpg").rename(numbered / f"{number + 1}.jpg")
    with Index.open(path, tiny_clip) as index, pytest.raises(KilledError):
        index.add_folder(numbered, progress=killed_after(stored))
    numbered.rename(moved)
    with Index.open(path, tiny_clip) as index:
        index.add_folder(moved)
        index.forget(numbered)
        assert [said(index, f"w{number}") for number in range(1, 5)] == [
            ["2.jpg"], ["3.jpg"], ["4.jpg"], ["5.jpg"]
        ]  # fmt: skip
        assert len(index) == 4
    assert sorted(one.name for one in path.iterdir()) == ["index.json", "shard"]


@pytest.mark.parametrize("content", ["[1", "[" * 100_000])
def test_a_damaged_file_of_facts_under_way_is_named(
    tmp_path: Path, tiny_clip: LowClip, numbered: Path, content: str
) -> None:
    with Index.open(tmp_path / "i", tiny_clip) as index:
        (tmp_path / "i/facts-under-way.json").write_text(content)
        with pytest.raises(IndexFileError, match=r"facts-under-way.json is damaged .* --facts"):
            index.add_folder(numbered)


@pytest.mark.parametrize("seed", range(12))
def test_facts_follow_their_photos_whatever_is_renamed_and_killed(
    tmp_path: Path, tiny_clip: LowClip, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    chance = random.Random(seed)
    monkeypatch.setattr(indexing, "STORE_BATCH", 1 + seed % 2)
    monkeypatch.setattr(indexing, "BATCH_SIZE", 1)
    gallery = tmp_path / "photos"
    gallery.mkdir()
    shown = {f"{number}.jpg": number for number in range(7)}  # name → which photo it is
    for name, number in shown.items():
        picture((30 * number + 5, 9, 9)).save(gallery / name)
    with Index.open(tmp_path / "i", tiny_clip) as index:
        index.add_folder(gallery)
        facts = {name: f"w{number}" for name, number in shown.items() if chance.random() < 0.7}
        index.set_facts({str(gallery / name): {"who": value} for name, value in facts.items()})
        expected = {number: facts.get(name) for name, number in shown.items()}
    for turn in range(3):
        new_names = chance.sample([*shown, f"new{turn}.jpg"], len(shown))
        for name in shown:
            (gallery / name).rename(gallery / f"{name}.aside")
        for name, new_name in zip(shown, new_names, strict=True):
            (gallery / f"{name}.aside").rename(gallery / new_name)
        shown = dict(zip(new_names, shown.values(), strict=True))
        for _ in range(chance.randint(0, 3)):
            with Index.open(tmp_path / "i", tiny_clip) as index, contextlib.suppress(KilledError):
                index.add_folder(gallery, progress=killed_after(chance.randint(0, 5)))
    with Index.open(tmp_path / "i", tiny_clip) as index:
        index.add_folder(gallery)
        found = {shown[Path(hit.path).name]: hit.payload.get("who") for hit in index.search("göy", 20)}
    assert found == expected
