"""Filters, photos as queries, near duplicates, removal and compacting, as a user types them."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from test_cli_index import json_lines, lowclip, refused
from tiny_bundle import picture

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def gallery(photos: dict[str, Path]) -> Path:
    root = next(iter(photos.values())).parent
    (root / "2024").mkdir()
    for word in ("göy", "sarı"):
        photos[word].rename(root / "2024" / f"{word}.png")
    return root


@pytest.fixture
def options(tmp_path: Path, tiny_bundle: Path, gallery: Path) -> tuple[object, ...]:
    options = ("--bundle", tiny_bundle, "--index", tmp_path / "i")
    assert lowclip("index", gallery, *options).exit_code == 0
    return options


def stems(*arguments: object) -> list[str]:
    return [Path(line["path"]).stem for line in json_lines(lowclip("search", "--json", *arguments))]


def test_where_filters_and_facts_come_from_a_file(
    tmp_path: Path, gallery: Path, options: tuple[object, ...]
) -> None:
    assert set(stems("it", "--where", "album=2024", *options)) == {"göy", "sarı"}
    facts = tmp_path / "facts.tsv"
    facts.write_text("image\twho\nağ.png\tLeyla\n2024/göy.png\tƏli\nnone.png\tx\n", "utf-8")
    result = lowclip("index", gallery, "--facts", facts, *options)
    assert "2 of the 3 photos of" in result.stderr and "6 unchanged" in result.stdout
    both = ("--where", "who=Leyla", "--where", "who=Əli")
    assert set(stems("it", *both, *options)) == {"ağ", "göy"}
    assert stems("it", *both, "--where", "album=2024", *options) == ["göy"]
    assert stems("it", "--where", "who=nobody", *options) == []
    table = lowclip("search", "it", "--where", "who=nobody", *options)
    assert table.stdout == "no photo of the index has these facts\n"
    assert "FACT=VALUE" in refused(lowclip("search", "it", "--where", "album", *options))


def test_a_photo_as_query_alone_and_with_words(gallery: Path, options: tuple[object, ...]) -> None:
    red = gallery / "qırmızı.png"
    assert stems("--image", red, "-k", 1, *options) == ["qırmızı"]
    assert stems("göy", "--image", red, "--text-share", 1, "-k", 1, *options) == ["göy"]
    table = lowclip("search", "göy", "sarı", "--image", red, *options)
    assert table.stdout.count("qırmızı.png") == 2
    assert lowclip("search", *options).exit_code == 2
    for alone in (("göy",), ("--image", red)):
        assert lowclip("search", *alone, "--text-share", 0.3, *options).exit_code == 2
    assert "text_share" in refused(lowclip("search", "göy", "--image", red, "--text-share", 2, *options))
    assert "no such file" in refused(lowclip("search", "--image", gallery / "none.png", *options))


def test_near_duplicates_for_people_and_programs(gallery: Path, options: tuple[object, ...]) -> None:
    picture((255, 2, 0)).save(gallery / "red.png")
    lowclip("index", gallery, *options)
    group = [str(gallery / "qırmızı.png"), str(gallery / "red.png")]
    result = lowclip("duplicates", "--min-score", 0.999, "--json", *options)
    assert [json.loads(line) for line in result.stdout.splitlines()] == [group]
    table = lowclip("duplicates", "--min-score", 0.999, *options).stdout
    assert table == "\n".join([*group, "", "2 photos in groups: 1", ""])


def test_removing_and_compacting_need_no_gallery(gallery: Path, options: tuple[object, ...]) -> None:
    result = lowclip("index", "--remove", gallery / "ağ.png", "--remove", "none.png", "--compact", *options)
    assert result.exit_code == 0 and result.stdout == ""
    assert result.stderr.startswith("1 of 2 photos removed\n") and "MB given back" in result.stderr
    assert "ağ" not in stems("it", *options)
    assert lowclip("index", *options).exit_code == 2
    assert lowclip("index", "--facts", "x.tsv", "--compact", *options).exit_code == 2
    assert "no such index" in refused(lowclip("index", "--compact", *options[:2], "--index", "none"))


def test_a_gallery_that_was_moved_is_forgotten_by_its_old_name(
    gallery: Path, options: tuple[object, ...], tmp_path: Path
) -> None:
    other = gallery.with_name(f"{gallery.name}2")  # its name begins like the gallery's
    other.mkdir()
    picture((1, 2, 3)).save(other / "o.png")
    lowclip("index", other, *options)
    moved = gallery.rename(tmp_path / "moved")
    result = lowclip("index", moved, "--forget", gallery, *options)
    assert result.exit_code == 0 and result.stderr.endswith(f"6 photos of {gallery} removed\n")
    lines = lowclip("search", "it", "--json", *options).stdout.splitlines()
    paths = [Path(json.loads(line)["path"]) for line in lines]
    assert sorted(path.is_relative_to(moved.resolve()) for path in paths) == [False, *[True] * 6]
    assert other.resolve() / "o.png" in paths
    assert lowclip("index", "--forget", gallery, *options).stderr.startswith("0 photos of ")


def test_what_would_take_the_photos_just_indexed_is_not_forgotten(
    gallery: Path, options: tuple[object, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in (gallery / "2024", gallery, f"{gallery.parent}/"):
        assert "would take the photos of" in refused(
            lowclip("index", gallery / "2024", "--forget", folder, *options)
        )
    monkeypatch.chdir(gallery)
    assert "is empty" in refused(lowclip("index", "--forget", "", *options))
    assert len(stems("it", *options)) == 6


def test_a_name_neither_breaks_a_table_nor_steers_the_terminal(
    gallery: Path, options: tuple[object, ...]
) -> None:
    (gallery / "qara.png").rename(gallery / "a\nb.png")
    picture((255, 2, 0)).save(gallery / "\x1b[31m.png")
    picture((9, 9, 9)).save(gallery / "\u202egpj.png")
    (gallery / "c\nd.jpg").write_text("no image")
    result = lowclip("index", gallery, *options)
    assert "left out: c\\nd.jpg: not an image" in result.stderr
    table = lowclip("search", "qara", *options).stdout
    assert len(table.splitlines()) == 8 and "a\\nb.png" in table and "\\x1b[31m.png" in table
    assert "\\u202egpj.png" in table
    groups = lowclip("duplicates", "--min-score", 0.999, *options).stdout.splitlines()
    assert groups[0].endswith("\\x1b[31m.png") and groups[1].endswith("qırmızı.png")
    moved = gallery.rename(gallery.with_name("my\nphotos"))
    assert lowclip("index", moved, "--forget", gallery, *options).exit_code == 0
    assert re.search(r"^galleries\..*/my\\nphotos +8$", lowclip("info", options[-1]).stdout, re.MULTILINE)


@pytest.mark.parametrize("encoding", ["iso-8859-1", "utf-8"])
def test_letters_that_the_output_lacks_are_written_as_numbers(
    options: tuple[object, ...], encoding: str
) -> None:
    said = said_in(encoding, "search", "ağ", "göy", "-k", 1, *options)
    assert ("ağ" if encoding == "utf-8" else "a\\u011f") in said


@pytest.mark.parametrize("encoding", ["iso-8859-9", "ascii", "utf-8"])
def test_json_is_json_where_the_output_lacks_letters(
    gallery: Path, options: tuple[object, ...], encoding: str
) -> None:
    for name in ("ý.png", "🐈.png", "ə.png"):
        picture((255, 2, 0)).save(gallery / name)
    assert json.loads(said_in(encoding, "index", gallery, "--json", *options))["added"] == 3
    found = said_in(encoding, "search", "it", "--json", *options).splitlines()
    assert {"ý.png", "🐈.png", "ə.png"} < {Path(json.loads(line)["path"]).name for line in found}
    alike = said_in(encoding, "duplicates", "--min-score", 0.999, "--json", *options).splitlines()
    assert len(json.loads(alike[0])) == 4


def test_a_sheet_has_all_letters_where_the_system_has_ascii_alone(
    options: tuple[object, ...], tmp_path: Path
) -> None:
    """As of standard input, which is UTF-8 whatever the locale."""
    done = subprocess.run(
        [sys.executable, "-m", "lowclip_runtime", "search", "-", "--sheet", tmp_path / "s.png", *map(str, options)],
        capture_output=True,
        input="qırmızı".encode(),
        env={
            **os.environ, "LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0", "PYTHONPATH": str(ROOT)
        },
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert (tmp_path / "s.png").is_file()


def test_a_folder_that_is_deleted_is_told_by_who_is_in_it(
    options: tuple[object, ...], tmp_path: Path
) -> None:
    """A relative name means nothing there, and the system names no file."""
    there = f"import os; os.mkdir('gone'); os.chdir('gone'); os.rmdir({str(tmp_path / 'gone')!r})"
    run = f"{there}; from lowclip_runtime.cli import main; main()"
    arguments = ["index", "--remove", "a.jpg", *map(str, options)]
    done = subprocess.run(
        [sys.executable, "-c", run, *arguments],
        capture_output=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr == "Error: the folder that this was called in is gone; call it from another one\n"


def said_in(encoding: str, *arguments: object) -> str:
    """What a process whose output has that encoding prints."""
    done = subprocess.run(
        [sys.executable, "-m", "lowclip_runtime", *map(str, arguments)],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONPATH": str(ROOT)},
    )
    assert (done.returncode, done.stderr) == (0, b"")
    return done.stdout.decode("utf-8" if encoding == "ascii" else encoding)  # click takes ascii for a mistake


def test_upkeep_is_told_to_programs(gallery: Path, options: tuple[object, ...]) -> None:
    forgotten = ("--forget", gallery / "2024", "--forget", gallery / "none")
    told = lowclip("index", "--remove", gallery / "ağ.png", *forgotten, "--compact", "--json", *options)
    done = json.loads(told.stdout)
    assert done.pop("bytes_freed") >= 0 and done == {"removed": 1, "forgotten": 2}


def test_a_query_in_another_encoding_is_refused(options: tuple[object, ...]) -> None:
    assert "not valid UTF-8" in refused(
        lowclip("search", "-", *options, stdin="qırmızı".encode("iso-8859-9"))
    )
