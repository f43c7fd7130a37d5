"""Runs that share a cache."""

from pathlib import Path

from lowclip_train.run_folder import share_cache


def test_what_one_run_keeps_the_next_finds(tmp_path: Path) -> None:
    for run in ("first", "deeper/second"):
        share_cache(tmp_path / "cache", tmp_path / run)
        share_cache(tmp_path / "cache", tmp_path / run)  # as after a kill
    (tmp_path / "first/cache/a.npy").write_text("1")
    assert (tmp_path / "deeper/second/cache/a.npy").read_text() == "1"


def test_a_run_that_has_a_cache_keeps_it_when_the_folders_move(tmp_path: Path) -> None:
    (tmp_path / "work/old/cache").mkdir(parents=True)
    (tmp_path / "work/old/cache/a.npy").write_text("1")
    share_cache(tmp_path / "work/cache", tmp_path / "work/old")
    share_cache(tmp_path / "work/cache", tmp_path / "work/new")
    (tmp_path / "work/cache/b.npy").write_text("2")
    (tmp_path / "work").rename(tmp_path / "moved")
    assert (tmp_path / "moved/old/cache/a.npy").read_text() == "1"
    assert (tmp_path / "moved/new/cache/b.npy").read_text() == "2"
