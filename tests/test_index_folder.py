"""What `add_folder` does to an index: new, changed, moved, copied, broken and deleted photos."""

import hashlib
import os
import shutil
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from tiny_bundle import COLOURS, picture
from tiny_index import add, counts, names

from lowclip_runtime import indexing
from lowclip_runtime.clip import LowClip
from lowclip_runtime.errors import ImageError, InputError
from lowclip_runtime.index import Index, describe_index


@pytest.fixture
def gallery(photos: dict[str, Path]) -> Path:
    return next(iter(photos.values())).parent


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "photos.index"


@pytest.fixture
def embedded(tiny_clip: LowClip, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the photos that went to the image tower, in order."""
    names: list[str] = []
    read, embed = LowClip.read_pixels, LowClip.embed_pixels
    name_of: dict[bytes, str] = {}

    def remembered(self: LowClip, image: Any) -> Any:
        pixels = read(self, image)
        if not isinstance(pixels, ImageError):
            name_of.setdefault(pixels.tobytes(), Path(image.name).name)
        return pixels

    def counted(self: LowClip, pixels: Any) -> Any:
        names.extend(name_of[one.tobytes()] for one in pixels)
        return embed(self, pixels)

    monkeypatch.setattr(LowClip, "read_pixels", remembered)
    monkeypatch.setattr(LowClip, "embed_pixels", counted)
    return names


def test_a_second_run_embeds_nothing(
    path: Path, tiny_clip: LowClip, gallery: Path, embedded: list[str]
) -> None:
    add(path, tiny_clip, gallery)
    embedded.clear()
    assert counts(add(path, tiny_clip, gallery)) == {"unchanged": 6}
    assert embedded == []


def test_a_changed_photo_is_embedded_again(
    path: Path, tiny_clip: LowClip, photos: dict[str, Path], embedded: list[str]
) -> None:
    gallery = photos["göy"].parent
    add(path, tiny_clip, gallery)
    embedded.clear()
    picture((200, 0, 0)).save(photos["göy"])
    os.utime(photos["göy"], ns=(0, 12345))
    assert counts(add(path, tiny_clip, gallery)) == {"updated": 1, "unchanged": 5}
    assert embedded == ["göy.png"]
    with Index.open(path, tiny_clip) as index:
        assert {Path(hit.path).name for hit in index.search("qırmızı", 2)} == {"qırmızı.png", "göy.png"}
        assert len(index) == 6


def test_a_new_time_alone_embeds_nothing(
    path: Path, tiny_clip: LowClip, photos: dict[str, Path], embedded: list[str]
) -> None:
    gallery = photos["göy"].parent
    add(path, tiny_clip, gallery)
    embedded.clear()
    os.utime(photos["göy"], ns=(0, 12345))
    assert counts(add(path, tiny_clip, gallery)) == {"unchanged": 6}
    assert embedded == []
    with Index.open(path, tiny_clip) as index:
        assert index.search_image(photos["göy"], 1)[0].payload["mtime_ns"] == 12345


def test_a_moved_photo_keeps_its_embedding_and_is_no_duplicate(
    path: Path, tiny_clip: LowClip, photos: dict[str, Path], embedded: list[str]
) -> None:
    gallery = photos["göy"].parent
    add(path, tiny_clip, gallery)
    embedded.clear()
    (gallery / "yeni").mkdir()
    photos["göy"].rename(gallery / "yeni" / "dəniz.png")
    assert counts(add(path, tiny_clip, gallery)) == {"added": 1, "removed": 1, "unchanged": 5}
    assert embedded == []
    with Index.open(path, tiny_clip) as index:
        assert index.search("göy", 1)[0].path == str(gallery.resolve() / "yeni" / "dəniz.png")
        assert len(index) == 6


def test_a_deleted_photo_is_removed_and_other_galleries_stay(
    path: Path, tiny_clip: LowClip, photos: dict[str, Path], tmp_path: Path
) -> None:
    gallery = photos["göy"].parent
    other = tmp_path / "photos2"  # its name begins like the gallery's
    other.mkdir()
    picture((9, 99, 199)).save(other / "o.png")
    add(path, tiny_clip, gallery)
    add(path, tiny_clip, other)
    photos["göy"].unlink()
    assert counts(add(path, tiny_clip, gallery)) == {"removed": 1, "unchanged": 5}
    assert "göy.png" not in names(path, tiny_clip)
    assert "o.png" in names(path, tiny_clip)
    assert describe_index(path)["galleries"] == {str(gallery.resolve()): 5, str(other.resolve()): 1}


def test_photos_behind_a_link_to_a_folder_that_is_away_stay_and_are_told(
    path: Path, tiny_clip: LowClip, gallery: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    picture((9, 99, 199)).save(disk / "o.png")
    (gallery / "disk").symlink_to(disk)
    (gallery / "nowhere").symlink_to("nothing")
    with Index.open(path, tiny_clip) as index:
        index.add_folder(gallery)
        index.set_facts({str(gallery / "disk/o.png"): {"who": "Leyla"}})
        disk.rename(tmp_path / "unplugged")
        report = index.add_folder(gallery)
        assert (counts(report), report.failed) == (
            {"unchanged": 6}, (("disk", "no such file, or a link to nothing"),)
        )  # fmt: skip
        (tmp_path / "unplugged").rename(disk)
        assert counts(index.add_folder(gallery)) == {"unchanged": 7}
        assert len(index.search("göy", where={"who": "Leyla"})) == 1
        (gallery / "disk").unlink()
        assert counts(index.add_folder(gallery)) == {"removed": 1, "unchanged": 6}


def test_a_folder_inside_a_gallery_is_not_stored_twice(path: Path, tiny_clip: LowClip, gallery: Path) -> None:
    (gallery / "inner").mkdir()
    (gallery / "göy.png").rename(gallery / "inner" / "göy.png")
    add(path, tiny_clip, gallery)
    assert counts(add(path, tiny_clip, gallery / "inner")) == {"unchanged": 1}
    assert counts(add(path, tiny_clip, gallery)) == {"unchanged": 6}


def test_copies_are_embedded_once_and_found_all(
    path: Path, tiny_clip: LowClip, photos: dict[str, Path], embedded: list[str]
) -> None:
    gallery = photos["göy"].parent
    for name in ("a.png", "z.png"):
        shutil.copy(photos["göy"], gallery / name)
    assert counts(add(path, tiny_clip, gallery)) == {"added": 8, "duplicates": 2}
    alike = {"a.png", "z.png", "göy.png"}
    assert len(set(embedded) & alike) == 1
    assert sorted(set(embedded) - alike) == sorted(f"{word}.png" for word in COLOURS if word != "göy")
    assert len(embedded) == 6
    embedded.clear()
    shutil.copy(photos["sarı"], gallery / "later.png")
    assert counts(add(path, tiny_clip, gallery)) == {"added": 1, "unchanged": 8, "duplicates": 1}
    assert embedded == []
    with Index.open(path, tiny_clip) as index:
        assert [Path(hit.path).name for hit in index.search("göy", 3)] == ["a.png", "göy.png", "z.png"]


def test_broken_photos_are_reported_and_the_others_indexed(
    path: Path, tiny_clip: LowClip, photos: dict[str, Path]
) -> None:
    gallery = photos["göy"].parent
    (gallery / "empty.jpg").touch()
    (gallery / "text.png").write_text("not an image")
    picture((1, 2, 3), (300, 200)).save(gallery / "whole.jpg")
    (gallery / "cut.jpg").write_bytes((gallery / "whole.jpg").read_bytes()[:500])
    (gallery / "cut copy.jpg").write_bytes((gallery / "cut.jpg").read_bytes())
    (gallery / "dangling.jpg").symlink_to("nowhere")
    (gallery / "folder.jpg").mkdir()
    report = add(path, tiny_clip, gallery)
    assert counts(report) == {"added": 7}
    broken = ["cut copy.jpg", "cut.jpg", "dangling.jpg", "empty.jpg", "text.png"]
    assert [name for name, _ in report.failed] == broken
    reasons = dict(report.failed)
    assert reasons["text.png"] == "not an image in a format that can be read"
    assert all(reason and str(gallery) not in reason and "\n" not in reason for reason in reasons.values())
    assert reasons["cut.jpg"] == reasons["cut copy.jpg"]
    again = add(path, tiny_clip, gallery)
    assert counts(again) == {"unchanged": 7} and again.failed == report.failed


def test_a_file_in_a_format_that_nobody_reads_is_not_read_to_its_end(
    path: Path, tiny_clip: LowClip, photos: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    (photos["göy"].parent / "phone.heic").write_bytes(b"\0\0\0\x18ftypheic" + bytes(5_000_000))
    hashed = []
    file_digest = hashlib.file_digest
    monkeypatch.setattr(
        hashlib,
        "file_digest",
        lambda file, name: hashed.append(Path(file.name).name) or file_digest(file, name),
    )
    report = add(path, tiny_clip, photos["göy"].parent)
    assert report.failed == (("phone.heic", "not an image in a format that can be read"),)
    assert len(hashed) == 6 and "phone.heic" not in hashed


def test_a_photo_that_became_broken_leaves_the_index(
    path: Path, tiny_clip: LowClip, photos: dict[str, Path]
) -> None:
    add(path, tiny_clip, photos["göy"].parent)
    photos["göy"].write_bytes(b"no longer a photo")
    report = add(path, tiny_clip, photos["göy"].parent)
    assert counts(report) == {"removed": 1, "unchanged": 5}
    assert [name for name, _ in report.failed] == ["göy.png"]
    assert "göy.png" not in names(path, tiny_clip)


def test_names_of_all_kinds_come_back_as_they_are(path: Path, tiny_clip: LowClip, tmp_path: Path) -> None:
    gallery = tmp_path / "şəkillər 2026"
    gallery.mkdir()
    stems = [
        unicodedata.normalize("NFD", "göy şüşə"),
        "y" * 250,
        "İşıq «ı» \\ \"q\" 'a'",
        "фото",
        "tab\there",
    ]
    for i, stem in enumerate(stems):
        picture((40 * i, 9, 9)).save(gallery / f"{stem}.png")
    assert counts(add(path, tiny_clip, gallery)) == {"added": 5}
    assert names(path, tiny_clip) == sorted(f"{stem}.png" for stem in stems)
    with Index.open(path, tiny_clip) as index:
        assert all(Path(hit.path).is_file() for hit in index.search("it", 5))
        assert counts(index.add_folder(gallery)) == {"unchanged": 5}


def test_progress_is_told_after_every_batch_on_the_disk(
    path: Path, tiny_clip: LowClip, gallery: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexing, "STORE_BATCH", 4)
    told = []
    with Index.open(path, tiny_clip) as index:
        index.add_folder(gallery, progress=lambda done, total: told.append((done, total, len(index))))
    assert told == [(0, 6, 0), (4, 6, 4), (6, 6, 6)]


def test_an_error_in_the_middle_keeps_the_batches_before(
    path: Path, tiny_clip: LowClip, gallery: Path, monkeypatch: pytest.MonkeyPatch, embedded: list[str]
) -> None:
    monkeypatch.setattr(indexing, "STORE_BATCH", 2)
    monkeypatch.setattr(indexing, "BATCH_SIZE", 2)

    def stop(done: int, total: int) -> None:
        if done == 4:
            raise KeyboardInterrupt

    with Index.open(path, tiny_clip) as index, pytest.raises(KeyboardInterrupt):
        index.add_folder(gallery, progress=stop)
    before = list(embedded)
    assert counts(add(path, tiny_clip, gallery)) == {"added": 2, "unchanged": 4}
    assert sorted(embedded) == sorted(f"{word}.png" for word in COLOURS)
    assert len(before) == 4


def test_a_gallery_without_photos_is_refused_and_nothing_is_removed(
    path: Path, tiny_clip: LowClip, gallery: Path, tmp_path: Path
) -> None:
    add(path, tiny_clip, gallery)
    for photo in gallery.iterdir():
        photo.unlink()
    (gallery / "notes.txt").write_text("no photo")
    with Index.open(path, tiny_clip) as index:
        with pytest.raises(InputError, match="holds no photos"):
            index.add_folder(gallery)
        with pytest.raises(InputError, match="no such folder"):
            index.add_folder(tmp_path / "none")
        assert len(index) == 6
