"""The reader and writer of `pairs.tsv`, and the order in which evaluation sees its images."""

from pathlib import Path

import pytest

from lowclip_runtime.errors import DatasetError
from lowclip_runtime.pairs import Pair, read_pairs, write_pairs

PAIRS = [
    Pair("a.jpg", "Qırmızı “paltarlı” qız", "az", "test", "1"),
    Pair("a.jpg", 'a "red" dress', "en", "test", "2"),
    Pair("b/c d.jpg", "it", "az", "train", "3"),
]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_pairs(tmp_path / "pairs.tsv", PAIRS)
    return tmp_path / "pairs.tsv"


def test_what_is_written_is_read_back(file: Path) -> None:
    assert read_pairs(file) == PAIRS


def test_language_and_split_filter(file: Path) -> None:
    assert read_pairs(file, lang="az") == [PAIRS[0], PAIRS[2]]
    assert read_pairs(file, split="test") == PAIRS[:2]
    assert read_pairs(file, lang="az", split="train") == [PAIRS[2]]


def test_a_filter_that_leaves_nothing_says_what_there_is(file: Path) -> None:
    with pytest.raises(
        DatasetError, match=r"none of its 3 rows has lang 'tr'.*\['az', 'en'\].*\['test', 'train'\]"
    ):
        read_pairs(file, lang="tr")


def test_optional_columns_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "p.tsv"
    path.write_text("caption\tlang\timage\nit\taz\ta.jpg\n", "utf-8")
    assert read_pairs(path) == [Pair("a.jpg", "it", "az")]


def test_byte_order_mark_windows_lines_and_blank_lines(tmp_path: Path) -> None:
    path = tmp_path / "p.tsv"
    path.write_bytes("\ufeffimage\tcaption\r\na.jpg\tit\r\n\r\nb.jpg\tqız\r\n".encode())
    assert read_pairs(path) == [Pair("a.jpg", "it"), Pair("b.jpg", "qız")]


def test_quotation_marks_are_only_characters(tmp_path: Path) -> None:
    path = tmp_path / "p.tsv"
    path.write_text('image\tcaption\na.jpg\t"it\nb.jpg\tqız"\n', "utf-8")
    assert [pair.caption for pair in read_pairs(path)] == ['"it', 'qız"']


def test_tabs_and_line_breaks_in_a_caption_become_spaces(tmp_path: Path) -> None:
    write_pairs(tmp_path / "p.tsv", [Pair("a.jpg", "ağ\tit\nqız")])
    assert read_pairs(tmp_path / "p.tsv") == [Pair("a.jpg", "ağ it qız")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "line 1: the header must name image and caption"),
        (b"image\tlang\n", "line 1: the header must name image and caption"),
        (b"image\tcaption\tcolour\n", "line 1: .*colour"),
        (b"image\tcaption\tcaption\na.jpg\tit\tdog\n", "line 1: .* each once, not"),
        (b"image\tcaption\na.jpg\n", "line 2: 2 columns expected, 1 found"),
        (b"image\tcaption\na.jpg\tit\nb.jpg\tit\tx\n", "line 3: 2 columns expected, 3 found"),
        (b"image\tcaption\na.jpg\t \n", "line 2: image and caption must not be empty"),
        (
            "image\tcaption\na.jpg\t\u200b\n".encode(),
            "line 2: the caption has only invisible characters",
        ),
        (b"image\tcaption\n\tit\n", "line 2: image and caption must not be empty"),
        (b"image\tcaption\n", "none of its 0 rows"),
        (b"image\tcaption\na.jpg\t\xff\n", "tab-separated UTF-8"),
        (
            b"image\tcaption\na.jpg\tit\nb.jpg\t" + b"x" * 140_000 + b"\n",
            "line 3: expected a row of pairs.*field",
        ),
        (b"x" * 140_000, "line 1: expected a row of pairs.*field"),
        (b"image\tcaption\na.jpg\ti\0t\n", "line 2: it holds a NUL byte"),
    ],
)
def test_a_bad_file_is_refused_by_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "p.tsv"
    path.write_bytes(content)
    with pytest.raises(DatasetError, match=rf"p\.tsv.*{message}"):
        read_pairs(path)


def test_lines_that_cannot_be_rows_may_be_left_out_but_not_a_header(tmp_path: Path) -> None:
    path, problems = tmp_path / "p.tsv", list[str]()
    path.write_bytes(b"image\tcaption\na.jpg\ti\0t\nb.jpg\t" + b"x" * 140_000 + b"\nc.jpg\tit\n")
    assert read_pairs(path, on_bad_row=problems.append) == [Pair("c.jpg", "it")]
    assert [problem.partition(":")[0] for problem in problems] == [f"{path}, line 2", f"{path}, line 3"]
    path.write_bytes(b"image\tcaption\0\na.jpg\tit\n")
    with pytest.raises(DatasetError, match="line 1: it holds a NUL byte"):
        read_pairs(path, on_bad_row=problems.append)


def test_the_name_of_an_image_is_kept(tmp_path: Path) -> None:
    """As a Mac names screenshots, with a narrow space before PM."""
    images = ["two  spaces.jpg", "Screenshot 3.04\u202fPM.png", " a\xa0.jpg", "a/b .jpg"]
    write_pairs(tmp_path / "p.tsv", [Pair(image, "it") for image in images])
    assert [pair.image for pair in read_pairs(tmp_path / "p.tsv")] == images


@pytest.mark.parametrize("image", ["a\tb.jpg", "a\nb.jpg", "a\rb.jpg"])
def test_the_name_of_an_image_that_ends_a_cell_is_not_written(tmp_path: Path, image: str) -> None:
    with pytest.raises(DatasetError, match=r"its image .* holds a tab or a line break, which ends a cell"):
        write_pairs(tmp_path / "p.tsv", [Pair(image, "it")])
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("caption", ["i\0t", "x" * 131_073])
def test_what_could_not_be_read_again_is_not_written(tmp_path: Path, caption: str) -> None:
    path = tmp_path / "p.tsv"
    with pytest.raises(DatasetError, match=r"a pair of the image 'a\.jpg': its caption .*; correct it"):
        write_pairs(path, [Pair("a.jpg", caption)])
    write_pairs(path, [Pair("a.jpg", caption.replace("\0", "")[:131_072])])
    assert len(read_pairs(path)) == 1


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"gone\.tsv"):
        read_pairs(tmp_path / "gone.tsv")
