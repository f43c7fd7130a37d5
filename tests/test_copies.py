"""How many of the photos that a run adds or updates are copies, whatever else happens to photos of their content."""

import os
import shutil
from pathlib import Path

import pytest
from tiny_bundle import picture
from tiny_index import counts

from lowclip_runtime.clip import LowClip
from lowclip_runtime.index import Index
from lowclip_runtime.indexing import _ON_THE_WAY


@pytest.fixture
def gallery(tmp_path: Path) -> Path:
    """b.png and d.png, of two contents."""
    (tmp_path / "photos").mkdir()
    for i, name in enumerate(("b.png", "d.png")):
        picture((9, 99, i)).save(tmp_path / "photos" / name)
    return tmp_path / "photos"


def test_of_two_that_take_the_content_of_a_changed_photo_one_is_a_copy(
    tmp_path: Path, tiny_clip: LowClip, gallery: Path
) -> None:
    with Index.open(tmp_path / "i", tiny_clip) as index:
        index.add_folder(gallery)
        shutil.copy(gallery / "d.png", gallery / "b.png")
        shutil.copy(gallery / "d.png", gallery / "c.png")
        picture((8, 88, 88)).save(gallery / "d.png")
        assert counts(index.add_folder(gallery)) == {"added": 1, "updated": 2, "duplicates": 1}


def test_a_copy_is_one_though_the_photo_with_a_new_time_is_read_after_it(
    tmp_path: Path, tiny_clip: LowClip, gallery: Path
) -> None:
    with Index.open(tmp_path / "i", tiny_clip) as index:
        index.add_folder(gallery)
        for name in ("a.png", "c.png", "e.png"):
            shutil.copy(gallery / "d.png", gallery / name)
        for name in ("b.png", "d.png"):
            os.utime(gallery / name, ns=(0, 12345))
        assert counts(index.add_folder(gallery)) == {"added": 3, "unchanged": 2, "duplicates": 3}


def test_a_late_copy_of_a_changed_photo_is_one(tmp_path: Path, tiny_clip: LowClip, gallery: Path) -> None:
    with Index.open(tmp_path / "i", tiny_clip) as index:
        index.add_folder(gallery)
        picture((8, 88, 88)).save(gallery / "b.png")
        shutil.copy(gallery / "b.png", gallery / "z.png")
        for i in range(_ON_THE_WAY):  # so many that the index has b.png before z.png is read
            picture((7, 77, i)).save(gallery / f"c{i}.png")
        assert counts(index.add_folder(gallery)) == {
            "added": _ON_THE_WAY + 1, "updated": 1, "unchanged": 1, "duplicates": 1
        }  # fmt: skip
