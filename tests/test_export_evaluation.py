"""What `lowclip-export --eval` calls its figures."""

from pathlib import Path

import pytest

from lowclip_export.evaluation import retrieval_name


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("pairs.tsv", "flickr8k"),
        ("./pairs.tsv", "flickr8k"),
        ("../flickr8k/pairs.tsv", "flickr8k"),
        ("../pairs.tsv", "data"),
        ("../link/pairs.tsv", "link"),  # as the user calls it
        ("/pairs.tsv", "pairs"),
    ],
)
def test_pairs_are_named_after_their_folder_by_any_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, name: str
) -> None:
    (tmp_path / "data/flickr8k").mkdir(parents=True)
    (tmp_path / "data/link").symlink_to("flickr8k")
    monkeypatch.chdir(tmp_path / "data/flickr8k")
    assert retrieval_name(Path(path), None) == name
    assert retrieval_name(Path(path), "test") == f"{name} test"
