"""Lines in a small file: all of them, and each by its key."""

from pathlib import Path

import pytest

from lowclip_runtime.packed_lines import PackedLines, pack


def first_word(line: str) -> str:
    return line.partition(" ")[0]


@pytest.mark.parametrize("count", [0, 1, 511, 512, 513, 2000])
def test_every_line_is_there_and_found_by_its_key(count: int, tmp_path: Path) -> None:
    lines = sorted({f"{'a' * (i % 60)}şəhər{i:05} {i}" for i in range(count)}, key=first_word)
    (tmp_path / "l").write_bytes(pack(lines, first_word))
    packed = PackedLines(tmp_path / "l", first_word)
    assert list(packed) == lines
    assert [packed.get(first_word(line)) for line in lines] == lines
    for missing in ("", " ", "0", "a" * 59, "şəhər", "\U0010ffff"):
        assert packed.get(missing) is None


def test_the_same_lines_make_the_same_small_file() -> None:
    lines = [f"word{i:06}" for i in range(3000)]
    assert pack(lines, str) == pack(list(lines), str)
    assert len(pack(lines, str)) < sum(map(len, lines)) / 4
