"""The index: what add_folder does to it, what search answers, and what is refused."""

import json
import os
import shutil
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_bundle import COLOURS, picture, write_tiny_bundle

from lowclip_runtime import indexing
from lowclip_runtime.clip import LowClip
from lowclip_runtime.errors import ImageError, IndexFileError, InputError, TextError
from lowclip_runtime.index import Index, describe_index, verify_index
from lowclip_runtime.index_manifest import MANIFEST_NAME
from lowclip_runtime.indexing import IndexReport
from lowclip_runtime.photo_record import PhotoRecord, record_id
from lowclip_runtime.points import Point
from lowclip_runtime.shard import Shard


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


def add(path: Path, clip: LowClip, gallery: Path) -> IndexReport:
    with Index.open(path, clip) as index:
        return index.add_folder(gallery)


def names(path: Path, clip: LowClip) -> list[str]:
    """The file names of all photos in the index."""
    with Index.open(path, clip, create=False) as index:
        hits = index.search("it", k=1000)
        assert len(hits) == len(index)
    return sorted(Path(hit.path).name for hit in hits)


def counts(report: IndexReport) -> dict[str, int]:
    shown = {
        name: getattr(report, name) for name in ("added", "updated", "removed", "unchanged", "duplicates")
    }
    return {name: count for name, count in shown.items() if count}


def test_a_colour_word_finds_its_photo(path: Path, tiny_clip: LowClip, gallery: Path) -> None:
    report = add(path, tiny_clip, gallery)
    assert counts(report) == {"added": 6} and report.failed == ()
    assert report.photos_per_s > 0 and report.peak_rss_mb > 10
    with Index.open(path, tiny_clip, create=False) as index:
        for word in COLOURS:
            hits = index.search(word, k=3)
            assert hits[0].path == str(gallery.resolve() / f"{word}.png")
            assert [hit.rank for hit in hits] == [1, 2, 3]
            assert hits[0].score > hits[1].score >= hits[2].score
            assert hits[0].payload["path"] == f"{word}.png"
            assert hits[0].payload["gallery"] == str(gallery.resolve())


def test_the_scores_are_the_cosines(path: Path, tiny_clip: LowClip, gallery: Path) -> None:
    add(path, tiny_clip, gallery)
    with Index.open(path, tiny_clip) as index:
        for hit in index.search("göy dəniz", k=6):
            expected = tiny_clip.embed_texts(["göy dəniz"])[0] @ tiny_clip.embed_images([hit.path])[0]
            assert hit.score == pytest.approx(float(expected), abs=1e-6)  # float32, summed in another order


def test_several_queries_and_a_photo_as_query(
    path: Path, tiny_clip: LowClip, photos: dict[str, Path]
) -> None:
    add(path, tiny_clip, photos["göy"].parent)
    with Index.open(path, tiny_clip) as index:
        assert index.search_all(["sarı", "göy"], 2) == [index.search("sarı", 2), index.search("göy", 2)]
        for photo in (photos["sarı"], Image.open(photos["sarı"]), np.asarray(Image.open(photos["sarı"]))):
            (hit,) = index.search_image(photo, 1)
            assert hit.path == str(photos["sarı"].resolve())
            assert hit.score == pytest.approx(1, abs=1e-6)


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


def test_equal_scores_come_in_order_of_path_whatever_k_is(
    path: Path, tiny_clip: LowClip, tmp_path: Path
) -> None:
    gallery = tmp_path / "same"
    gallery.mkdir()
    for i in range(30):
        picture((0, 0, 255)).save(gallery / f"{i:02}.png")
    picture((255, 0, 0)).save(gallery / "red.png")
    add(path, tiny_clip, gallery)
    with Index.open(path, tiny_clip) as index:
        for k in (1, 4, 29, 30):
            assert [Path(hit.path).name for hit in index.search("göy", k)] == [
                f"{i:02}.png" for i in range(k)
            ]
        assert len(index.search("göy", 10**9)) == 31


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


def test_bad_questions_are_refused(path: Path, tiny_clip: LowClip, gallery: Path) -> None:
    add(path, tiny_clip, gallery)
    with Index.open(path, tiny_clip) as index:
        for k in (0, -1):
            with pytest.raises(InputError, match=f"k must be 1 or more, not {k}"):
                index.search("göy", k)
        with pytest.raises(TextError, match="empty"):
            index.search("  \n ")
        with pytest.raises(ImageError):
            index.search_image(b"not an image")


def test_an_empty_index_answers_nothing(path: Path, tiny_clip: LowClip) -> None:
    with Index.open(path, tiny_clip) as index:
        assert len(index) == 0
        assert index.search("göy") == []


def test_another_bundle_is_refused(path: Path, tiny_clip: LowClip, gallery: Path, tmp_path: Path) -> None:
    add(path, tiny_clip, gallery)
    other = LowClip.open(write_tiny_bundle(tmp_path / "other", name="other", variant=1), threads=1)
    with pytest.raises(
        IndexFileError, match=r"made with the bundle 'tiny' \(id \w+\), not with 'other' \(id \w+\)"
    ):
        Index.open(path, other)
    with pytest.raises(IndexFileError, match="'tiny'"):
        verify_index(path, other)
    assert len(names(path, tiny_clip)) == 6


def test_a_missing_index_and_other_folders_are_refused(path: Path, tiny_clip: LowClip, gallery: Path) -> None:
    with pytest.raises(IndexFileError, match="no such index; make one with: lowclip index"):
        Index.open(path, tiny_clip, create=False)
    assert not path.exists()
    for not_an_index in (gallery, tiny_clip.path, gallery / "göy.png"):
        with pytest.raises(IndexFileError, match=r"is not an index: it has no index\.json"):
            Index.open(not_an_index, tiny_clip)
    path.mkdir()  # an empty folder may become one
    assert counts(add(path, tiny_clip, gallery)) == {"added": 6}


def test_who_comes_second_in_making_an_index_cannot_replace_it(
    path: Path, tiny_clip: LowClip, gallery: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Shard.create
    winner: list[Index] = []

    def made_by_another_meanwhile(*arguments: Any) -> None:
        real(*arguments)
        if not winner:
            monkeypatch.setattr(Shard, "create", staticmethod(real))
            winner.append(Index.open(path, tiny_clip))

    monkeypatch.setattr(Shard, "create", staticmethod(made_by_another_meanwhile))
    with pytest.raises(IndexFileError, match="is open in another process"):
        Index.open(path, tiny_clip)
    with winner[0]:
        assert counts(winner[0].add_folder(gallery)) == {"added": 6}
    assert len(names(path, tiny_clip)) == 6
    assert [entry.name for entry in path.parent.iterdir() if entry.name.startswith(".")] == []


def test_an_open_index_is_locked(path: Path, tiny_clip: LowClip, gallery: Path) -> None:
    add(path, tiny_clip, gallery)
    with Index.open(path, tiny_clip):
        for attempt in (lambda: Index.open(path, tiny_clip), lambda: describe_index(path)):
            with pytest.raises(IndexFileError, match="is open in another process"):
                attempt()
    assert len(names(path, tiny_clip)) == 6


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"schema_version": 3}, "has schema version 3, this lowclip reads up to 2; upgrade"),
        ({"extra": 1}, "unknown key 'extra'"),
        ({"dims": "256"}, "dims must be a whole number"),
        ({"dims": None}, "missing key 'dims'"),
        (
            {"engine": "qdrant-edge 0.1"},
            r"was written by qdrant-edge 0\.1, this lowclip has qdrant-edge 0\.9",
        ),
    ],
)
def test_a_manifest_that_is_not_ours_is_refused(
    path: Path, tiny_clip: LowClip, gallery: Path, change: dict[str, Any], expected: str
) -> None:
    add(path, tiny_clip, gallery)
    file = path / MANIFEST_NAME
    data = {**json.loads(file.read_text("utf-8")), **change}
    file.write_text(json.dumps({key: value for key, value in data.items() if value is not None}), "utf-8")
    with pytest.raises(IndexFileError, match=expected):
        Index.open(path, tiny_clip)


@pytest.mark.parametrize("content", [b"{", b"\xff\xfe", b"[]"])
def test_a_manifest_that_cannot_be_read_is_refused(path: Path, tiny_clip: LowClip, content: bytes) -> None:
    Index.open(path, tiny_clip).close()
    (path / MANIFEST_NAME).write_bytes(content)
    with pytest.raises(IndexFileError, match="build it again"):
        Index.open(path, tiny_clip)


def test_describe_and_verify(path: Path, tiny_clip: LowClip, gallery: Path) -> None:
    add(path, tiny_clip, gallery)
    told = describe_index(path)
    assert told["kind"] == "index" and told["photos"] == 6 and told["dims"] == 16
    assert told["bundle_name"] == "tiny" and told["bundle_id"] == tiny_clip.bundle_id
    assert 0 < told["bytes"] < 64 << 20
    assert verify_index(path) == {
        "vectors": "float32",
        "dims": 16,
        "photos": 6,
        "embedded_again": 0,
        "least_cosine": None,
    }
    report = verify_index(path, tiny_clip)
    assert report["embedded_again"] == 6 and report["least_cosine"] > 0.999


def broken_point(kind: str, gallery: Path) -> Point:
    """A point for the photo göy.png that is not right in one way."""
    photo = gallery.resolve() / "göy.png"
    about = photo.stat()
    record = PhotoRecord(str(photo.parent), photo.name, about.st_size, about.st_mtime_ns, "0" * 64)
    payload = record.to_payload()
    embedding = np.zeros(16, np.float32)
    embedding[0] = 1
    if kind == "norm":
        embedding[0] = 0.9
    if kind == "payload":
        del payload["sha256"]
    where = "/elsewhere.png" if kind == "id" else str(photo)
    return Point(record_id(where), payload, embedding)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("norm", r"göy\.png has 16 numbers and norm 0\.9"),
        ("payload", "no valid sha256"),
        ("id", "stored under the id of another photo"),
        ("another embedding", "now has another embedding, cosine"),
    ],
)
def test_verify_finds_what_the_engine_does_not(
    path: Path, tiny_clip: LowClip, gallery: Path, kind: str, expected: str
) -> None:
    add(path, tiny_clip, gallery)
    shard = Shard.open(path / "shard")
    shard.upsert([broken_point(kind, gallery)])
    shard.close()
    with pytest.raises(IndexFileError, match=expected):
        verify_index(path, tiny_clip)
