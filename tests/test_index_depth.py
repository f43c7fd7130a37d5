"""What an index can do beside answering texts: photos like one, near duplicates, removal, and giving room back."""

import errno
import unicodedata
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_bundle import picture

from lowclip_runtime import shard, shared_engine
from lowclip_runtime.clip import LowClip
from lowclip_runtime.errors import IndexFileError, InputError
from lowclip_runtime.index import Index, verify_index
from lowclip_runtime.points import Point
from lowclip_runtime.shard import Vectors


@pytest.fixture
def gallery(photos: dict[str, Path]) -> Path:
    return next(iter(photos.values())).parent


def test_like_a_photo_and_like_a_text(tmp_path: Path, tiny_clip: LowClip, photos: dict[str, Path]) -> None:
    with Index.open(tmp_path / "i", tiny_clip) as index:
        index.add_folder(photos["göy"].parent)
        first = [Path(index.search_like(photos["qırmızı"], "göy", 1, text_share=share)[0].path).stem
                 for share in (0, 0.3, 0.7, 1)]  # fmt: skip
        assert (first[0], first[-1]) == ("qırmızı", "göy")
        both = index.search_like(photos["qırmızı"], "göy", 6, text_share=0.5)
        middle = tiny_clip.embed_images([photos["qırmızı"]])[0] + tiny_clip.embed_texts(["göy"])[0]
        expected = index.search_embedding(middle / np.linalg.norm(middle), 6)
        assert [(hit.path, pytest.approx(hit.score, abs=1e-6)) for hit in both] == [
            (hit.path, hit.score) for hit in expected
        ]
        wrong: tuple[Any, ...] = (-0.1, 1.1, float("nan"), "0.5")
        for share in wrong:
            with pytest.raises(InputError, match="text_share must be from 0 to 1"):
                index.search_like(photos["göy"], "göy", text_share=share)


def test_a_removed_photo_is_gone_until_its_gallery_is_added_again(
    tmp_path: Path, tiny_clip: LowClip, photos: dict[str, Path]
) -> None:
    gallery = photos["göy"].parent
    with Index.open(tmp_path / "i", tiny_clip) as index:
        index.add_folder(gallery)
        link = tmp_path / "link"
        link.symlink_to(gallery)
        assert index.remove([photos["göy"], link / "ağ.png", tmp_path / "none.png"]) == 2
        assert index.remove([]) == index.remove([tmp_path / "no\udcff.png"]) == 0
        for one in (photos["ağ"], str(photos["ağ"])):
            with pytest.raises(InputError, match=r"write \[photo\]"):
                index.remove(one)  # type: ignore[arg-type]
        assert index.set_facts({str(tmp_path / "no\udcff.png"): {"who": "x"}}) == 0
        assert {Path(hit.path).stem for hit in index.search("göy")} == {"qırmızı", "yaşıl", "sarı", "qara"}
        assert index.add_folder(gallery).added == 2


def test_a_link_to_a_photo_is_another_photo(tmp_path: Path, tiny_clip: LowClip) -> None:
    gallery = tmp_path / "photos"
    gallery.mkdir()
    picture((9, 9, 200)).save(gallery / "a.png")
    (gallery / "b.png").symlink_to("a.png")
    with Index.open(tmp_path / "i", tiny_clip) as index:
        index.add_folder(gallery)
        assert index.set_facts({str(gallery / "b.png"): {"who": "Leyla"}}) == 1
        assert [Path(hit.path).name for hit in index.search("it", where={"who": "Leyla"})] == ["b.png"]
        assert index.remove([gallery / "b.png"]) == 1
        assert [Path(hit.path).name for hit in index.search("it")] == ["a.png"]


def test_a_second_opener_cannot_come_between_while_the_index_is_compacted(
    tmp_path: Path, tiny_clip: LowClip, gallery: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine lets go of its files for the swap; the index does not."""
    real, refused = shared_engine.load_engine, []

    def opened_by_another(*arguments: Any) -> Any:
        with pytest.raises(IndexFileError, match=r"open in (this|another) process") as caught:
            Index.open(tmp_path / "i", tiny_clip)
        refused.append(caught)
        return real(*arguments)

    with Index.open(tmp_path / "i", tiny_clip) as index:
        index.add_folder(gallery)
        monkeypatch.setattr(shared_engine, "load_engine", opened_by_another)
        index.compact()
        monkeypatch.setattr(shared_engine, "load_engine", real)
        assert refused and len(index) == 6


def test_an_error_while_compacting_leaves_the_index_open_and_whole(
    tmp_path: Path, tiny_clip: LowClip, gallery: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Any:
        raise OSError(errno.ENOSPC, "No space left on device")

    with Index.open(tmp_path / "i", tiny_clip) as index:
        index.add_folder(gallery)
        with monkeypatch.context() as patched:
            patched.setattr(shard, "flush_tree", fail)
            with pytest.raises(IndexFileError, match=r"the disk of .* is full"):
                index.compact()
        assert len(index.search("göy", 10)) == 6
        assert index.add_folder(gallery).unchanged == 6
    with pytest.raises(IndexFileError, match="is closed; open it again"):
        index.search("göy")


def test_near_duplicates_hold_no_payloads_of_the_photos_before(
    tmp_path: Path, tiny_clip: LowClip, gallery: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A million payloads are gigabytes; paths and embeddings are what is compared."""
    real, payloads, most = shard.Shard.scroll, [], 0

    class Payload(dict[str, Any]):
        """Can be referred to weakly."""

    def watched(self: shard.Shard, **given: bool) -> Iterator[Point]:
        nonlocal most
        for point in real(self, **given):
            payload = Payload(point.payload)
            payloads.append(weakref.ref(payload))
            yield Point(point.id, payload, point.embedding)
            most = max(most, sum(one() is not None for one in payloads))

    with Index.open(tmp_path / "i", tiny_clip) as index:
        index.add_folder(gallery)
        monkeypatch.setattr(shard.Shard, "scroll", watched)
        index.near_duplicates()
    assert len(payloads) == 6 and most <= 2


def test_near_duplicates_are_grouped(tmp_path: Path, tiny_clip: LowClip) -> None:
    gallery = tmp_path / "photos"
    gallery.mkdir()
    for name, colour in {
        "red": (250, 0, 0), "red2": (255, 3, 0), "blue": (0, 0, 250), "blue2": (2, 0, 255), "green": (0, 255, 0)
    }.items():  # fmt: skip
        picture(colour).save(gallery / f"{name}.png")
    with Index.open(tmp_path / "i", tiny_clip) as index:
        index.add_folder(gallery)
        groups = [[Path(path).stem for path in group] for group in index.near_duplicates(0.999)]
        assert groups == [["blue", "blue2"], ["red", "red2"]]
        assert index.near_duplicates(1) == []
        (gallery / "copy.png").write_bytes((gallery / "green.png").read_bytes())
        index.add_folder(gallery)
        assert [len(group) for group in index.near_duplicates(1)] == [2]
        for score in (0, -1, 1.5):
            with pytest.raises(InputError, match="the least score"):
                index.near_duplicates(score)


@pytest.mark.parametrize("vectors", ["float32", "int8", "binary"])
def test_compacting_gives_room_back_and_loses_nothing(
    tmp_path: Path, tiny_clip: LowClip, gallery: Path, vectors: Vectors
) -> None:
    path = tmp_path / "i"
    for i in range(400):
        pixels = np.random.default_rng(i).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(gallery / f"{i}.png")
    with Index.open(path, tiny_clip, vectors=vectors) as index:
        index.add_folder(gallery)
        index.set_facts({str(gallery / "göy.png"): {"who": "Leyla"}})
        for i in range(400):
            (gallery / f"{i}.png").unlink()
        index.add_folder(gallery)
        before = index.search("göy", 6)
        assert index.compact() > 0
        assert index.search("göy", 6) == before
        assert [Path(hit.path).stem for hit in index.search("it", where={"who": ["Leyla"]})] == ["göy"]
        assert index.add_folder(gallery).unchanged == 6
        picture((9, 9, 9)).save(gallery / "new.png")
        assert index.add_folder(gallery).added == 1
    assert [one.name for one in tmp_path.iterdir() if one.name.startswith(".")] == []
    assert verify_index(path, tiny_clip)["photos"] == 7


@pytest.mark.parametrize("name", ["", ".", "..", "a/.."])
def test_an_index_has_a_folder_with_a_name(
    tmp_path: Path, tiny_clip: LowClip, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    with pytest.raises(IndexFileError, match="names no folder of its own; name one, such as"):
        Index.open(name, tiny_clip)


def test_what_a_link_leads_to_becomes_the_index(
    tmp_path: Path, tiny_clip: LowClip, photos: dict[str, Path]
) -> None:
    (tmp_path / "disk").mkdir()
    link = tmp_path / "i"
    link.symlink_to("disk/made")
    for count in (6, 0):
        with Index.open(link, tiny_clip) as index:
            assert index.add_folder(photos["göy"].parent).added == count
    assert link.is_symlink() and (tmp_path / "disk" / "made" / "index.json").is_file()
    assert [path.name for path in (tmp_path / "disk").iterdir()] == ["made"]


def test_a_place_where_a_disk_is_mounted_is_refused(
    tmp_path: Path, tiny_clip: LowClip, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def busy(self: Path, target: Path) -> Path:
        if target == tmp_path / "i":
            raise OSError(errno.EBUSY, "Device or resource busy", str(self))
        return rename(self, target)

    (tmp_path / "i").mkdir()
    monkeypatch.setattr(Path, "rename", busy)
    with pytest.raises(IndexFileError, match=r"a disk is mounted at \S+/i; name a folder below it"):
        Index.open(tmp_path / "i", tiny_clip)


def test_letters_and_marks_are_the_letters(tmp_path: Path, tiny_clip: LowClip) -> None:
    apart, together = (unicodedata.normalize(form, "Göl şəkli") for form in ("NFD", "NFC"))
    gallery = tmp_path / "photos"
    (gallery / apart).mkdir(parents=True)
    picture((9, 9, 200)).save(gallery / apart / "a.png")
    with Index.open(tmp_path / "i", tiny_clip) as index:
        index.add_folder(gallery)
        assert index.set_facts({gallery / together / "a.png": {apart: apart}}) == 1  # type: ignore[dict-item]
        for form in (apart, together):
            assert len(index.search("it", where={"album": form, form: [form]})) == 1
        assert index.remove([gallery / together / "a.png"]) == 1


def test_a_photo_is_known_by_a_link_to_its_gallery_and_a_link_in_it(
    tmp_path: Path, tiny_clip: LowClip
) -> None:
    for folder in ("photos", "elsewhere/album"):
        (tmp_path / folder).mkdir(parents=True)
    picture((9, 9, 200)).save(tmp_path / "elsewhere/album/a.png")
    (tmp_path / "photos/2024").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "alias").symlink_to(tmp_path / "photos")
    photo = str(tmp_path / "alias/2024/album/a.png")
    with Index.open(tmp_path / "i", tiny_clip) as index:
        assert index.add_folder(tmp_path / "alias").added == 1
        assert index.set_facts({photo: {"who": "Leyla"}}) == 1
        assert index.forget(tmp_path / "alias/2024/album") == 1


def test_a_link_that_leads_back_to_itself_is_no_photo(tmp_path: Path, tiny_clip: LowClip) -> None:
    (tmp_path / "loop").symlink_to("loop")
    with Index.open(tmp_path / "i", tiny_clip) as index:
        assert index.remove([tmp_path / "loop" / "x.jpg"]) == 0


def test_a_name_with_a_nul_is_no_photo(tmp_path: Path, tiny_clip: LowClip) -> None:
    with Index.open(tmp_path / "i", tiny_clip) as index:
        for photo in ("a\0.jpg", "a\0/b.jpg"):
            assert index.set_facts({photo: {"who": "Leyla"}}) == 0
            assert index.remove([photo]) == index.forget(photo) == 0


def test_what_is_no_number_of_photos_and_no_embedding_is_refused(tmp_path: Path, tiny_clip: LowClip) -> None:
    with Index.open(tmp_path / "i", tiny_clip) as index:
        for k in (2.5, "3"):
            with pytest.raises(InputError, match="k must be a whole number, not"):
                index.search("it", k)  # type: ignore[arg-type]
        for embedding in ([1.0], np.full(tiny_clip.dims, np.nan), "it", [[1.0], [1.0, 2.0]], object()):
            with pytest.raises(InputError, match="is needed, of finite numbers"):
                index.search_embedding(embedding)  # type: ignore[arg-type]
        assert index.search_embedding([0.1] * tiny_clip.dims) == []  # type: ignore[arg-type]
        with pytest.raises(InputError, match="must be a path, not None"):
            index.forget(None)  # type: ignore[arg-type]
        with pytest.raises(InputError, match="of up to 18 digits"):
            index.set_facts({"x.jpg": {"size": 10**18}})
        with pytest.raises(InputError, match=r"x\.jpg: facts must be a mapping"):
            index.set_facts({"x.jpg": "Leyla"})  # type: ignore[dict-item]
        for score in (0, 1.5, "0.9", None):
            with pytest.raises(InputError, match="above 0 and at most 1"):
                index.near_duplicates(score)  # type: ignore[arg-type]
