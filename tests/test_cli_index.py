"""`lowclip index`, `search` and `demo` as a user types them."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from PIL import Image
from tiny_bundle import write_tiny_bundle

from lowclip_runtime.cli import main
from lowclip_runtime.clip import LowClip
from lowclip_runtime.demo import QUERIES
from lowclip_runtime.index import Index
from lowclip_runtime.preprocess import decode
from lowclip_runtime.shipped import shipped_bundle, shipped_photos
from lowclip_runtime.spec import PreprocessSpec

ROOT = Path(__file__).resolve().parents[1]


def lowclip(*arguments: object, stdin: str | bytes | None = None) -> Result:
    """Run the command; anything but a clean exit by click is a failure of the test."""
    result = CliRunner().invoke(main, [str(one) for one in arguments], input=stdin)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def refused(result: Result) -> str:
    """The one sentence of a refusal."""
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1
    return result.stderr


def json_lines(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture
def gallery(photos: dict[str, Path]) -> Path:
    return next(iter(photos.values())).parent


@pytest.fixture
def path(tmp_path: Path, tiny_bundle: Path, gallery: Path) -> Path:
    path = tmp_path / "photos.index"
    assert lowclip("index", gallery, "--bundle", tiny_bundle, "--index", path).exit_code == 0
    return path


def test_index_tells_people_and_programs(tmp_path: Path, tiny_bundle: Path, gallery: Path) -> None:
    (gallery / "broken.jpg").write_text("not an image")
    options = (gallery, "--bundle", tiny_bundle, "--index", tmp_path / "i")
    first = lowclip("index", *options)
    assert first.exit_code == 0
    assert first.stdout.startswith("6 added, 1 left out (")
    assert first.stderr == "left out: broken.jpg: not an image in a format that can be read\n"
    (gallery / "göy.png").unlink()
    second = lowclip("index", *options, "--json")
    report = json.loads(second.stdout)
    assert report.pop("photos_per_s") == 0 and report.pop("peak_rss_mb") > 0
    assert report == {
        "added": 0,
        "updated": 0,
        "removed": 1,
        "unchanged": 5,
        "duplicates": 0,
        "failed": [{"path": "broken.jpg", "reason": "not an image in a format that can be read"}],
    }


def test_search_for_people(path: Path, tiny_bundle: Path, gallery: Path) -> None:
    one = lowclip("search", "qırmızı", "--index", path, "--bundle", tiny_bundle, "-k", 2)
    assert one.exit_code == 0 and one.stderr == ""
    lines = one.stdout.splitlines()
    assert len(lines) == 2
    rank, score, photo = lines[0].split(maxsplit=2)
    assert (rank, photo) == ("1", str(gallery.resolve() / "qırmızı.png"))
    assert 0.5 < float(score) <= 1
    two = lowclip("search", "qırmızı", "göy", "--index", path, "--bundle", tiny_bundle, "-k", 1)
    blocks = [block.splitlines() for block in two.stdout.strip().split("\n\n")]
    assert [(block[0], Path(block[1]).name) for block in blocks] == [
        ("qırmızı", "qırmızı.png"),
        ("göy", "göy.png"),
    ]


def test_search_for_programs(path: Path, tiny_bundle: Path, gallery: Path) -> None:
    options = ("--index", path, "--bundle", tiny_bundle, "--json")
    lines = json_lines(lowclip("search", "sarı", *options))
    assert [line["rank"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert set(lines[0]) == {"rank", "score", "path"}
    assert lines[0]["path"] == str(gallery.resolve() / "sarı.png")
    both = json_lines(lowclip("search", "sarı", "-", *options, "-k", 1, stdin="\ngöy\r\n\n  qara  \n"))
    assert [(line["query"], Path(line["path"]).name) for line in both] == [
        ("sarı", "sarı.png"),
        ("göy", "göy.png"),
        ("qara", "qara.png"),
    ]


def test_queries_on_standard_input_are_lines(path: Path, tiny_bundle: Path) -> None:
    told = "\ufeffqırmızı\r\n\n\u200b\n  göy\u2028it \x85\n"
    result = lowclip("search", "-", "--json", "-k", 1, "--index", path, "--bundle", tiny_bundle, stdin=told)
    queries = [json.loads(line)["query"] for line in result.stdout.split("\n") if line]
    assert queries == ["qırmızı", "göy\u2028it"]


def test_standard_input_that_is_closed_holds_no_query(path: Path, tiny_bundle: Path) -> None:
    done = with_closed("<&-", "search", "-", "--index", path, "--bundle", tiny_bundle)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Error: standard input holds no query; write one query a line\n"


@pytest.mark.parametrize("kind", ["images", "texts"])
def test_standard_input_that_is_closed_holds_nothing_to_embed(
    tmp_path: Path, tiny_bundle: Path, kind: str
) -> None:
    done = with_closed("<&-", "embed", kind, "-", "--out", tmp_path / "v.npy", "--bundle", tiny_bundle)
    assert done.returncode == 1
    assert done.stderr.startswith("Error: there is nothing to embed") and done.stderr.count("\n") == 1


def test_an_index_is_made_where_standard_error_is_closed(
    tmp_path: Path, tiny_bundle: Path, gallery: Path
) -> None:
    (gallery / "broken.jpg").write_text("not an image")
    done = with_closed("2>&-", "index", gallery, "--json", "--index", tmp_path / "i", "--bundle", tiny_bundle)
    assert done.returncode == 0
    assert json.loads(done.stdout)["added"] == 6


def with_closed(stream: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    """The command, started by a shell that closes one of its streams."""
    command = [sys.executable, "-m", "lowclip_runtime", *map(str, arguments)]
    closed = ["sh", "-c", f'"$@" {stream}', "sh", *command]
    return subprocess.run(closed, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)})


def test_a_contact_sheet(path: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    sheet = tmp_path / "sheet.png"
    options = ("--index", path, "--bundle", tiny_bundle, "--sheet", sheet)
    assert len(json_lines(lowclip("search", "göy", "--json", *options))) == 6
    with Image.open(sheet) as image:
        assert image.format == "PNG" and image.width > 900
    for wrong in (tmp_path / "s.bmp", tmp_path / "sheet.png/s.png"):
        refused(lowclip("search", "göy", "--index", path, "--bundle", tiny_bundle, "--sheet", wrong))


def test_a_contact_sheet_is_not_written_over_a_photo(
    path: Path, tiny_bundle: Path, photos: dict[str, Path], tmp_path: Path
) -> None:
    photo, other = photos["göy"], tmp_path / "other.png"
    other.write_bytes(photo.read_bytes())
    before = photo.read_bytes()
    options = ("--index", path, "--bundle", tiny_bundle, "--sheet")
    for found in (("göy",), ("--image", other)):  # the photo is among those found
        assert f"over the photo {photo}" in refused(lowclip("search", *found, *options, photo))
    assert f"over the photo {other}" in refused(lowclip("search", "--image", other, *options, other))
    assert photo.read_bytes() == other.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([""], "empty"),
        (["göy", "   "], "empty"),
        (["-"], "standard input holds no query"),
        (["göy", "--provider", "gpu"], "gpu"),
    ],
)
def test_bad_questions_are_refused(
    path: Path, tiny_bundle: Path, arguments: list[str], sentence: str
) -> None:
    assert sentence in refused(
        lowclip("search", *arguments, "--index", path, "--bundle", tiny_bundle, stdin="\n")
    )


def test_wrong_usage_is_exit_status_2(path: Path, tiny_bundle: Path) -> None:
    assert lowclip("search", "--index", path).exit_code == 2
    assert lowclip("search", "göy", "--bundle", tiny_bundle).exit_code == 2
    for count in ("many", "0", "-3"):
        assert lowclip("search", "göy", "-k", count, "--index", path).exit_code == 2
    assert lowclip("index", "--index", path).exit_code == 2


def test_what_cannot_be_indexed_is_refused(tmp_path: Path, tiny_bundle: Path, gallery: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    options = ("--bundle", tiny_bundle, "--index", tmp_path / "i")
    assert "no such folder" in refused(lowclip("index", tmp_path / "none", *options))
    assert not (tmp_path / "i").exists()
    assert "holds no photos" in refused(lowclip("index", empty, *options))
    assert not (tmp_path / "i").exists()
    missing_bundle = ("--bundle", tmp_path / "nothing", "--index", tmp_path / "i2")
    assert "is not a bundle" in refused(lowclip("index", gallery, *missing_bundle))
    assert not (tmp_path / "i2").exists()


def test_a_gallery_of_broken_photos_is_a_failure(tmp_path: Path, tiny_bundle: Path) -> None:
    gallery = tmp_path / "broken"
    gallery.mkdir()
    (gallery / "a.jpg").touch()
    (gallery / "b.png").write_text("no")
    result = lowclip("index", gallery, "--bundle", tiny_bundle, "--index", tmp_path / "i", "--json")
    assert result.exit_code == 1
    assert [one["path"] for one in json.loads(result.stdout)["failed"]] == ["a.jpg", "b.png"]
    assert result.stderr.splitlines()[-1].startswith("Error: none of the 2 photos could be read")


def test_a_wrong_missing_or_locked_index_is_refused(path: Path, tiny_bundle: Path, tmp_path: Path) -> None:
    other = write_tiny_bundle(tmp_path / "other", name="other", variant=1)
    assert "made with the bundle 'tiny'" in refused(
        lowclip("search", "göy", "--index", path, "--bundle", other)
    )
    missing = tmp_path / "none"
    assert "no such index" in refused(lowclip("search", "göy", "--index", missing, "--bundle", tiny_bundle))
    assert not missing.exists()
    with Index.open(path, LowClip.open(tiny_bundle)):
        locked = refused(lowclip("search", "göy", "--index", path, "--bundle", tiny_bundle))
    assert "open in this process already" in locked or not Path("/proc").exists()


def test_info_and_verify_know_an_index(path: Path) -> None:
    info = json.loads(lowclip("info", path, "--json").stdout)
    assert info["kind"] == "index" and info["photos"] == 6
    assert json.loads(lowclip("verify", path, "--json").stdout)["photos"] == 6


def test_the_sample_photos_are_whole_small_and_attributed() -> None:
    photos = sorted(shipped_photos().glob("*.jpg"))
    assert 40 <= len(photos) <= 60
    assert sum(photo.stat().st_size for photo in photos) < 1 << 20
    assert {decode(photo, PreprocessSpec()).size for photo in photos} == {(224, 224)}
    assert "CC BY 4.0" in (shipped_photos() / "ATTRIBUTION.md").read_text("utf-8")


def test_the_demo_with_another_bundle_in_the_place_of_the_shipped_one(
    tmp_path: Path, tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lowclip_runtime.demo.shipped_bundle", lambda: tiny_bundle)
    for first_words in ("51 added", "51 unchanged"):
        result = lowclip("demo", "--out", tmp_path / "demo")
        assert result.exit_code == 0, result.output
        assert result.stdout.startswith(first_words)
        for query, english in QUERIES:
            assert f"{query}  ({english})" in result.stdout
    with Image.open(tmp_path / "demo" / "sheet.png") as image:
        assert image.height > 5 * 200


@pytest.mark.skipif(not shipped_bundle().is_dir(), reason="this checkout has no shipped bundle yet")
def test_the_demo_finds_the_right_photos(tmp_path: Path) -> None:
    from lowclip_runtime.demo import run_demo

    result = run_demo(tmp_path / "demo")
    found = {
        answer.english.split()[-1]: [Path(hit.path).name for hit in answer.hits] for answer in result.answers
    }
    expected = {
        "motorcycle": "motorbike",
        "dog": "dalmatian",
        "boat": "sailing_boat",
        "sky": "airplane",
        "football": "football",
    }
    assert all(found[word][0].startswith(photo) for word, photo in expected.items()), found
    assert all(name.startswith("airplane") for name in found["sky"][:2]), found["sky"]  # there are two
    assert result.sheet.is_file()
