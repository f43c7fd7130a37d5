"""Walking a gallery: order, what is a photo, links, strange names; and comparing with what is known."""

import os
import time
import unicodedata
from pathlib import Path

import pytest

from lowclip_runtime.errors import InputError
from lowclip_runtime.folder import FoundFile, Listing, changes, gallery_root, printable, walk


def put(root: Path, *paths: str) -> None:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"12345")


def found(root: Path) -> list[str]:
    return [file.path for file in walk(root).files]


def test_photos_come_in_order_of_path_from_all_levels(tmp_path: Path) -> None:
    put(tmp_path, "b.JPG", "a/z.png", "a/b/c.webp", "a.jpeg", "notes.txt", "jpg", ".hidden.jpg", ".git/x.jpg")
    assert found(tmp_path) == ["a.jpeg", "a/b/c.webp", "a/z.png", "b.JPG"]


def test_thumbnails_and_deleted_files_of_network_storage_are_no_photos(tmp_path: Path) -> None:
    put(
        tmp_path,
        "a/@eaDir/x.jpg/SYNOPHOTO_THUMB_M.jpg",
        "a/x.jpg",
        "#recycle/old.jpg",
        "$RECYCLE.BIN/S-1/old.jpg",
        "c/$Recycle.Bin/S-1/old.jpg",
    )
    listing = walk(tmp_path)
    assert [file.path for file in listing.files] == ["a/x.jpg"]
    indexed = {file.path: (file.size_bytes, file.mtime_ns) for file in listing.files}
    before = {**indexed, "a/@eaDir/x.jpg/SYNOPHOTO_THUMB_M.jpg": (5, 1)}  # by a release that looked there
    assert changes(listing, before).gone == ["a/@eaDir/x.jpg/SYNOPHOTO_THUMB_M.jpg"]


def test_size_and_time_are_those_of_the_file(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg")
    os.utime(tmp_path / "a.jpg", ns=(1, 1_700_000_000_123_456_789))
    assert walk(tmp_path).files == [FoundFile("a.jpg", 5, 1_700_000_000_123_456_789)]


def test_a_folder_with_the_name_of_a_photo_is_a_folder(tmp_path: Path) -> None:
    put(tmp_path, "x.jpg/inside.png")
    assert found(tmp_path) == ["x.jpg/inside.png"]
    assert walk(tmp_path).problems == []


def test_loops_of_links_end_and_each_folder_is_walked_once(tmp_path: Path) -> None:
    put(tmp_path, "a/1.jpg", "b/2.jpg")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    (tmp_path / "b" / "over").symlink_to(tmp_path / "a")
    (tmp_path / "self").symlink_to("self")
    (tmp_path / "self.jpg").symlink_to("self.jpg")
    listing = walk(tmp_path)
    assert [file.path for file in listing.files] == ["a/1.jpg", "b/2.jpg"]
    assert listing.problems == [("self.jpg", "a link that leads back to itself")]


def test_a_folder_is_walked_by_its_own_name_and_not_by_that_of_a_link(tmp_path: Path) -> None:
    put(tmp_path, "2024/a.jpg", "2024/trip/b.jpg", "elsewhere/c.jpg")
    (tmp_path / "0").symlink_to("2024/trip")
    (tmp_path / "2024" / "0").symlink_to("../elsewhere")
    (tmp_path / "1").symlink_to("2024")
    assert found(tmp_path) == ["2024/a.jpg", "2024/trip/b.jpg", "elsewhere/c.jpg"]


def test_a_linked_folder_and_a_linked_photo_are_followed(tmp_path: Path) -> None:
    put(tmp_path, "elsewhere/1.jpg", "gallery/2.jpg")
    (tmp_path / "gallery" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "gallery" / "3.jpg").symlink_to(tmp_path / "elsewhere" / "1.jpg")
    assert found(tmp_path / "gallery") == ["2.jpg", "3.jpg", "linked/1.jpg"]


def test_what_cannot_be_looked_at_is_a_problem_and_the_rest_is_found(tmp_path: Path) -> None:
    put(tmp_path, "good.jpg")
    (tmp_path / "dangling.jpg").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.png")
    listing = walk(tmp_path)
    assert [file.path for file in listing.files] == ["good.jpg"]
    assert listing.problems == [
        ("dangling.jpg", "no such file, or a link to nothing"),
        ("pipe.png", "neither a file nor a folder"),
    ]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_without_permission_is_a_problem(tmp_path: Path) -> None:
    put(tmp_path, "closed/1.jpg", "open/2.jpg")
    (tmp_path / "closed").chmod(0)
    try:
        listing = walk(tmp_path)
    finally:
        (tmp_path / "closed").chmod(0o755)
    assert [file.path for file in listing.files] == ["open/2.jpg"]
    assert listing.problems == [("closed", "no permission to read it")]


def test_names_of_any_script_form_and_length_are_kept_as_they_are(tmp_path: Path) -> None:
    names = [unicodedata.normalize("NFD", "gözəl şəkil.jpg"), "фото.jpg", "İşıq ✨.jpg", "x" * 251 + ".jpg"]
    put(tmp_path, *names)
    assert found(tmp_path) == sorted(names)


def test_a_name_that_is_not_utf8_is_a_problem_that_can_be_printed(tmp_path: Path) -> None:
    (Path(os.fsdecode(os.fsencode(tmp_path) + b"/bad\xff.jpg"))).write_bytes(b"1")
    put(tmp_path, "good.jpg")
    listing = walk(tmp_path)
    assert [file.path for file in listing.files] == ["good.jpg"]
    assert listing.problems == [("bad\\xff.jpg", "its name is not UTF-8; rename it")]
    assert printable(tmp_path / "ə.jpg").endswith("ə.jpg")


def test_a_missing_folder_and_a_file_are_refused(tmp_path: Path) -> None:
    put(tmp_path, "a.jpg")
    with pytest.raises(InputError, match="no such folder"):
        gallery_root(tmp_path / "none")
    with pytest.raises(InputError, match="is not a folder"):
        gallery_root(tmp_path / "a.jpg")
    with pytest.raises(InputError, match="name is empty"):
        gallery_root("")


def test_changes_by_size_and_time() -> None:
    listing = Listing(
        files=[FoundFile(name, 10, 100) for name in ("larger", "new", "same", "touched")],
        problems=[("closed", "no permission to read it")],
    )
    known = {
        "same": (10, 100),
        "larger": (9, 100),
        "touched": (10, 99),
        "gone": (10, 100),
        "closed/1.jpg": (10, 100),
        "closed2/1.jpg": (10, 100),
    }
    result = changes(listing, known)
    assert [file.path for file in result.new] == ["new"]
    assert [file.path for file in result.changed] == ["larger", "touched"]
    assert result.gone == ["closed2/1.jpg", "gone"]
    assert result.unchanged == 1


def test_links_to_a_disk_that_is_away_are_all_kept_and_soon_told() -> None:
    """Comparing each with each would take minutes, and for a million of them weeks."""
    names = [f"{i % 100}/{i}.jpg" for i in range(60_000)]
    listing = Listing(problems=[(name, "no such file, or a link to nothing") for name in names])
    started = time.monotonic()
    result = changes(listing, dict.fromkeys([*names, "0/gone.jpg"], (1, 1)))
    assert result.gone == ["0/gone.jpg"]
    assert time.monotonic() - started < 30  # 0.1 s was seen
