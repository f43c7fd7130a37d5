"""What keeps an index from being used or a folder from being forgotten, and is no reason to delete anything."""

import errno
import os
from pathlib import Path

import pytest
from tiny_bundle import picture

from lowclip_runtime.clip import LowClip
from lowclip_runtime.errors import IndexFileError, InputError
from lowclip_runtime.index import Index
from lowclip_runtime.index_check import verify_index
from lowclip_runtime.index_manifest import read_index_manifest
from lowclip_runtime.shard_errors import engine_errors


@pytest.fixture
def gallery(tmp_path: Path) -> Path:
    folder = tmp_path / "real"
    folder.mkdir()
    for number in (1, 2):
        picture((99 * number, 9, 9)).save(folder / f"{number}.png")
    return folder


@pytest.fixture
def indexed(tmp_path: Path, tiny_clip: LowClip, gallery: Path) -> Path:
    with Index.open(tmp_path / "i", tiny_clip) as index:
        assert index.add_folder(gallery).added == 2
    return tmp_path / "i"


@pytest.mark.parametrize("name", ["index.json", "facts-under-way.json"])
def test_a_file_that_may_not_be_read_is_not_damaged(
    name: str, indexed: Path, tiny_clip: LowClip, monkeypatch: pytest.MonkeyPatch, gallery: Path
) -> None:
    (indexed / "facts-under-way.json").write_text("[]")
    read = Path.read_text

    def refuse(file: Path, *options: str) -> str:
        if file.name == name:
            raise PermissionError(13, "Permission denied")
        return read(file, *options)

    monkeypatch.setattr(Path, "read_text", refuse)
    with (
        pytest.raises(IndexFileError, match=f"{name} cannot be read: no permission to read it; ") as refused,
        Index.open(indexed, tiny_clip) as index,
    ):
        index.add_folder(gallery)
    assert "delete" not in str(refused.value)


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("IO Error: Too many open files (os error 24)", "may open no more files"),
        ("File too large (os error 27)", "may write no larger files"),
        ("Failed to open mmap payload storage: Cannot allocate memory (os error 12)", "too little memory"),
        (
            "thread pool: Resource temporarily unavailable (os error 11), WouldBlock",
            "may start no more threads",
        ),
    ],
)
def test_what_the_process_may_not_do_is_no_damage(said: str, told: str, indexed: Path) -> None:
    with pytest.raises(IndexFileError, match=told) as refused, engine_errors(indexed / "shard"):
        raise Exception(said)
    assert "is kept" in str(refused.value) and "delete" not in str(refused.value)


def test_an_index_that_is_gone_is_not_damaged(tmp_path: Path, indexed: Path) -> None:
    said = "No such file or directory (os error 2)"
    with (
        pytest.raises(IndexFileError, match="gone is not there; name an index"),
        engine_errors(tmp_path / "gone/shard"),
    ):
        raise Exception(said)
    with pytest.raises(IndexFileError, match="is damaged"), engine_errors(indexed / "shard"):
        raise Exception(said)


def test_what_the_system_refuses_to_make_or_open_is_an_error_of_the_index(
    tmp_path: Path, tiny_clip: LowClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("x" * 250, "x" * 300):  # too long with what is written aside, and by itself
        with pytest.raises(IndexFileError, match=r"x cannot be .*File name too long"):
            Index.open(tmp_path / name, tiny_clip)

    def closed(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "a folder")

    monkeypatch.setattr(Path, "mkdir", closed)
    for path in (tmp_path / "i", tmp_path / "deep/i"):
        with pytest.raises(IndexFileError, match=r"i cannot be .*Permission denied"):
            Index.open(path, tiny_clip)


def test_an_empty_name_is_not_the_folder_one_is_in(
    indexed: Path, tiny_clip: LowClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(indexed)
    assert read_index_manifest(".").dims
    with pytest.raises(IndexFileError, match="'' names no folder of its own; name one"):
        Index.open("", tiny_clip)
    for create in (True, False):
        with pytest.raises(IndexFileError, match=r"milvus:.* is a server's address, and only folders can be"):
            Index.open("milvus://host:19530/photos", tiny_clip, create=create)


def test_a_gallery_without_photos_is_to_be_forgotten_and_not_the_index(
    indexed: Path, tiny_clip: LowClip, gallery: Path
) -> None:
    for photo in gallery.iterdir():
        photo.unlink()
    with Index.open(indexed, tiny_clip) as index:
        with pytest.raises(
            InputError, match=f"take them out with lowclip index --index {indexed} --forget {gallery}$"
        ):
            index.add_folder(gallery)
        assert index.forget(gallery) == 2


def test_a_photo_that_changed_behind_its_size_and_time_is_told_apart_from_damage(
    tmp_path: Path, tiny_clip: LowClip
) -> None:
    gallery = tmp_path / "real"
    gallery.mkdir()
    times = (1_700_000_000, 1_700_000_000)
    for name, colour in (("a", (220, 0, 0)), ("b", (0, 0, 220))):
        picture(colour).save(gallery / f"{name}.bmp")
        os.utime(gallery / f"{name}.bmp", times)
    with Index.open(tmp_path / "i", tiny_clip) as index:
        index.add_folder(gallery)
    (gallery / "a.bmp").rename(gallery / "c")
    (gallery / "b.bmp").rename(gallery / "a.bmp")
    (gallery / "c").rename(gallery / "b.bmp")
    with pytest.raises(
        IndexFileError, match=r"[ab]\.bmp was changed, to the same size and time as before; touch it"
    ):
        verify_index(tmp_path / "i", tiny_clip)


def test_facts_that_are_no_mapping_are_refused(indexed: Path, tiny_clip: LowClip, gallery: Path) -> None:
    with Index.open(indexed, tiny_clip) as index:
        for facts in (None, [str(gallery / "1.png")], "1.png"):
            with pytest.raises(InputError, match="facts must be a mapping of photos to theirs, not"):
                index.set_facts(facts)  # type: ignore[arg-type]


def test_a_journal_of_something_else_is_damaged(indexed: Path, tiny_clip: LowClip, gallery: Path) -> None:
    (indexed / "facts-under-way.json").write_text('[{"path": 1, "content_hash": "", "said": {}}]')
    with (
        Index.open(indexed, tiny_clip) as index,
        pytest.raises(IndexFileError, match=r"facts-under-way\.json is damaged"),
    ):
        index.add_folder(gallery)


@pytest.mark.parametrize("end", ["", "/", "/."])
def test_a_gallery_is_forgotten_by_a_link_that_it_was_indexed_by(
    end: str, tmp_path: Path, tiny_clip: LowClip, gallery: Path
) -> None:
    link = tmp_path / "link"
    link.symlink_to(gallery)
    with Index.open(tmp_path / "i", tiny_clip) as index:
        index.add_folder(link)
        with pytest.raises(InputError, match=r"would take the photos of .*/real out again"):
            index.check_forgotten([f"{link}{end}"], gallery)
        assert index.forget(f"{link}{end}") == 2
        assert len(index) == 0


def test_a_link_in_the_place_that_a_gallery_was_moved_from_means_that_place(
    tmp_path: Path, tiny_clip: LowClip, gallery: Path, indexed: Path
) -> None:
    moved = gallery.rename(tmp_path / "moved")
    gallery.symlink_to(moved)
    with Index.open(indexed, tiny_clip) as index:
        index.check_forgotten([str(gallery)], moved)
        assert index.add_folder(moved).added == 2
        assert index.forget(gallery) == 2
        assert {hit.payload["gallery"] for hit in index.search("it")} == {str(moved)}


def test_a_folder_that_may_not_be_written_to_gets_no_index(
    tmp_path: Path, tiny_clip: LowClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of another user, or on a disk that is read only; root, as whom tests may run, is refused nothing."""

    def refused(path: Path, *_: object, **__: object) -> None:
        if "lowclip-" in path.name:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(IndexFileError, match=r"/i cannot be made: Permission denied; name another folder"):
        Index.open(tmp_path / "i", tiny_clip)
