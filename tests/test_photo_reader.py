"""Photos that change while they are read, or cannot be."""

import errno
import os
from pathlib import Path
from typing import Any

import pytest
from tiny_bundle import picture
from tiny_index import counts

from lowclip_runtime import photo_reader
from lowclip_runtime.clip import LowClip
from lowclip_runtime.index import Index


def test_a_large_photo_that_changes_while_it_is_read_says_nothing_of_others(
    tmp_path: Path, tiny_clip: LowClip, photos: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a copy of what it was at first, which must not get the embedding of what it is now."""
    gallery, photo, before = tmp_path / "g", tmp_path / "g/a.png", photos["göy"].read_bytes()
    gallery.mkdir()
    photo.write_bytes(before)
    monkeypatch.setattr(photo_reader, "_HELD_BYTES", 0)

    def overwritten(clip: LowClip, image: Any) -> Any:
        photo.write_bytes(photos["sarı"].read_bytes())
        os.utime(photo, (1, 1))
        return read(clip, image)

    read = LowClip.read_pixels
    with Index.open(tmp_path / "i", tiny_clip) as index:
        with monkeypatch.context() as late:
            late.setattr(LowClip, "read_pixels", overwritten)
            assert index.add_folder(gallery).added == 1
        (gallery / "copy.png").write_bytes(before)
        for report in (index.add_folder(gallery), index.add_folder(gallery)):
            assert report.failed == ()
        assert [Path(hit.path).name for hit in index.search("göy")] == ["copy.png", "a.png"]
        assert Path(index.search("sarı")[0].path).name == "a.png"


def test_a_changed_photo_that_cannot_be_opened_stays_with_what_was_said_of_it(
    tmp_path: Path, tiny_clip: LowClip, photos: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    photo, opened = photos["göy"], Path.open

    def failing(path: Path, *how: Any, **more: Any) -> Any:
        if path.name == photo.name:
            raise OSError(errno.EIO, "Input/output error")
        return opened(path, *how, **more)

    with Index.open(tmp_path / "i", tiny_clip) as index:
        assert index.add_folder(photo.parent).added == 6
        index.set_facts({str(photo): {"who": "Leyla"}})
        picture((250, 250, 9)).save(photo)
        with monkeypatch.context() as late:
            late.setattr(Path, "open", failing)
            report = index.add_folder(photo.parent)
        assert (counts(report), report.failed) == ({"unchanged": 5}, ((photo.name, "Input/output error"),))
        assert index.search("göy", k=1, where={"who": "Leyla"})[0].score > 0.9
        assert counts(index.add_folder(photo.parent)) == {"updated": 1, "unchanged": 5}
        assert len(index.search("sarı", where={"who": "Leyla"})) == 1
