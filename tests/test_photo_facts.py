"""Facts of photos: what their files and folders say, what users add, and searches filtered by them."""

import io
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tiny_bundle import picture

from lowclip_runtime.clip import LowClip
from lowclip_runtime.engine_requests import _matches
from lowclip_runtime.errors import InputError
from lowclip_runtime.facts_file import read_facts
from lowclip_runtime.index import Hit, Index
from lowclip_runtime.photo_facts import content_facts, place_facts

DATED = Image.Exif()
DATED.get_ifd(0x8769)[0x9003] = "2024:07:15 10:20:30"
DATED[0x0132] = "2024:07:15 18:00:00"  # Pillow writes the tag above into JPEG and WebP only


def encoded(format: str, **options: Any) -> io.BytesIO:
    file = io.BytesIO()
    picture((10, 20, 30)).save(file, format, **options)
    file.seek(0)
    return file


def names(hits: list[Hit]) -> list[str]:
    return sorted(Path(hit.path).name for hit in hits)


@pytest.mark.parametrize(
    ("path", "album"),
    [
        ("x.jpg", None),
        ("2024/x.jpg", ["2024"]),
        ("2024/yay/x.jpg", ["2024", "2024/yay", "yay"]),
        ("a/b/a/x.jpg", ["a", "a/b", "a/b/a", "b"]),
    ],
)
def test_a_photo_is_in_every_folder_that_holds_it(path: str, album: list[str] | None) -> None:
    assert place_facts(path) == ({} if album is None else {"album": album})


@pytest.mark.parametrize("format", ["JPEG", "WEBP", "TIFF", "AVIF"])
def test_the_day_it_was_taken_is_read_from_exif(format: str) -> None:
    assert content_facts(encoded(format, exif=DATED)) == {"taken": ["2024", "2024-07", "2024-07-15"]}


def test_the_day_it_was_taken_comes_before_the_day_it_was_changed() -> None:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0x9003] = "2001:02:03 00:00:00"
    exif[0x0132] = "2024:07:15 00:00:00"
    assert content_facts(encoded("JPEG", exif=exif))["taken"][-1] == "2001-02-03"


@pytest.mark.parametrize("said", ["0000:00:00 00:00:00", "yesterday", "", "2024:00:00 00:00:00"])
def test_a_date_that_is_none_is_no_fact(said: str) -> None:
    exif = Image.Exif()
    exif[0x0132] = said
    assert content_facts(encoded("JPEG", exif=exif)) == {}


def test_a_colour_profile_is_noted() -> None:
    assert content_facts(encoded("JPEG", icc_profile=b"a profile")) == {"icc_profile": ["yes"]}


def test_a_broken_file_has_no_facts() -> None:
    for data in (
        b"",
        b"no image",
        encoded("JPEG", exif=DATED).getvalue()[:30],
        b"\xff\xd8\xff\xe1\x00\x08Exif\0\0II",
    ):
        assert content_facts(io.BytesIO(data)) == {}


@pytest.fixture
def gallery(tmp_path: Path) -> Path:
    root = tmp_path / "photos"
    for place in ("2023/a.jpg", "2024/b.jpg", "2024/yay/c.jpg", "d.jpg"):
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        picture((10 * len(place), 200, ord(place[-5]))).save(
            root / place, exif=DATED if "b" in place else b""
        )
    return root


def test_a_search_is_filtered_by_facts(tmp_path: Path, tiny_clip: LowClip, gallery: Path) -> None:
    with Index.open(tmp_path / "i", tiny_clip) as index:
        index.add_folder(gallery)
        assert names(index.search("göy", where={"album": ["2024"]})) == ["b.jpg", "c.jpg"]
        assert names(index.search("göy", where={"album": ["yay", "2023"]})) == ["a.jpg", "c.jpg"]
        assert names(index.search("göy", where={"album": ["2024"], "taken": ["2024-07"]})) == ["b.jpg"]
        assert names(index.search("göy", where={"taken": ["2024-08"]})) == []
        assert names(index.search_image(gallery / "d.jpg", where={"album": ["2023"]})) == ["a.jpg"]
        assert len(index.search("göy", k=1, where={"album": ["2024"]})) == 1


def test_facts_of_the_user_stay_with_a_photo_that_changes_and_moves(
    tmp_path: Path, tiny_clip: LowClip, gallery: Path
) -> None:
    with Index.open(tmp_path / "i", tiny_clip) as index:
        index.add_folder(gallery)
        facts = {"who": ["Leyla", "Əli"], "stars": 5, "kept": True}
        assert index.set_facts({str(gallery / "d.jpg"): facts, str(gallery / "none.jpg"): {"who": "x"}}) == 1
        for where in ({"who": ["Əli"]}, {"stars": ["5"]}, {"kept": ["true"]}):
            assert names(index.search("göy", where=where)) == ["d.jpg"]
        picture((1, 2, 3), (50, 20)).save(gallery / "d.jpg")
        assert index.add_folder(gallery).updated == 1
        assert names(index.search("göy", where={"who": ["Leyla"]})) == ["d.jpg"]
        (gallery / "d.jpg").rename(gallery / "2023" / "e.jpg")
        index.add_folder(gallery)
        assert names(index.search("göy", where={"who": ["Leyla"], "album": ["2023"]})) == ["e.jpg"]


@pytest.mark.parametrize(
    "facts",
    [
        *(
            {"sha256": "x"},
            {"blake3": "x"},
            {"album": "x"},
            {"": "x"},
            {'a"b': "x"},
            {"a\\b": "x"},
            {"a\udcff": "x"},
        ),
        *({"a": 1.5}, {"a": [1]}, {"a": None}, {"a": "x\udcff"}),
    ],
)
def test_what_cannot_be_a_fact_is_refused(
    tmp_path: Path, tiny_clip: LowClip, gallery: Path, facts: dict[str, object]
) -> None:
    with Index.open(tmp_path / "i", tiny_clip) as index, pytest.raises(InputError, match=r"d\.jpg"):
        index.set_facts({str(gallery / "d.jpg"): facts})


def test_only_facts_of_the_user_are_asked_for_as_numbers() -> None:
    counts = {key: len(_matches(key, ["2024"])) for key in ("album", "taken", "year")}
    assert counts == {"album": 1, "taken": 1, "year": 2}


def test_a_facts_file_names_its_bad_line(tmp_path: Path) -> None:
    path = tmp_path / "facts.tsv"
    path.write_text("image\twho\tstars\na.jpg\tLeyla\t5\nb/c.jpg\t\t3\n\n", "utf-8")
    expected = {"/g/a.jpg": {"who": "Leyla", "stars": "5"}, "/g/b/c.jpg": {"stars": "3"}}
    assert read_facts(path, "/g") == expected
    for text, said in (
        ("photo\twho\n", "line 1: the header"),
        ("image\twho\twho\n", "line 1: the header"),
        ("image\twho\na.jpg\n", "line 2: 1 cells"),
        ("image\tpath\na.jpg\tx\n", "line 2: 'path' cannot be"),
        ("image\twho\na.jpg\tx\nb.jpg\tx\na.jpg\ty\n", r"line 4: a\.jpg has a line already"),
    ):
        path.write_text(text, "utf-8")
        with pytest.raises(InputError, match=said):
            read_facts(path, "/g")
    with pytest.raises(InputError, match="expected a tab-separated"):
        read_facts(tmp_path / "none.tsv", "/g")


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ({"album": "2024"}, ["b.jpg", "c.jpg"]),
        ({"album": ("2023", "yay")}, ["a.jpg", "c.jpg"]),
        ({"album": []}, []),
        ({}, ["a.jpg", "b.jpg", "c.jpg", "d.jpg"]),
    ],
)
def test_filters_as_people_write_them(
    tmp_path: Path, tiny_clip: LowClip, gallery: Path, where: dict[str, Any], found: list[str]
) -> None:
    with Index.open(tmp_path / "i", tiny_clip) as index:
        index.add_folder(gallery)
        assert names(index.search("göy", where=where)) == found
        not_unicode = ({"album": "x\udcff"}, {"album\udcff": "x"}, {"album": ["a", "x\udcff"]})
        no_names = ({1: "x"}, {"": "x"}, {'a"b': "x"}, "album=x")
        no_values = (None, [None], {"a": 1}, b"2024", bytearray(b"2024"), [b"2024"])
        for wrong in (*({"album": value} for value in no_values), *not_unicode, *no_names):
            with pytest.raises(InputError, match="a filter must be"):
                index.search("göy", where=wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["taken by", "camera.model", "a[0]", "a[]", "who/when", "$x", "ə-1", "a:b"])
def test_a_fact_may_have_any_name(tmp_path: Path, tiny_clip: LowClip, gallery: Path, name: str) -> None:
    """The engine's own notation gives dots, brackets and spaces a meaning."""
    with Index.open(tmp_path / "i", tiny_clip) as index:
        index.add_folder(gallery)
        assert index.set_facts({str(gallery / "d.jpg"): {name: "x"}}) == 1
        assert names(index.search("göy", where={name: "x"})) == ["d.jpg"]
        assert names(index.search("göy", where={name: "y"})) == []


def test_facts_follow_the_content_over_an_indexed_name_and_beside_a_copy(
    tmp_path: Path, tiny_clip: LowClip, gallery: Path
) -> None:
    with Index.open(tmp_path / "i", tiny_clip) as index:
        (gallery / "copy.jpg").write_bytes((gallery / "2023/a.jpg").read_bytes())
        assert index.add_folder(gallery).duplicates == 1
        index.set_facts(
            {str(gallery / "2023/a.jpg"): {"who": "Leyla"}, str(gallery / "d.jpg"): {"who": "Əli"}}
        )
        (gallery / "2023/a.jpg").replace(gallery / "d.jpg")  # over d.jpg, while copy.jpg stays
        report = index.add_folder(gallery)
        assert (report.updated, report.removed, report.duplicates) == (1, 1, 1)
        assert names(index.search("göy", where={"who": "Leyla"})) == ["d.jpg"]
        assert names(index.search("göy", where={"who": "Əli"})) == []


def test_what_is_a_copy_and_what_was_only_moved(tmp_path: Path, tiny_clip: LowClip, gallery: Path) -> None:
    one, other = gallery / "2024/b.jpg", gallery / "d.jpg"
    with Index.open(tmp_path / "i", tiny_clip) as index:
        index.add_folder(gallery)
        one.rename(tmp_path / "aside.jpg")  # two photos change places: nothing is a copy
        other.rename(one)
        (tmp_path / "aside.jpg").rename(other)
        report = index.add_folder(gallery)
        assert (report.updated, report.duplicates) == (2, 0)
        for i in range(3):  # one is gone, three are there: two of them are copies
            (gallery / f"new{i}.jpg").write_bytes(one.read_bytes())
        one.unlink()
        report = index.add_folder(gallery)
        assert (report.added, report.removed, report.duplicates) == (3, 1, 2)


def test_thousands_of_one_picture_are_looked_up_by_a_few(
    tmp_path: Path, tiny_clip: LowClip, gallery: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lowclip_runtime.indexing._TWINS", 2)
    for i in range(9):
        (gallery / f"placeholder{i}.jpg").write_bytes((gallery / "d.jpg").read_bytes())
    with Index.open(tmp_path / "i", tiny_clip) as index:
        assert index.add_folder(gallery).duplicates == 9
        for i in range(9):
            os.utime(gallery / f"placeholder{i}.jpg", ns=(0, 12345 + i))
        report = index.add_folder(gallery)
        assert (report.updated, report.unchanged) == (0, 13)


def test_an_index_of_before_photos_had_albums_gets_them(
    tmp_path: Path, tiny_clip: LowClip, gallery: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Index.open(tmp_path / "i", tiny_clip) as index:
        with monkeypatch.context() as patched:
            patched.setattr("lowclip_runtime.indexing.place_facts", lambda _: {})
            index.add_folder(gallery)
        assert index.search("göy", where={"album": "2024"}) == []
        report = index.add_folder(gallery)
        assert (report.added, report.updated, report.unchanged, report.duplicates) == (0, 0, 4, 0)
        assert names(index.search("göy", where={"album": "2024"})) == ["b.jpg", "c.jpg"]
