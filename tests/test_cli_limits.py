"""What a command says where the machine gives it no more memory, or no more threads."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from click.testing import CliRunner
from tiny_index import add

from lowclip_runtime import near_duplicates
from lowclip_runtime.cli import main
from lowclip_runtime.clip import LowClip


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (RuntimeError("can't start new thread"), "this process may start no more threads"),
        (MemoryError("Unable to allocate 1 GiB"), "there is too little memory for it"),
        (RuntimeError("a mistake of ours"), None),
    ],
)
def test_what_the_machine_lacks_is_one_sentence(
    error: Exception, told: str | None, tiny_clip: LowClip, photos: dict[str, Path], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    gallery = photos["göy"].parent
    add(tmp_path / "i", tiny_clip, gallery)

    def refused(*_: object) -> None:
        raise error

    monkeypatch.setattr(ThreadPoolExecutor, "submit", refused)
    monkeypatch.setattr(near_duplicates, "near_groups", refused)
    for command in (
        ("embed", "images", gallery, "--out", tmp_path / "v.npy"),
        ("duplicates", "--index", tmp_path / "i"),
    ):
        arguments = [*map(str, command), "--bundle", str(tiny_clip.path)]
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 1
        if told is None:
            assert result.exception is error
        else:
            assert result.stderr == f"Error: {told}: end other programs, or allow more\n"
