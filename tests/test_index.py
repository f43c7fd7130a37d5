"""The index: what search answers, what is refused, and what is told of it; filling it is `test_index_folder.py`."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from blake3 import blake3
from PIL import Image
from tiny_bundle import COLOURS, picture, write_tiny_bundle
from tiny_index import add, counts, names

from lowclip_runtime import index_manifest
from lowclip_runtime.clip import LowClip
from lowclip_runtime.errors import ImageError, IndexFileError, InputError, TextError
from lowclip_runtime.index import Index, describe_index, verify_index
from lowclip_runtime.index_manifest import MANIFEST_NAME
from lowclip_runtime.photo_record import PhotoRecord, record_id
from lowclip_runtime.points import Point
from lowclip_runtime.shard import Shard


@pytest.fixture
def gallery(photos: dict[str, Path]) -> Path:
    return next(iter(photos.values())).parent


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "photos.index"


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
        assert index.search_all(["göy", "qırmızı"], 4) == [index.search("göy", 4), index.search("qırmızı", 4)]


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


def test_a_server_is_no_folder(tmp_path: Path, tiny_clip: LowClip, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(IndexFileError, match="only folders can be indexes yet"):
        Index.open("milvus://host:19530/photos", tiny_clip)
    for look in (describe_index, verify_index):
        with pytest.raises(IndexFileError, match="milvus://host:19530/photos is a server's address"):
            look("milvus://host:19530/photos")
    assert not any(tmp_path.iterdir())


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
    with pytest.raises(IndexFileError, match=r"is open in (this|another) process"):
        Index.open(path, tiny_clip)
    with winner[0]:
        assert counts(winner[0].add_folder(gallery)) == {"added": 6}
    assert len(names(path, tiny_clip)) == 6
    assert [entry.name for entry in path.parent.iterdir() if entry.name.startswith(".")] == []


def test_an_open_index_is_locked(path: Path, tiny_clip: LowClip, gallery: Path) -> None:
    add(path, tiny_clip, gallery)
    with Index.open(path, tiny_clip):
        for attempt in (lambda: Index.open(path, tiny_clip), lambda: describe_index(path)):
            with pytest.raises(IndexFileError, match=r"is open in (this|another) process"):
                attempt()
    assert len(names(path, tiny_clip)) == 6


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"schema_version": 4}, "has schema version 4, this lowclip reads up to 3; upgrade"),
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
    record = PhotoRecord(
        str(photo.parent),
        photo.name,
        about.st_size,
        about.st_mtime_ns,
        blake3(photo.read_bytes()).hexdigest(),
    )
    payload = record.to_payload()
    embedding = np.zeros(16, np.float32)
    embedding[0] = 1
    if kind == "norm":
        embedding[0] = 0.9
    if kind == "payload":
        del payload["blake3"]
    where = "/elsewhere.png" if kind == "id" else str(photo)
    return Point(record_id(where), payload, embedding)


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("norm", r"göy\.png has 16 numbers and norm 0\.9"),
        ("payload", "no valid blake3"),
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


def test_of_two_that_make_an_index_at_once_the_first_one_stays(
    path: Path, tiny_clip: LowClip, gallery: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Shard.create

    def overtaken(*arguments: Any) -> None:
        monkeypatch.setattr(Shard, "create", real)
        add(path, tiny_clip, gallery)
        real(*arguments)

    monkeypatch.setattr(Shard, "create", overtaken)
    with Index.open(path, tiny_clip) as index:
        assert len(index) == 6
    assert sorted(one.name for one in path.parent.iterdir()) == ["photos", "photos.index"]


def test_a_new_index_is_in_its_folder_for_good_before_it_is_filled(
    path: Path, tiny_clip: LowClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a power cut could take the whole of it back, with all that was acknowledged."""
    flushed = []
    monkeypatch.setattr(index_manifest, "flush", lambda folder: flushed.append((folder, path.exists())))
    Index.open(path, tiny_clip).close()
    assert flushed == [(path.parent, True)]


def test_no_index_is_made_on_an_almost_full_disk(
    path: Path, tiny_clip: LowClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine would die of SIGBUS without a word."""
    usage = shutil.disk_usage(path.parent)._replace(free=10 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(IndexFileError, match=rf"the disk of {path} has only 10 MB left, 64 are needed"):
        Index.open(path, tiny_clip)
    assert not path.exists()
